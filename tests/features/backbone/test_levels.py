"""Levels of many networks: each alone as with all others, and as computed without hooks; or why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.levels import look, read_levels
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.extract import ImageRunner, extract, normalised
from anomaly_sweep.features.maps import read_maps
from anomaly_sweep.features.pooled import features_of
from anomaly_sweep.features.pooling import pool
from anomaly_sweep.features.shard import Shard
from tests.support.features import CPU, PLAIN, give_statistics, make_category, resnet18

SIDE = 64


def random_network(model: str, levels: dict[str, str], **changes: Any) -> BackboneConf:
    return BackboneConf(**{"name": model, "model": model, "levels": levels, "input_size": SIDE,
                           "weights": "random", **changes})  # fmt: skip


def images_of(count: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count)]


def input_of(images: list[np.ndarray], backbone: BackboneConf) -> Tensor:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)


def resnet_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    stem = m.bn1(m.conv1(x))
    first = m.maxpool(m.act1(stem.clone()))
    block = m.layer1[0]
    second = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(first)))))
    return {
        "conv1": m.conv1(x),
        "bn1": stem,
        "act1": m.act1(stem.clone()),
        "layer1.0.bn1": block.bn1(block.conv1(first)),
        "layer1.0.bn2": second,
        "layer1.0": torch.relu(second + first),
    }


def bottleneck_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    first = m.maxpool(torch.relu(m.bn1(m.conv1(x))))
    b = m.layer1[0]
    inner = torch.relu(b.bn2(b.conv2(torch.relu(b.bn1(b.conv1(first))))))
    third = b.bn3(b.conv3(inner))
    shortcut = b.downsample(first)
    return {
        "bn1": m.bn1(m.conv1(x)),
        "layer1.0.bn3": third,
        "layer1.0.downsample": shortcut,
        "layer1.0": torch.relu(third + shortcut),
    }


def vgg_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    zero = m.features[0](x)
    two = m.features[2](torch.relu(zero))
    return {"features.0": zero, "features.1": torch.relu(zero), "features.2": two}


def vgg_bn_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    zero = m.features[0](x)
    one = m.features[1](zero)
    return {"features.0": zero, "features.1": one, "features.2": torch.relu(one)}


def mobilenet_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    stem = nn.functional.relu6(norm(m.bn1, m.conv_stem(x)))
    b = m.blocks[0][0]
    inner = nn.functional.relu6(norm(b.bn1, b.conv_dw(stem)))
    return {
        "conv_stem": m.conv_stem(x),
        "bn1": stem,
        "blocks.0.0.bn1": inner,
        "blocks.0.0.conv_pw": b.conv_pw(inner),
        "blocks.0.0.bn2": norm(b.bn2, b.conv_pw(inner)),
    }


def efficientnet_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    silu = nn.functional.silu
    stem = silu(norm(m.bn1, m.conv_stem(x)))
    b = m.blocks[0][0]
    inner = silu(norm(b.bn1, b.conv_dw(stem)))
    gate = torch.sigmoid(b.se.conv_expand(silu(b.se.conv_reduce(inner.mean((2, 3), keepdim=True)))))
    return {
        "conv_stem": m.conv_stem(x),
        "bn1": stem,
        "blocks.0.0.bn1": inner,
        "blocks.0.0.se": inner * gate,
        "blocks.0.0": norm(b.bn2, b.conv_pw(inner * gate)),
    }


def convnext_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    zero = m.stem[0](x)
    stem = m.stem[1](zero)
    return {"stem.0": zero, "stem": stem, "stages.0.blocks.0.conv_dw": m.stages[0].blocks[0].conv_dw(stem)}


def densenet_nodes(m: Any, x: Tensor) -> dict[str, Tensor]:
    f = m.features
    zero = f.conv0(x)
    stem = torch.relu(norm(f.norm0, zero))
    return {"features.conv0": zero, "features.norm0": stem, "features.pool0": f.pool0(stem)}


def norm(module: Any, x: Tensor) -> Tensor:
    """A batch norm without the activation that timm's may carry."""
    return nn.functional.batch_norm(
        x, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps
    )


#: Network -> its nodes' outputs, computed by hand, and deeper nodes to read beside them.
CASES: list[tuple[str, Callable[[Any, Tensor], dict[str, Tensor]], list[str]]] = [
    ("resnet18", resnet_nodes, ["maxpool", "layer1", "layer2.0.downsample", "layer2.0.bn2", "layer4"]),
    ("resnet26", bottleneck_nodes, ["layer1", "layer2.1.bn1", "layer3"]),
    ("vgg11", vgg_nodes, ["features.3", "features.4", "features.6", "features.8", "features.10"]),
    ("vgg11_bn", vgg_bn_nodes, ["features.3", "features.5", "features.6", "features.9"]),
    ("mobilenetv2_035", mobilenet_nodes, ["blocks.1.1.bn3", "blocks.1.1", "blocks.3", "blocks.6"]),
    ("efficientnet_b0", efficientnet_nodes, ["blocks.2.1.bn3", "blocks.2.1", "blocks.4", "blocks.6"]),
    ("convnext_atto", convnext_nodes, ["stages.0.blocks.0", "stages.0.blocks.1", "stages.1", "stages.3"]),
    ("densenet121", densenet_nodes, ["features.denseblock1.denselayer1", "features.transition1.conv"]),
]


@pytest.mark.parametrize(("model", "by_hand", "deeper"), CASES, ids=[case[0] for case in CASES])
def test_alone_together_and_without_hooks(
    model: str, by_hand: Callable[[Any, Tensor], dict[str, Tensor]], deeper: list[str]
) -> None:
    """Later operations work in place in these networks: activations, residual sums."""
    backbone = random_network(model, {"stem": "x"})
    plain, _ = create(backbone)
    give_statistics(plain.eval())
    images = images_of()
    with torch.inference_mode():
        expected = {node: made.clone() for node, made in by_hand(plain, input_of(images, backbone)).items()}
    backbone.levels = {node: node for node in (*expected, *deeper)}
    network = Network(backbone, CPU)
    network.model, _ = create(backbone)
    give_statistics(network.model.eval())
    network._fold()
    levels = list(backbone.levels)
    together = read_maps(network, normalised(network, images), levels).maps
    assert sorted(together) == sorted(levels)
    for level in levels:
        alone = read_maps(network, normalised(network, images), [level]).maps[level]
        assert torch.equal(alone, together[level]), level
        if level in expected:
            # Folding rounds otherwise, by a few units in the last place of the sums' largest terms.
            scale = float(expected[level].abs().max())
            torch.testing.assert_close(alone, expected[level], rtol=0, atol=1e-4 * scale, msg=level)


@pytest.mark.parametrize("model", ["resnet18", "vgg11", "mobilenetv2_035"])
def test_pooled_features_are_those_of_the_maps(model: str, tmp_path: Path) -> None:
    levels = {
        "resnet18": ["bn1", "layer1.0.bn2", "layer1"],
        "vgg11": ["features.0", "features.1", "features.6"],
        "mobilenetv2_035": ["conv_stem", "bn1", "blocks.1.1.bn3", "blocks.1.1"],
    }[model]
    backbone = random_network(model, {node: node for node in levels})
    network = Network(backbone, CPU)
    category = make_category(tmp_path, n_train=3, n_test=1, size=SIDE)
    runner = ImageRunner(network, SIDE, batch_size=3)
    together = extract(runner, category.train, levels)
    for level in levels:
        alone = extract(runner, category.train, [level])[level]
        for name, rows in alone.items():
            np.testing.assert_array_equal(rows, together[level][name])


class Odd(nn.Module):
    """One operation after another on the same memory, and nodes that give no maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.same = nn.Identity()
        self.view = Lambda(lambda x: x.view(x.shape))
        self.part = Lambda(lambda x: x[:, :2])
        self.pair = Lambda(lambda x: (x, x))
        self.named = Lambda(lambda x: {"out": x})
        self.nothing = Lambda(lambda _x: None)
        self.tokens = Lambda(lambda x: x.flatten(2).mT)
        self.stacked = Lambda(lambda x: torch.cat([x, x]))
        self.volume = Lambda(lambda x: x[:, :, None])
        self.empty = Lambda(lambda x: x[:, :, :0])
        self.channelless = Lambda(lambda x: x[:, :0])
        self.late = nn.ReLU()
        self.never = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for module in (self.same, self.view, self.part, self.pair, self.named, self.nothing, self.tokens,
                       self.stacked, self.volume, self.empty, self.channelless):  # fmt: skip
            module(x)
        x.mul_(2)
        x[:, 0] = 7
        x.relu_()
        x += 1
        torch.add(x, 1, out=x)
        x.zero_()
        return self.late(x)


class Lambda(nn.Module):
    def __init__(self, run: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(x)


def odd() -> tuple[Odd, BackboneConf]:
    model = Odd().eval()
    nodes = {name: name for name, _ in model.named_children()}
    return model, random_network("odd", nodes)


def test_copies_outlive_what_follows() -> None:
    """Multiplication, assignment, activation, sum, ``out=`` and zeros in place; of views and slices too."""
    model, backbone = odd()
    network = Network.__new__(Network)
    network.backbone, network.device, network.model = backbone, CPU, model
    images = images_of()
    expected = model.conv(input_of(images, backbone)).detach()
    levels = ["conv", "same", "view", "part", "late"]
    for asked in (levels, ["late", "conv"], *([level] for level in levels)):
        made = read_maps(network, normalised(network, images), asked).maps
        for level in asked:
            reference = {"part": expected[:, :2], "late": torch.zeros_like(expected)}.get(level, expected)
            torch.testing.assert_close(made[level], reference, rtol=1e-5, atol=1e-5)
            assert not made[level].is_inference()
            assert made[level].is_contiguous()


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_any_set_of_levels_gives_the_same(data: st.DataObject) -> None:
    model, backbone = odd()
    good = ["conv", "same", "view", "part", "late"]
    asked = data.draw(st.lists(st.sampled_from(good), min_size=1))  # some twice
    batch = torch.ones(1, 3, 8, 8)
    found: dict[str, Tensor] = {}
    read_levels(model, backbone, batch, asked, lambda level, m: found.__setitem__(level, m.clone()))
    alone: dict[str, Tensor] = {}
    for level in asked:
        read_levels(model, backbone, batch, [level], lambda level, m: alone.__setitem__(level, m.clone()))
    assert found.keys() == alone.keys() == set(asked)
    assert all(torch.equal(found[level], alone[level]) for level in asked)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("pair", "gives tuple, not a feature map"),
        ("named", "gives dict, not"),
        ("nothing", "gives NoneType, not"),
        ("tokens", r"gives \(1, 4096, 4\), not"),
        ("stacked", r"gives \(2, 4, 64, 64\), not a feature map of each of 1 images"),
        ("volume", r"gives \(1, 4, 1, 64, 64\), not"),
        ("empty", r"no place left of images of 64 px \(4x0x64\); choose a larger dataset.input_size"),
        ("channelless", r"no place left of images of 64 px \(0x64x64\)"),
        ("never", "never reaches never=never"),
    ],
)
def test_a_node_that_gives_no_maps_is_a_reason(node: str, words: str) -> None:
    """And of that level alone, whatever is looked at beside it."""
    model, backbone = odd()
    found = look(model, backbone, ["conv", node, "late"], SIDE, CPU)
    assert (found["conv"], found["late"]) == ((4, 64, 64), (4, 64, 64))
    with pytest.raises(ConfigError, match=words):
        raise ConfigError(str(found[node]))


def test_two_levels_of_one_node() -> None:
    network = Network(resnet18(levels={"a": "layer1", "b": "layer1", "deep": "layer2"}), CPU)
    for asked in (["a", "b"], ["a", "b", "deep"], ["b"]):
        made = read_maps(network, normalised(network, images_of()), asked).maps
        assert set(made) == set(asked)
    assert torch.equal(
        *(read_maps(network, normalised(network, images_of()), ["a", "b"]).maps[level] for level in "ab")
    )


REFUSED = [
    # Shrinks to nothing after its first levels.
    ("inception_v3", {"first": "Conv2d_2b_3x3", "last": "Mixed_7c"}, {}, 64, {"last"}),
    ("inception_v4", {"first": "features.0", "last": "features.21"}, {}, 64, {"last"}),
    ("resnet18", {"first": "conv1", "last": "layer4"}, {"in_chans": 1}, 64, {"first", "last"}),
    ("mobilenetv2_035", {"last": "blocks.6"}, {"in_chans": 4}, 64, {"last"}),
    # Windows or positions of one size only.
    ("maxvit_pico_rw_256", {"first": "stem", "last": "stages.3"}, {}, 100, {"last"}),
    ("coatnet_pico_rw_224", {"first": "stem", "last": "stages.3"}, {"img_size": 64}, 96, {"last"}),
    ("vit_tiny_patch16_224", {"last": "blocks.3"}, {}, 64, {"last"}),
    ("vgg11", {"first": "features.0", "last": "pre_logits"}, {}, 64, {"last"}),
    ("resnet18", {"last": "fc"}, {}, 64, {"last"}),
    ("vgg11", {"first": "features.0", "last": "features.20"}, {}, 24, {"last"}),
]


@pytest.mark.parametrize(
    ("model", "nodes", "kwargs", "side", "refused"), REFUSED, ids=[f"{c[0]}-{c[3]}" for c in REFUSED]
)
def test_a_network_that_refuses_images_loses_those_levels(
    model: str, nodes: dict[str, str], kwargs: dict[str, Any], side: int, refused: set[str]
) -> None:
    backbone = random_network(model, nodes, kwargs=kwargs, input_size=max(side, 32))
    network = Network(backbone, CPU)
    unusable = network.unusable(list(nodes), side)
    assert set(unusable) == refused
    for reason in unusable.values():
        assert "backbone" in reason
        assert len(reason) < 600
    good = [level for level in nodes if level not in refused]
    if good:
        made = network.shapes(good, side)
        assert all(min(shape) > 0 for shape in made.values())
    with pytest.raises(ConfigError):
        network.shapes(list(nodes), side)


def test_a_shard_keeps_the_levels_that_its_images_reach(tmp_path: Path) -> None:
    backbone = random_network("inception_v3", {"first": "Conv2d_2b_3x3", "last": "Mixed_7c"})
    category = make_category(tmp_path / "parts", n_train=2, n_test=1, size=SIDE)
    shard = Shard.of(category, backbone, SIDE, PLAIN, FileIndex(tmp_path / "index"))
    made = features_of(shard, ["first", "last"], FeatureCache(tmp_path / "cache"), device="cpu")
    assert list(made.unusable) == ["last"]
    assert "inception_v3 cannot take an RGB image of 64 x 64 px as far as last" in made.unusable["last"]
    assert pool_shape(made.train["first"]) == (2, 64)
    with pytest.raises(AnomalySweepError, match="as far as last"):
        made.matrices(["first", "last"], ["avg"])


def pool_shape(pools: dict[str, np.ndarray]) -> tuple[int, ...]:
    assert set(pools) == set(pool(torch.zeros(1, 1, 1, 1)))
    return pools["avg"].shape
