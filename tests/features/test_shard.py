"""Shards: what their keys say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from anomaly_sweep.config import AugmentationConf
from anomaly_sweep.datasets import Category
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.cache.store import key_of
from anomaly_sweep.features.shard import Shard
from tests.support.features import PLAIN, make_category, pixels, resnet18, shard_of, write_png

LEVELS = ["level2", "level3"]
NOISE = AugmentationConf(name="noise", kind="noise", passes=2, keep_original=True)
STANDARD = AugmentationConf(name="standard", kind="rippel", passes=2)


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return make_category(tmp_path / "data", n_train=5, n_test=3)


def keys(shard: Shard) -> tuple[str, str]:
    return key_of(shard.describe("train", "level3")), key_of(shard.describe("test", "level3"))


def weight_file(path: Path, seed: int) -> str:
    save_file(create(resnet18(weights_seed=seed))[0].state_dict(), path)
    return str(path)


def change_train_image(category: Category) -> Category:
    write_png(category.train[2].path, pixels(777))
    return category


def change_test_image(category: Category) -> Category:
    write_png(category.test[1].path, pixels(777))
    return category


def rename_train_image(category: Category) -> Category:
    renamed = replace(category.train[0], relative="nut/train/good/renamed.png")
    return replace(category, train=(renamed, *category.train[1:]))


def drop_train_image(category: Category) -> Category:
    return replace(category, train=category.train[1:])


@pytest.mark.parametrize(
    ("change", "train", "test"),
    [
        (change_train_image, True, False),
        (change_test_image, False, True),
        (rename_train_image, True, False),
        (drop_train_image, True, False),
    ],
)
def test_key_follows_the_images(
    category: Category, change: Callable[[Category], Category], train: bool, test: bool
) -> None:
    before = keys(shard_of(category))
    after = keys(shard_of(change(category)))
    assert (before[0] != after[0], before[1] != after[1]) == (train, test)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "resnet18.a1_in1k"},
        {"levels": {"level3": "layer3"}},
        {"kwargs": {"zero_init_last": False, "output_stride": 16}},
        {"mean": [0.5, 0.456, 0.406]},
        {"std": [0.229, 0.224, 0.2251]},
        {"weights_seed": 1},
        {"weights": "pretrained"},
    ],
    ids=str,
)
def test_key_follows_the_backbone(category: Category, change: dict[str, Any]) -> None:
    before, after = keys(shard_of(category)), keys(shard_of(category, resnet18(**change)))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_key_follows_the_input_size_and_the_level(category: Category) -> None:
    assert not set(keys(shard_of(category))) & set(keys(shard_of(category, input_size=96)))
    shard = shard_of(category)
    described = [shard.describe(split, level) for split in ("train", "test") for level in (*LEVELS, None)]
    assert len({key_of(described_one) for described_one in described}) == 6


def test_key_follows_the_weight_files_content(category: Category, tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "elsewhere" / "b.pth"
    second.parent.mkdir()
    torch.save({"x": torch.zeros(2)}, first)
    second.write_bytes(first.read_bytes())
    before = keys(shard_of(category, resnet18(weights=str(first))))
    assert keys(shard_of(category, resnet18(weights=str(second)))) == before
    torch.save({"x": torch.ones(2)}, second)
    after = keys(shard_of(category, resnet18(weights=str(second))))
    assert not set(before) & set(after)


@pytest.mark.parametrize(
    ("augmentation", "change"),
    [
        (NOISE, {"seed": 1}),
        (NOISE, {"passes": 3}),
        (NOISE, {"keep_original": False}),
        (NOISE, {"noise_std": 0.06}),
        (NOISE, {"kind": "rippel"}),
        (NOISE, {"kind": "none", "passes": 1}),
        (STANDARD, {"probability": 0.4}),
        (STANDARD, {"exclude": {"nut": ["flip"]}}),
        (STANDARD, {"exclude": {"*": ["flip"]}}),
    ],
    ids=str,
)
def test_training_key_follows_the_augmentation(
    category: Category, augmentation: AugmentationConf, change: dict[str, Any]
) -> None:
    before = keys(shard_of(category, augmentation=augmentation))
    after = keys(shard_of(category, augmentation=replace(augmentation, **change)))
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.parametrize(
    ("augmentation", "change"),
    [
        (PLAIN, {"seed": 5, "noise_std": 0.2, "probability": 0.1}),
        (NOISE, {"probability": 0.1, "exclude": {"nut": ["flip"]}, "name": "other"}),
        (STANDARD, {"noise_std": 0.2, "exclude": {"bolt": ["flip"]}, "name": "other"}),
    ],
    ids=str,
)
def test_key_ignores_what_the_augmentation_does_not_use(
    category: Category, augmentation: AugmentationConf, change: dict[str, Any]
) -> None:
    before = keys(shard_of(category, augmentation=augmentation))
    assert keys(shard_of(category, augmentation=replace(augmentation, **change))) == before


def test_key_ignores_where_the_images_lie(category: Category, tmp_path: Path) -> None:
    moved = make_category(tmp_path / "moved" / "data", n_train=5, n_test=3)
    assert keys(shard_of(moved)) == keys(shard_of(category))
    other_levels = resnet18(levels={"level3": "layer2"}, input_size=96)  # shard_of gives the size
    assert keys(shard_of(category, other_levels)) == keys(shard_of(category))
