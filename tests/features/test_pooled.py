"""Pooled features: what is shared, what two processes do with one shard, and the matrices of a trial."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from anomaly_sweep.config import AugmentationConf
from anomaly_sweep.datasets import Category
from anomaly_sweep.errors import AnomalySweepError, ConfigError, DatasetError, WeightsError
from anomaly_sweep.features.backbone import loaded as networks
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.loaded import check_network, network_of
from anomaly_sweep.features.backbone.weights import weights_identity
from anomaly_sweep.features.cache.store import FeatureCache, cache_at
from anomaly_sweep.features.pooled import ShardFeatures, features_of
from tests.support.features import make_category, resnet18, shard_of
from tests.support.paths import ROOT

LEVELS = ["level2", "level3"]
NOISE = AugmentationConf(name="noise", kind="noise", passes=2, keep_original=True)
STANDARD = AugmentationConf(name="standard", kind="rippel", passes=2)


@pytest.fixture(autouse=True)
def _forget_networks() -> None:
    networks.loaded.clear()


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return make_category(tmp_path / "data", n_train=5, n_test=3)


def weight_file(path: Path, seed: int) -> str:
    save_file(create(resnet18(weights_seed=seed))[0].state_dict(), path)
    return str(path)


# Features.


def test_made_once_and_equal_from_the_cache(category: Category, tmp_path: Path) -> None:
    cache = cache_at(str(tmp_path / "cache"))
    shard = shard_of(category)
    assert shard.missing(cache, LEVELS) == LEVELS
    told: list[int] = []
    first = features_of(shard, LEVELS, cache, device="cpu", on_image=told.append)
    assert sum(told) == 8
    assert shard.missing(cache, [*LEVELS, "level4"]) == ["level4"]
    networks.loaded.clear()
    again = features_of(shard, LEVELS, cache, device="cpu", batch_size=2, on_image=told.append)
    assert sum(told) == 8
    assert networks.loaded == {}
    for level in LEVELS:
        for name in ("min", "max", "avg"):
            np.testing.assert_array_equal(first.train[level][name], again.train[level][name])
            np.testing.assert_array_equal(first.test[level][name], again.test[level][name])
    assert first.train["level2"]["avg"].shape == (5, 16)
    assert first.test["level3"]["min"].shape == (3, 32)
    deeper = features_of(shard, ["level3", "level4"], cache, device="cpu", on_image=told.append)
    assert sum(told) == 16
    assert list(deeper.train) == ["level3", "level4"]


def test_augmentations_share_the_test_features(category: Category, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    told: list[int] = []
    plain = features_of(shard_of(category), ["level2"], cache, device="cpu", on_image=told.append)
    assert sum(told) == 5 + 3
    for augmentation, versions in ((NOISE, 3), (STANDARD, 2)):
        told.clear()
        shard = shard_of(category, augmentation=augmentation)
        made = features_of(shard, ["level2"], cache, device="cpu", on_image=told.append)
        assert sum(told) == 5 * versions == shard.n_train  # no test image was read again, or augmented
        np.testing.assert_array_equal(made.test["level2"]["avg"], plain.test["level2"]["avg"])
        assert made.train["level2"]["avg"].shape == (5 * versions, 16)
        if augmentation.keep_original:
            np.testing.assert_allclose(
                made.train["level2"]["avg"][::3], plain.train["level2"]["avg"], rtol=1e-4, atol=1e-5
            )


def test_test_images_are_never_augmented(category: Category, tmp_path: Path) -> None:
    """Also when the augmented shard is the first to need them."""
    augmented = features_of(
        shard_of(category, augmentation=NOISE), ["level2"], FeatureCache(tmp_path / "a"), device="cpu"
    )
    plain = features_of(shard_of(category), ["level2"], FeatureCache(tmp_path / "b"), device="cpu")
    np.testing.assert_array_equal(augmented.test["level2"]["avg"], plain.test["level2"]["avg"])


def test_a_damaged_entry_is_rebuilt_and_said(
    category: Category, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    shard = shard_of(category)
    first = features_of(shard, LEVELS, cache, device="cpu")
    path = cache.path_of(shard.describe("train", "level3"))
    path.write_bytes(path.read_bytes()[:-7])
    told: list[int] = []
    with caplog.at_level(logging.WARNING):
        again = features_of(shard, LEVELS, cache, device="cpu", on_image=told.append)
    assert sum(told) == 5
    assert [record for record in caplog.records if f"rebuilt: {path}" in record.message]
    np.testing.assert_array_equal(first.train["level3"]["avg"], again.train["level3"]["avg"])
    assert [problem for _, problem in cache.verify()] == [""] * 4


TWO = """
import sys, time
from pathlib import Path
from tests.support.features import shard_of
from anomaly_sweep.datasets import Category, ImageRecord
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.pooled import features_of
import anomaly_sweep.features.extract  # imported before the start

root = Path(sys.argv[1])
def records(folder):
    paths = sorted((root / "data" / folder).iterdir())
    return tuple(ImageRecord(p, p.relative_to(root / "data").as_posix(), "good") for p in paths)
category = Category("parts", "nut", root / "data", records("nut/train/good"), records("nut/test/crack"))
shard = shard_of(category)
(root / f"ready{sys.argv[2]}").touch()
while not (root / "go").exists():
    time.sleep(0.005)
count = []
made = features_of(shard, ["level2"], FeatureCache(root / "cache"), device="cpu", on_image=count.append)
print(sum(count), float(made.train["level2"]["avg"].sum()), float(made.test["level2"]["max"].sum()))
"""


def test_two_processes_compute_an_entry_once(category: Category, tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path), str(number)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    while not all((tmp_path / f"ready{number}").exists() for number in range(2)):
        assert all(process.poll() is None for process in started)
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=600)[0].split() for process in started]
    assert sum(int(count) for count, *_ in results) == 5 + 3
    assert results[0][1:] == results[1][1:]


def test_a_partial_file_gives_the_levels_it_reaches(category: Category, tmp_path: Path) -> None:
    state = create(resnet18())[0].state_dict()
    path = tmp_path / "w.safetensors"
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("layer3")}, path)
    shard = shard_of(category, resnet18(weights=str(path)))
    told: list[int] = []
    cache = FeatureCache(tmp_path / "cache")
    made = features_of(shard, ["level3", "level4"], cache, device="cpu", on_image=told.append)
    assert list(made.unusable) == ["level4"]
    assert list(made.train) == list(made.test) == ["level3"]
    assert sum(told) == 8
    train, test = made.matrices(["level3"], ["avg"])
    assert (train.shape, test.shape) == ((5, 32), (3, 32))
    with pytest.raises(
        AnomalySweepError, match=r"level4 of resnet18 needs parameters the file lacks: layer3\.0"
    ):
        made.matrices(["level3", "level4"], ["avg"])
    assert features_of(shard, ["level3", "level4"], cache, device="cpu").unusable == made.unusable
    assert list(check_network(shard.backbone, ["level3", "level5"], 64, "cpu")) == ["level5"]


def test_a_file_replaced_meanwhile_does_not_enter_the_cache(category: Category, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    backbone = resnet18(weights=weight_file(path, 1))
    planned = shard_of(category, backbone)
    cache = FeatureCache(tmp_path / "cache")
    first = features_of(planned, ["level2"], cache, device="cpu")
    weight_file(path, 2)
    second = features_of(shard_of(category, backbone), ["level2"], cache, device="cpu")
    assert not np.allclose(first.test["level2"]["avg"], second.test["level2"]["avg"])
    with pytest.raises(WeightsError, match="has changed since"):
        features_of(planned, ["level3"], cache, device="cpu")


def test_one_network_stays_in_memory() -> None:
    identity = weights_identity(resnet18())
    first = network_of(resnet18(), "cpu", identity)
    assert network_of(resnet18(), "cpu", identity) is first
    other = resnet18(weights_seed=1)
    network_of(other, "cpu", weights_identity(other))
    assert len(networks.loaded) == 1
    assert network_of(resnet18(), "cpu", identity) is not first
    with pytest.raises(ConfigError):
        check_network(resnet18(levels={"top": "nowhere"}), ["top"], 64, "cpu")


def test_a_node_without_a_row_an_image_is_told(
    category: Category, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anomaly_sweep.features.extract as room

    def halve(*_: Any, **__: Any) -> dict[str, dict[str, np.ndarray]]:
        return {"level2": {"avg": np.zeros((2, 64), np.float32)}}

    monkeypatch.setattr(room, "extract", halve)
    with pytest.raises(
        AnomalySweepError, match=r"nut: level2 gave 2 rows of avg features for 5 train images.*layer1"
    ):
        features_of(shard_of(category), ["level2"], FeatureCache(tmp_path / "cache"), device="cpu")


def test_a_category_without_images_is_told(category: Category, tmp_path: Path) -> None:
    empty = replace(category, test=())
    with pytest.raises(DatasetError, match="nut: there are no test images"):
        features_of(shard_of(empty), ["level2"], FeatureCache(tmp_path / "cache"), device="cpu")


# Matrices.


def features(bad: tuple[str, str, int, float] | None = None) -> ShardFeatures:
    rng = np.random.default_rng(0)
    splits = {
        split: {
            level: {pool: rng.normal(size=(rows, 3)).astype(np.float32) for pool in ("min", "max", "avg")}
            for level in LEVELS
        }
        for split, rows in (("train", 6), ("test", 4))
    }
    if bad is not None:
        split, level, row, value = bad
        splits[split][level]["max"][row, 1] = value
    return ShardFeatures(splits["train"], splits["test"], {})


def test_matrices_are_joined_level_by_level() -> None:
    made = features()
    train, test = made.matrices(["level3", "level2"], ["max", "avg"])
    assert (train.shape, test.shape) == ((6, 12), (4, 12))
    assert train.dtype == test.dtype == np.float64
    order = [("level3", "max"), ("level3", "avg"), ("level2", "max"), ("level2", "avg")]
    for position, (level, pool) in enumerate(order):
        np.testing.assert_array_equal(test[:, 3 * position : 3 * position + 3], made.test[level][pool])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("split", "name", "rows"), [("train", "training", 6), ("test", "test", 4)])
def test_bad_features_name_their_level(split: str, name: str, rows: int, value: float) -> None:
    made = features((split, "level3", 2, value))
    with pytest.raises(AnomalySweepError, match=rf"1 of {rows} {name} images at level3 hold NaN.*row 2"):
        made.matrices(["level2", "level3"], ["avg", "max"])
    made.matrices(["level2"], ["max"])
    made.matrices(["level3"], ["avg"])


def test_it_is_imported_without_torch() -> None:
    """Planning a sweep asks for keys only."""
    code = (
        "import sys, anomaly_sweep.features.pooled; print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
