"""Augmentation: reproducible draws, exclusions, and the size of what is asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from features_parts import PLAIN, pixels
from omegaconf import OmegaConf

from anomaly_sweep.config import AugmentationConf, parse_node
from anomaly_sweep.datasets.mvtec_ad import OFFICIAL_COUNTS
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.features import augmentation as room
from anomaly_sweep.features.augmentation import excluded, passes_of, versions

NOISE = AugmentationConf(name="noise", kind="noise", passes=2, noise_std=0.05)
STANDARD = AugmentationConf(name="standard", kind="standard", passes=3)
CONF = Path(__file__).parents[2] / "conf" / "augmentation"


def drawn(
    conf: AugmentationConf, name: str = "nut/train/good/0.png", category: str = "nut"
) -> list[np.ndarray]:
    return [np.array(version) for version in versions(pixels(0), conf, category, name)]


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_none_is_the_image_itself() -> None:
    (only,) = drawn(PLAIN)
    np.testing.assert_array_equal(only, pixels(0))
    assert passes_of(PLAIN) == 1


@pytest.mark.parametrize("conf", [NOISE, STANDARD])
@pytest.mark.parametrize("keep", [True, False])
def test_number_of_versions(conf: AugmentationConf, keep: bool) -> None:
    conf = replace(conf, keep_original=keep)
    made = drawn(conf)
    assert len(made) == passes_of(conf) == conf.passes + keep
    assert np.array_equal(made[0], pixels(0)) == keep
    assert all(version.shape == (64, 64, 3) and version.dtype == np.uint8 for version in made)
    assert all(not np.array_equal(a, b) for a, b in pairwise(made))


@pytest.mark.parametrize("conf", [NOISE, STANDARD])
def test_draws_depend_on_seed_name_and_pass_only(conf: AugmentationConf) -> None:
    first = drawn(conf)
    drawn(conf, "another.png")
    np.random.default_rng(5).random(3)
    assert same(drawn(conf), first)
    assert not same(drawn(conf, "another.png"), first)
    assert not same(drawn(replace(conf, seed=1)), first)
    assert same(drawn(replace(conf, passes=conf.passes + 2))[: conf.passes], first)
    assert same(drawn(replace(conf, keep_original=True))[1:], first)


@pytest.mark.parametrize("std", [0.0, 0.02, 0.05])
def test_noise_has_the_configured_deviation(std: float) -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    conf = replace(NOISE, noise_std=std, passes=1)
    (noisy,) = versions(grey, conf, "nut", "a.png")
    difference = noisy.astype(float) - 128
    rounding = 1 / 12 if std else 0.0
    assert difference.std() == pytest.approx(np.sqrt((255 * std) ** 2 + rounding), rel=0.01)
    assert abs(difference.mean()) < 0.2


def test_noise_does_not_wrap_around() -> None:
    for value in (0, 255):
        (noisy,) = versions(np.full((50, 50, 3), value, np.uint8), replace(NOISE, passes=1), "nut", "a.png")
        assert np.abs(noisy.astype(int) - value).max() < 100


@pytest.mark.parametrize("change", list(room._CHANGES))
def test_each_change_changes_and_can_be_left_out(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    certain = replace(STANDARD, probability=1.0, passes=1)
    others = sorted(set(room._CHANGES) - {change})
    alone = drawn(replace(certain, exclude={"*": others}))[0]
    assert not np.array_equal(alone, pixels(0))
    assert 20 < alone.mean() < 235
    called: list[str] = []

    def record(name: str) -> None:
        real = room._CHANGES[name]

        def changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            called.append(name)
            return real(image, rng)

        monkeypatch.setitem(room._CHANGES, name, changed)

    for name in list(room._CHANGES):
        record(name)
    drawn(replace(certain, exclude={"nut": [change]}))
    assert called == [name for name in room._CHANGES if name != change]
    called.clear()
    drawn(replace(certain, exclude={"bolt": [change]}))
    assert called == list(room._CHANGES)


def test_an_exclusion_does_not_shift_the_other_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: dict[str, list[float]] = {}

    def record(name: str) -> None:
        def changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            streams.setdefault(name, []).append(rng.random())
            return image

        monkeypatch.setitem(room._CHANGES, name, changed)

    for name in list(room._CHANGES):
        record(name)
    conf = replace(STANDARD, passes=20)
    drawn(conf)
    before = {name: values for name, values in streams.items() if name != "flip"}
    assert all(0 < len(values) < 20 for values in streams.values())
    streams.clear()
    drawn(replace(conf, exclude={"nut": ["flip"]}))
    assert streams == before


def test_probability_zero_changes_nothing() -> None:
    assert same(drawn(replace(STANDARD, probability=0.0)), [pixels(0)] * 3)


def test_quarter_turns_and_flips_keep_every_pixel() -> None:
    certain = replace(STANDARD, probability=1.0, passes=4)
    only = replace(certain, exclude={"*": sorted(set(room._CHANGES) - {"flip", "rot90"})})
    expected = np.sort(pixels(0).reshape(-1, 3), axis=0)
    for version in drawn(only):
        np.testing.assert_array_equal(np.sort(version.reshape(-1, 3), axis=0), expected)


def test_affine_by_hand() -> None:
    image = pixels(1, 33, 33)
    np.testing.assert_array_equal(room._affine(image, 0.0, 1.0, (0.0, 0.0)), image)
    quarter = room._affine(image, 90.0, 1.0, (0.0, 0.0))
    assert any(np.abs(quarter.astype(int) - np.rot90(image, k)).max() <= 1 for k in (1, 3))
    moved = room._affine(image, 0.0, 1.0, (3 / 33, 0.0))
    np.testing.assert_array_equal(moved[3:], image[:-3])


def test_unknown_change_is_named() -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.exclude names shear; the changes are blur"):
        excluded(replace(STANDARD, exclude={"nut": ["shear"]}), "nut")


def test_configured_augmentations() -> None:
    for path in CONF.glob("*.yaml"):
        conf = parse_node("augmentation", OmegaConf.load(path))
        for category in OFFICIAL_COUNTS:
            excluded(conf, category)
        assert set(conf.exclude) <= set(OFFICIAL_COUNTS)
        assert len(drawn(conf)) == passes_of(conf)
