"""On real images with real weights."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from anomaly_sweep.config import BackboneConf, parse_node
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.datasets import FileIndex, read_category, read_image
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.backbone import network as network_room
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.images import _decode_fast, load_square
from anomaly_sweep.features.pooled import features_of
from anomaly_sweep.features.shard import Shard
from tests.support.features import CPU, PLAIN

REAL = os.environ.get("ANOMALY_SWEEP_REAL")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not REAL, reason="ANOMALY_SWEEP_REAL does not name the folder of data/ and weights/"),
]
ROOT = Path(REAL or ".")
FILES = {
    "resnet18": "resnet18_imagenet_conv1_to_layer3.safetensors",
    "mobilenetv2_035": "mobilenetv2_035_imagenet_keras.safetensors",
}


def real(name: str) -> BackboneConf:
    path = config_folder() / "backbone" / f"{name}.yaml"
    backbone: BackboneConf = parse_node("backbone", OmegaConf.load(path))
    return replace(backbone, weights=str(ROOT / "weights" / FILES[name]))


def batch_of(backbone: BackboneConf) -> torch.Tensor:
    category = read_category(ROOT / "data" / "mvtec_ad_320", "bottle", dataset="mvtec_ad")
    images = [load_square(record.path, 224) for record in (category.train[0], category.test[0])]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    return (batch - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)


def test_partial_resnet18_reaches_level_4(tmp_path: Path) -> None:
    category = read_category(ROOT / "data" / "mvtec_ad_320", "bottle", dataset="mvtec_ad")
    category = replace(category, train=category.train[:3], test=category.test[:2])
    backbone = real("resnet18")
    shard = Shard.of(category, backbone, 224, PLAIN, FileIndex(tmp_path / "files.sqlite"))
    made = features_of(shard, list(backbone.levels), FeatureCache(tmp_path / "cache"), device="cpu")
    assert list(made.train) == ["level1", "level2", "level3", "level4"]
    assert list(made.unusable) == ["level5"]
    assert "layer4" in made.unusable["level5"]
    train, test = made.matrices(["level1", "level2", "level3", "level4"], ["min", "max", "avg"])
    assert train.shape == (3, 3 * (64 + 64 + 128 + 256))
    assert test.shape == (2, 3 * (64 + 64 + 128 + 256))
    with pytest.raises(AnomalySweepError, match="level5 of resnet18 needs parameters the file lacks"):
        made.matrices(["level5"], ["avg"])


def test_mobilenet_is_whole() -> None:
    backbone = real("mobilenetv2_035")
    network = Network(backbone, CPU)
    assert network.unusable(list(backbone.levels), backbone.input_size) == {}
    channels: dict[str, int] = {}
    network.read(
        batch_of(backbone), list(backbone.levels), lambda level, m: channels.__setitem__(level, m.shape[1])
    )
    assert list(channels.values()) == [8, 8, 16, 24, 32, 56, 112]


@pytest.mark.parametrize("name", list(FILES))
def test_folded_equals_unfolded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the unfolded network in float64: two float32 networks differ by both their roundings."""
    backbone = real(name)
    levels = [level for level in backbone.levels if (name, level) != ("resnet18", "level5")]
    folded, exact = {}, {}
    Network(backbone, CPU).read(
        batch_of(backbone), levels, lambda level, m: folded.update({level: m.clone()})
    )
    monkeypatch.setattr(network_room, "fold_batch_norm", lambda *_args, **_options: 0)
    reference = Network(backbone, CPU)
    reference.model.double()
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in reference.model.modules())
    reference.read(batch_of(backbone).double(), levels, lambda level, m: exact.update({level: m.clone()}))
    for level in levels:
        assert float((folded[level] - exact[level]).abs().max()) <= 1e-5 * float(exact[level].abs().max())


def test_fast_decoder_is_pixel_equal_on_real_images() -> None:
    pytest.importorskip("kornia_rs")
    fast = 0
    for name in ("bottle", "transistor"):
        category = read_category(ROOT / "data" / "mvtec_ad_320", name, dataset="mvtec_ad")
        for record in category.test[:20]:
            image = _decode_fast(record.path)
            if image is not None:
                fast += 1
                np.testing.assert_array_equal(np.asarray(image), np.asarray(read_image(record.path)))
    if not fast:
        pytest.skip("none of these images is an 8-bit RGB PNG")
