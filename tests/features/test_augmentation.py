"""Augmentation: reproducible draws, exclusions, and the size of what is asked for."""

from __future__ import annotations

import colorsys
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import ndimage, stats

from anomaly_sweep.config import AugmentationConf, parse_node
from anomaly_sweep.datasets.readers.mvtec_ad import OFFICIAL_COUNTS
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.features import augmentation as room
from anomaly_sweep.features.augmentation import (
    PROBABILITIES,
    Geometry,
    check,
    describe,
    geometry,
    left_out,
    passes_of,
    versions,
)
from tests.support.features import PLAIN, pixels
from tests.support.paths import ROOT

NOISE = AugmentationConf(name="noise", kind="noise", passes=2, noise_std=0.05)
STANDARD = AugmentationConf(name="standard", kind="rippel", passes=3)
#: What two sides of chance leave a right count: one in a thousand million.
CHANCE = 1e-9
CONF = ROOT / "conf" / "augmentation"


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
    if keep or conf.kind == "noise":
        assert np.array_equal(made[0], pixels(0)) == keep
    assert all(version.shape == (64, 64, 3) and version.dtype == np.uint8 for version in made)
    if conf.kind == "noise":
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


def standard() -> AugmentationConf:
    conf = parse_node("augmentation", OmegaConf.load(CONF / "standard.yaml"))
    assert isinstance(conf, AugmentationConf)
    return conf


def is_likely(count: int, n: int, share: float) -> bool:
    """Whether a count of n draws with a probability is within an exact binomial bound."""
    return bool(stats.binomtest(count, n, share).pvalue > CHANCE)


def is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    return bool(
        values.min() >= low
        and values.max() <= high
        and stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > CHANCE
    )


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Which parts each version went through; they leave the image as it is."""
    found: list[tuple[str, ...]] = []
    running: list[str] = []

    def parts(_: Geometry) -> dict[str, room.Part]:
        def record(name: str) -> room.Part:
            def part(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
                running.append(name)
                return image

            return part

        return {name: record(name) for name in PROBABILITIES}

    real = room._composite

    def composite(*arguments: object) -> np.ndarray:
        running.clear()
        image = real(*arguments)  # type: ignore[arg-type]
        found.append(tuple(running))
        return image

    monkeypatch.setattr(room, "_parts", parts)
    monkeypatch.setattr(room, "_composite", composite)
    return found


PUBLISHED = {
    "blur": 0.2, "contrast": 0.3, "colour": 0.3, "noise": 0.2, "flip": 0.5, "rot90": 0.5,
    "shift_scale_rotate": 0.2,
}  # fmt: skip


@pytest.mark.parametrize("category", ["carpet", "grid", "screw", "transistor"])
def test_parts_are_as_probable_as_published(applied: list[tuple[str, ...]], category: str) -> None:
    """The composite as a whole in half of the copies, in it each part by its own, independently."""
    n = 12_000
    without = {"screw": {"flip"}, "transistor": {"rot90"}}.get(category, set())
    drawn(replace(standard(), passes=n), category=category)
    assert len(applied) == n
    counts = Counter(part for parts in applied for part in parts)
    assert set(counts) == set(PUBLISHED) - without
    for part in counts:
        assert is_likely(counts[part], n, 0.5 * PUBLISHED[part]), part
    for first, second in combinations(counts, 2):
        both = sum(first in parts and second in parts for parts in applied)
        assert is_likely(both, n, 0.5 * PUBLISHED[first] * PUBLISHED[second]), (first, second)
    untouched = 0.5 + 0.5 * np.prod([1 - PUBLISHED[part] for part in counts])
    assert is_likely(sum(not parts for parts in applied), n, untouched)
    # One after another, in the published order.
    order = {part: i for i, part in enumerate(PUBLISHED)}
    assert all([order[p] for p in parts] == sorted(order[p] for p in parts) for parts in applied)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_probability_is_that_of_the_whole(applied: list[tuple[str, ...]], share: float) -> None:
    n = 4_000
    conf = replace(standard(), passes=n, probability=share)
    drawn(conf)
    flips = sum("flip" in parts for parts in applied)
    assert is_likely(flips, n, 0.5 * share) if share else flips == 0
    applied.clear()
    assert same(drawn(replace(conf, probability=0.0, passes=3)), [pixels(0)] * 3)


def test_half_of_the_copies_are_the_image_itself() -> None:
    """On pixels, not on calls: a quarter turn by 0 is one that cannot be seen, other parts always can."""
    n = 1_500
    untouched = sum(np.array_equal(v, pixels(0)) for v in drawn(replace(STANDARD, passes=n)))
    inside = np.prod([1 - p * (0.75 if part == "rot90" else 1) for part, p in PUBLISHED.items()])
    assert is_likely(untouched, n, 0.5 + 0.5 * inside)


def test_an_exclusion_does_not_shift_the_other_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: dict[str, list[float]] = {}

    def parts(_: Geometry) -> dict[str, room.Part]:
        def record(name: str) -> room.Part:
            def part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
                streams.setdefault(name, []).append(rng.random())
                return image

            return part

        return {name: record(name) for name in PROBABILITIES}

    monkeypatch.setattr(room, "_parts", parts)
    conf = replace(STANDARD, passes=100)
    drawn(conf)
    before = {name: values for name, values in streams.items() if name != "flip"}
    assert all(0 < len(values) < 50 for values in streams.values())
    streams.clear()
    drawn(replace(conf, exclude={"nut": ["flip"]}, geometry={"nut": {"rotate": 15}}))
    assert streams == before
    streams.clear()
    drawn(replace(conf, exclude={"bolt": ["flip"]}))
    assert "flip" in streams


def test_every_image_draws_for_itself() -> None:
    """In whatever order, and beside whatever other images, the versions are taken."""
    names = [f"nut/train/good/{i}.png" for i in range(6)]
    forth = {name: drawn(STANDARD, name) for name in names}
    back = {name: drawn(STANDARD, name) for name in reversed(names[::2])}
    assert all(same(back[name], forth[name]) for name in back)
    assert not all(same(forth[a], forth[b]) for a, b in pairwise(names))


def limits(category: str) -> tuple[dict[str, np.ndarray], Geometry]:
    """What shift, scale and rotation drew for a category."""
    seen: list[tuple[float, float, float, float]] = []
    drawn_from = geometry(standard(), category)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            room,
            "_affine",
            lambda image, degrees, scale, shift: seen.append((degrees, scale, *shift)) or image,
        )
        for seed in range(3_000):
            room._shift_scale_rotate(pixels(0, 8, 8), np.random.default_rng(seed), drawn_from)
    return dict(zip(("degrees", "scale", "down", "across"), np.array(seen).T, strict=True)), drawn_from


@pytest.mark.parametrize(
    ("category", "shift", "scale", "degrees"),
    [
        *(
            (name, 0.05, (0.95, 1.1), 15)
            for name in ("bottle", "cable", "capsule", "metal_nut", "pill", "screw")
        ),
        *((name, 0.05, (0.95, 1.1), 15) for name in ("toothbrush", "transistor", "wood", "zipper")),
        *((name, 0.05, (0.95, 1.1), 45) for name in ("carpet", "hazelnut", "leather", "tile")),
        ("grid", 0.0, (0.95, 1.0), 0),
    ],
)
def test_limits_by_category(category: str, shift: float, scale: tuple[float, float], degrees: float) -> None:
    found, _ = limits(category)
    assert is_uniform(found["scale"], *scale)
    for key, limit in (("degrees", degrees), ("down", shift), ("across", shift)):
        assert is_uniform(found[key], -limit, limit) if limit else not found[key].any()


def test_what_is_left_out_by_category() -> None:
    conf = standard()
    expected = {name: ["flip"] for name in ("metal_nut", "pill", "capsule", "screw")}
    expected["transistor"] = ["rot90"]
    assert {name: left_out(conf, name) for name in OFFICIAL_COUNTS} == {
        name: expected.get(name, []) for name in OFFICIAL_COUNTS
    }


@pytest.mark.parametrize("part", list(PROBABILITIES))
def test_each_part_changes_the_image_and_is_one_itself(part: str) -> None:
    image = pixels(3, 40, 40)
    made = [room._parts(Geometry())[part](image, np.random.default_rng(seed)) for seed in range(40)]
    for version in made:
        assert version.shape == image.shape
        assert version.dtype == np.uint8
        assert 20 < version.mean() < 235
    changed = sum(not np.array_equal(version, image) for version in made)
    assert changed == 40 if part != "rot90" else 20 < changed < 40


def test_quarter_turns_and_flips_keep_every_pixel() -> None:
    image = pixels(0)
    expected = np.sort(image.reshape(-1, 3), axis=0)
    turns = Counter()
    for seed in range(2_000):
        version = room._rot90(image, np.random.default_rng(seed))
        (number,) = (k for k in range(4) if np.array_equal(version, np.rot90(image, k)))
        turns[number] += 1
        np.testing.assert_array_equal(np.sort(version.reshape(-1, 3), axis=0), expected)
    assert all(is_likely(turns[k], 2_000, 0.25) for k in range(4))
    flipped = room._flip(image, np.random.default_rng(0))
    np.testing.assert_array_equal(flipped, image[:, ::-1])


def test_which_of_several_is_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    for name in ("_clahe", "_sharpen", "_emboss", "_brightness"):
        monkeypatch.setattr(room, name, lambda image, _rng, name=name: counts.update([name]) or image)
    for seed in range(4_000):
        room._contrast(pixels(0, 4, 4), np.random.default_rng(seed))
    assert len(counts) == 4
    assert all(is_likely(count, 4_000, 0.25) for count in counts.values())


def test_noise_has_the_published_deviations() -> None:
    grey = np.full((120, 120, 3), 128, np.uint8)
    deviations, coloured = [], 0
    for seed in range(600):
        difference = room._gaussian_noise(grey, np.random.default_rng(seed)).astype(float) - 128
        deviations.append(np.sqrt(difference[..., 0].var() - 1 / 12) / 255)
        coloured += bool((difference != difference[..., :1]).any())
    assert is_likely(coloured, 600, 0.5)
    # 14,400 pixels: five standard errors of a deviation are 3 % of it.
    assert is_uniform(np.clip(deviations, 0.01, 0.03), 0.01, 0.03)
    assert min(deviations) > 0.01 * 0.97
    assert max(deviations) < 0.03 * 1.03


def test_brightness_and_contrast_by_hand() -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 4, 3))
    gains, shifts = [], []
    for seed in range(1_500):
        made = room._brightness(levels, np.random.default_rng(seed)).astype(float)[:, 0, 0]
        inside = (made > 0) & (made < 255)
        gain, shift = np.polyfit(np.arange(256)[inside], made[inside], 1)
        gains.append(gain)
        shifts.append(shift / 255)
    assert is_uniform(np.clip(gains, 0.8, 1.2), 0.8, 1.2)
    assert is_uniform(np.clip(shifts, -0.1, 0.2), -0.1, 0.2)
    assert min(gains) > 0.79
    assert max(gains) < 1.21
    assert min(shifts) > -0.105
    assert max(shifts) < 0.205


def test_colour_turns_hue_by_twenty_degrees_at_most() -> None:
    red = np.full((4, 4, 3), (200, 60, 60), np.uint8)
    hues, values = [], []
    for seed in range(1_000):
        made = room._colour(red, np.random.default_rng(seed))[0, 0] / 255
        hue, _, value = colorsys.rgb_to_hsv(*made)
        hues.append((hue * 360 + 180) % 360 - 180)
        values.append(value * 255 - 200)
    assert -22 < min(hues) < -17
    assert 17 < max(hues) < 22
    assert -11 <= min(values) < -8
    assert 18 < max(values) <= 21


def test_filters_against_scipy() -> None:
    image = pixels(2, 20, 24)
    inner = (slice(2, -2), slice(2, -2))
    found = {"median": 0, "mean": 0}
    expected = {
        "median": ndimage.median_filter(image, (3, 3, 1)),
        "mean": ndimage.uniform_filter(image.astype(float), (3, 3, 0)),
    }
    for seed in range(60):
        made = room._blur(image, np.random.default_rng(seed)).astype(float)
        for name, by_scipy in expected.items():
            found[name] += bool(np.abs(made - by_scipy)[inner].max() <= 1)
    assert min(found.values()) > 5
    assert sum(found.values()) < 60
    flat = np.full((9, 9, 3), 77, np.uint8)
    for part in (room._blur, room._motion_blur):
        assert all((part(flat, np.random.default_rng(seed)) == 77).all() for seed in range(30))


def test_motion_is_along_a_line() -> None:
    point = np.zeros((15, 15, 3), np.uint8)
    point[7, 7] = 252
    lengths = Counter()
    for seed in range(900):
        made = room._motion_blur(point, np.random.default_rng(seed))[..., 0].astype(float)
        places = np.argwhere(made > 0) - 7
        lengths[len(places)] += 1
        assert made.sum() == pytest.approx(252, abs=4)  # rounding of each pixel
        # All within half a pixel of a line through the middle.
        _, spread, _ = np.linalg.svd(places.astype(float))
        assert spread[-1] / np.sqrt(len(places)) < 0.5
    assert set(lengths) == {3, 5, 7}
    assert all(is_likely(count, 900, 1 / 3) for count in lengths.values())


def test_clahe_equalizes_and_is_limited() -> None:
    rng = np.random.default_rng(0)
    dull = rng.normal(120, 4, (256, 256, 1)).round().clip(0, 255).astype(np.uint8).repeat(3, axis=2)
    spreads = [float(room._clahe(dull, np.random.default_rng(seed)).std()) for seed in range(30)]
    # Equalized fully it would be 74. A slope is at most the limit and 1 for what is spread evenly.
    own = float(dull.std())
    assert own < min(spreads) < 2.5 * own
    assert 3 * own < max(spreads) < 5 * own
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert np.ptp(room._clahe(flat, rng)) == 0
    assert room._clahe(pixels(0, 5, 7), rng).shape == (5, 7, 3)  # fewer pixels than tiles


def test_affine_by_hand() -> None:
    image = pixels(1, 33, 33)
    np.testing.assert_array_equal(room._affine(image, 0.0, 1.0, (0.0, 0.0)), image)
    quarter = room._affine(image, 90.0, 1.0, (0.0, 0.0))
    assert any(np.abs(quarter.astype(int) - np.rot90(image, k)).max() <= 1 for k in (1, 3))
    moved = room._affine(image, 0.0, 1.0, (3 / 33, 0.0))
    np.testing.assert_array_equal(moved[3:], image[:-3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exclude": {"nut": ["shear"]}}, r"augmentation\.exclude names shear; the parts are blur"),
        ({"exclude": {"*": ["rotate45"]}}, r"augmentation\.exclude names rotate45"),
        (
            {"geometry": {"nut": {"rotation": 15}}},
            r"augmentation\.geometry\.nut names rotation; there are shift",
        ),
        ({"geometry": {"*": {"rotate": 200}}}, r"augmentation\.geometry rotate=200\.0 is outside \[0, 180\]"),
        ({"geometry": {"nut": {"shift": -0.1}}}, r"augmentation\.geometry shift=-0\.1 is outside"),
        ({"geometry": {"nut": {"rotate": "much"}}}, r"augmentation\.geometry\.nut: could not convert"),
        ({"geometry": {"nut": {"rotate": [5, 15]}}}, r"augmentation\.geometry\.nut: float\(\) argument"),
        ({"geometry": {"nut": {"smaller": 1.0}}}, r"augmentation\.geometry smaller=1\.0 is outside"),
        ({"geometry": {"nut": {"larger": float("nan")}}}, r"augmentation\.geometry larger=nan is outside"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(replace(STANDARD, **changes))


def test_the_kind_that_went_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.kind=standard is not allowed; .*rippel"):
        AugmentationConf(name="standard", kind="standard", passes=3)


def test_everything_that_decides_the_versions_is_described() -> None:
    conf = standard()
    for changes in (
        {"seed": 1}, {"passes": 5}, {"probability": 0.4}, {"keep_original": True},
        {"exclude": {"bottle": ["blur"]}}, {"geometry": {"bottle": {"rotate": 14}}},
    ):  # fmt: skip
        assert describe(replace(conf, **changes), "bottle") != describe(conf, "bottle"), changes
    assert describe(replace(conf, exclude={"nut": ["blur"]}), "bottle") == describe(conf, "bottle")
    assert describe(conf, "hazelnut") == describe(conf, "carpet") != describe(conf, "wood")


def test_configured_augmentations() -> None:
    for path in CONF.glob("*.yaml"):
        conf = parse_node("augmentation", OmegaConf.load(path))
        check(conf)
        assert {*conf.exclude, *conf.geometry} <= set(OFFICIAL_COUNTS)
        assert len(drawn(conf)) == passes_of(conf)
