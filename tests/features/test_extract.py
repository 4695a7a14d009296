"""The runner: rows in order, whatever the batch size, the threads and the memory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_sweep.config import AugmentationConf
from anomaly_sweep.datasets import Category
from anomaly_sweep.errors import AnomalySweepError, DatasetError
from anomaly_sweep.features import extract as room
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.extract import ImageRunner, extract
from tests.support.features import CPU, make_category, pixels, resnet18

NOISE = AugmentationConf(name="noise", kind="noise", passes=2, keep_original=True)


class Echo:
    """Stands in for a network: the level is the input itself; memory for so many images only."""

    def __init__(self, fits: int = 10**9) -> None:
        self.backbone = SimpleNamespace(mean=[0.5, 0.25, 0.75], std=[0.5, 1.0, 2.0])
        self.device = CPU
        self.fits = fits
        self.sizes: list[int] = []

    def images_a_pass(self, batch_size: int) -> int:
        return batch_size

    def read(
        self, batch: Tensor, levels: Iterable[str], visit: Callable[[str, Tensor], None], _token: object
    ) -> None:
        self.sizes.append(len(batch))
        for level in levels:
            visit(level, batch)
            if len(batch) > self.fits:  # after the first level: half a batch must not stay behind
                raise torch.OutOfMemoryError


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Category:
    return make_category(tmp_path_factory.mktemp("parts"), n_train=11, n_test=3, size=32)


def run(network: Any, category: Category, **changes: Any) -> dict[str, dict[str, np.ndarray]]:
    settings: dict[str, Any] = {
        "input_size": 32, "augmentation": None, "batch_size": 4, "levels": ["a", "b"]
    }  # fmt: skip
    settings |= changes
    augmentation, levels = settings.pop("augmentation"), settings.pop("levels")
    runner = ImageRunner(network, **settings)
    return extract(runner, category.train, levels, augmentation=augmentation, category="nut")


def expected_averages(count: int) -> np.ndarray:
    images = np.stack([pixels(seed, 32, 32) for seed in range(count)]) / 255.0
    return ((images - [0.5, 0.25, 0.75]) / [0.5, 1.0, 2.0]).mean(axis=(1, 2))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11, 100])
def test_rows_are_the_images_normalised(category: Category, batch_size: int) -> None:
    told: list[int] = []
    made = run(Echo(), category, batch_size=batch_size, on_image=told.append)
    assert list(made) == ["a", "b"]
    for pools in made.values():
        assert {name: (rows.shape, rows.dtype) for name, rows in pools.items()} == dict.fromkeys(
            ("min", "max", "avg"), ((11, 3), np.dtype(np.float32))
        )
        np.testing.assert_allclose(pools["avg"], expected_averages(11), rtol=1e-5, atol=1e-6)
    assert sum(told) == 11
    assert max(told) <= batch_size


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 64])
@pytest.mark.parametrize("fits", [1, 3, 5])
@pytest.mark.parametrize("augmentation", [None, NOISE])
def test_out_of_memory_loses_and_repeats_nothing(
    category: Category, batch_size: int, fits: int, augmentation: AugmentationConf | None
) -> None:
    whole = run(Echo(), category, augmentation=augmentation)
    network = Echo(fits)
    told: list[int] = []
    made = run(network, category, batch_size=batch_size, augmentation=augmentation, on_image=told.append)
    for level, pools in whole.items():
        for name, rows in pools.items():
            np.testing.assert_array_equal(made[level][name], rows)
    assert sum(told) == len(whole["a"]["avg"])
    failed = [size for size in network.sizes if size > fits]
    assert len(failed) <= max(0, batch_size.bit_length() - 1)  # never raised again


def test_not_even_one_image_fits(category: Category) -> None:
    with pytest.raises(AnomalySweepError, match=r"memory for one image.*input_size"):
        run(Echo(fits=0), category)


def test_the_failed_batch_is_released_before_the_cache_is_emptied(
    category: Category, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    handling: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: handling.append(sys.exc_info()[1]))
    run(Echo(fits=2), category, batch_size=8)
    assert handling == [None, None]


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_keep_the_order(category: Category, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    single = run(Echo(), category, augmentation=NOISE)
    load = room.load_square

    def slow(path: Path, size: int, crop: int | None) -> np.ndarray:
        time.sleep(random.Random(path.name).random() / 50)
        return load(path, size, crop)

    monkeypatch.setattr(room, "load_square", slow)
    made = run(Echo(), category, augmentation=NOISE, decoders=threads)
    for name, rows in single["a"].items():
        np.testing.assert_array_equal(made["a"][name], rows)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_unreadable_image_is_named(category: Category, tmp_path: Path, threads: int) -> None:
    broken = replace(category.train[4], path=tmp_path / "gone.png")
    records = (*category.train[:4], broken, *category.train[5:])
    with pytest.raises(DatasetError, match=r"gone\.png"):
        run(Echo(), replace(category, train=records), decoders=threads)


def test_versions_follow_each_other(category: Category) -> None:
    plain = run(Echo(), category)["a"]["avg"]
    noisy = run(Echo(), category, augmentation=NOISE)["a"]["avg"]
    assert noisy.shape == (33, 3)
    np.testing.assert_array_equal(noisy[::3], plain)
    assert not np.array_equal(noisy[1::3], plain)
    np.testing.assert_allclose(noisy[1::3], plain, atol=0.02)


@pytest.mark.parametrize("augmentation", [None, NOISE])
def test_batch_size_and_company_do_not_change_features(
    category: Category, augmentation: AugmentationConf | None
) -> None:
    """Not in the last bit: every forward pass on a CPU has the same shape."""
    network = Network(resnet18(), CPU)
    levels = ["level1", "level3", "level5"]
    reference = run(network, category, levels=levels, batch_size=16, augmentation=augmentation)
    n = len(category.train)
    versions = len(reference["level1"]["avg"]) // n
    for batch_size in (1, 2, 11, 100):
        made = run(network, category, levels=levels, batch_size=batch_size, augmentation=augmentation)
        for level in levels:
            for name, rows in reference[level].items():
                np.testing.assert_array_equal(made[level][name], rows)
    for low, high in ((0, 1), (3, 7), (n - 1, n)):
        some = replace(category, train=category.train[low:high])
        made = run(network, some, levels=levels, augmentation=augmentation)
        for level in levels:
            for name, rows in reference[level].items():
                np.testing.assert_array_equal(made[level][name], rows[low * versions : high * versions])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 16])
def test_every_pass_has_the_same_shape(category: Category, batch_size: int) -> None:
    network = Echo()
    run(network, category, batch_size=batch_size)
    assert set(network.sizes) == {batch_size}
