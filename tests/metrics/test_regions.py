"""AUPRO and pixel AUROC against every threshold in turn, MVTec's own algorithm and scikit-learn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomaly_sweep.errors import ConfigError, DatasetError, EstimatorError
from anomaly_sweep.metrics.regions import PixelMetrics, aupro, pixel_auroc, pixel_metrics

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6))
#: Few values (nearly all tied), some, or any.
SCORES = (st.integers(0, 3), st.integers(-20, 20), st.floats(-1e3, 1e3, width=32, allow_subnormal=False))
CASES = SHAPES.flatmap(
    lambda shape: st.tuples(
        st.one_of(
            *(arrays(np.float32, shape, elements=scores.map(float), fill=st.nothing()) for scores in SCORES)
        ),
        arrays(np.bool_, shape, elements=st.booleans(), fill=st.nothing()),
    )
)
LIMITS = st.one_of(st.sampled_from([0.05, 0.3, 0.5, 1.0]), st.floats(0.01, 1))


def regions_of(mask: np.ndarray, connectivity: int) -> list[list[tuple[int, int]]]:
    """Connected components by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        region = [left.pop()]
        for y, x in region:
            for step_y, step_x in np.ndindex(3, 3):
                if connectivity == 4 and (step_y - 1) * (step_x - 1) != 0:
                    continue
                neighbour = (y + step_y - 1, x + step_x - 1)
                if neighbour in left:
                    left.remove(neighbour)
                    region.append(neighbour)
        regions.append(region)
    return regions


def by_thresholds(
    maps: np.ndarray,
    masks: np.ndarray,
    limit: float = 0.3,
    connectivity: int = 8,
    average: str = "region",
    images: str = "all",
) -> float:
    """The definition: one point of the curve a distinct score, joined by straight lines, cut at the limit."""
    if images == "anomalous":
        chosen = [i for i, mask in enumerate(masks) if mask.any()]
        maps, masks = maps[chosen], masks[chosen]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        per_image = [
            [
                np.mean([scores[pixel] >= threshold for pixel in region])
                for region in regions_of(mask, connectivity)
            ]
            for scores, mask in zip(maps, masks, strict=True)
        ]
        if average == "region":
            pro = np.mean([overlap for overlaps in per_image for overlap in overlaps])
        else:
            pro = np.mean([np.mean(overlaps) for overlaps in per_image if overlaps])
        points.append((float((maps[~masks] >= threshold).mean()), float(pro)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def by_quantiles(maps: np.ndarray, masks: np.ndarray, limit: float, n_thresholds: int) -> float:
    """MVTec's algorithm: thresholds at equidistant quantile positions of the good scores, strict >."""
    good = np.sort(maps[~masks])
    thresholds = good[np.linspace(0, good.size - 1, n_thresholds, dtype=int)][::-1]
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        components, n = label(mask, np.ones((3, 3)))
        regions += [scores[components == i] for i in range(1, n + 1)]
    fprs = [0.0, *((good > t).mean() for t in thresholds), 1.0]
    pros = [0.0, *(np.mean([(region > t).mean() for region in regions]) for t in thresholds), 1.0]
    inside = [fpr <= limit for fpr in fprs]
    x = [*np.array(fprs)[inside], limit]
    y = [*np.array(pros)[inside], np.interp(limit, fprs, pros)]
    return float(np.trapezoid(y, x)) / limit


def by_places(
    maps: np.ndarray,
    masks: np.ndarray,
    limit: float = 0.3,
    connectivity: int = 8,
    average: str = "region",
    images: str = "all",
) -> float:
    """MVTec's evaluation code by its description: each region is walked through threshold by threshold.

    Its false positive rate is that of the threshold's place among the good scores, its curve starts at the
    highest of them.
    """
    if images == "anomalous":
        chosen = [i for i, mask in enumerate(masks) if mask.any()]
        maps, masks = maps[chosen], masks[chosen]
    good = sorted(maps[~masks].tolist())
    regions = [
        [sorted(float(scores[pixel]) for pixel in region) for region in regions_of(mask, connectivity)]
        for scores, mask in zip(maps, masks, strict=True)
    ]
    points = [(1.0, 1.0)]
    for place in (int(step * (len(good) - 1) / 99) for step in range(100)):
        overlaps = [
            [sum(score > good[place] for score in region) / len(region) for region in own] for own in regions
        ]
        if average == "region":
            pro = np.mean([overlap for own in overlaps for overlap in own])
        else:
            pro = np.mean([np.mean(own) for own in overlaps if own])
        points.append((1 - (place + 1) / len(good), float(pro)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points[::-1]):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def smooth_case(seed: int, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps of 10 images of 64 x 64, 7 of them with one to four defects; higher on defects."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((10, 64, 64), dtype=bool)
    for mask in masks[3:]:
        for _ in range(rng.integers(1, 5)):
            y, x = rng.integers(4, 60, 2)
            mask[
                y - rng.integers(1, 5) : y + rng.integers(1, 5),
                x - rng.integers(1, 5) : x + rng.integers(1, 5),
            ] = 1
    noise = rng.standard_normal(masks.shape)
    maps = gaussian_filter(noise + shift * masks, (0, 2, 2))
    return maps.astype(np.float32), masks


@settings(deadline=None, max_examples=300)
@given(
    CASES,
    LIMITS,
    st.sampled_from([4, 8]),
    st.sampled_from(["region", "image"]),
    st.sampled_from(["all", "anomalous"]),
)
def test_equals_every_threshold_in_turn(
    case: tuple[np.ndarray, np.ndarray], limit: float, connectivity: int, average: Any, images: Any
) -> None:
    maps, masks = case
    counted = masks.any(axis=(1, 2)) if images == "anomalous" else np.full(len(masks), True)
    assume(masks.any() and not masks[counted].all())
    found = pixel_metrics(
        maps, masks, fpr_limit=limit, connectivity=connectivity, average=average, images=images
    )
    expected = by_thresholds(maps, masks, limit, connectivity, average, images)
    assert found.aupro == pytest.approx(expected, abs=1e-12)
    expected = by_places(maps, masks, limit, connectivity, average, images)
    assert found.aupro_mvtec == pytest.approx(expected, abs=1e-12)
    expected = roc_auc_score(masks[counted].ravel(), maps[counted].ravel())
    assert found.auroc == pytest.approx(expected, abs=1e-12)
    assert all(0 <= value <= 1 + 1e-12 for value in (found.aupro, found.aupro_mvtec, found.auroc))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [0.1, 0.3, 1.0])
def test_near_mvtecs_algorithm(seed: int, limit: float) -> None:
    maps, masks = smooth_case(seed)
    assert 0.3 < aupro(maps, masks, fpr_limit=limit) < 0.99
    # Its error is that of its steps, of which only those up to the limit count: its default, 100, is coarse.
    assert aupro(maps, masks, fpr_limit=limit) == pytest.approx(
        by_quantiles(maps, masks, limit, 1000), abs=1e-3
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [0.1, 0.3, 1.0])
def test_mvtecs_hundred_thresholds_by_name(seed: int, limit: float) -> None:
    maps, masks = smooth_case(seed, shift=1.5)
    found = aupro(maps, masks, fpr_limit=limit, thresholds="mvtec100")
    assert found == pytest.approx(by_places(maps, masks, limit), abs=1e-12)
    # Between thresholds the curve bends above its chords: the coarse one is lower, and not by rounding.
    assert aupro(maps, masks, fpr_limit=limit) - found > 1e-4
    other = {"connectivity": 4, "average": "image", "images": "anomalous"}
    found = aupro(maps, masks, fpr_limit=limit, thresholds="mvtec100", **other)  # type: ignore[arg-type]
    assert found == pytest.approx(by_places(maps, masks, limit, **other), abs=1e-12)  # type: ignore[arg-type]


def test_mvtecs_thresholds_by_hand() -> None:
    """101 good pixels, 0 to 100: the thresholds are 0 to 98 and 100; one region of four pixels."""
    maps = np.array([[*range(101), 200.0, 97.5, 80.0, -1.0]])[:, None]
    masks = np.array([[*[False] * 101, *[True] * 4]])[:, None]
    # In 101ths, (rate, overlap) = (0, 1/4) at 100, (2, 1/4) at 98, (3, 1/2) at 97, ... (20, 1/2) at 80, which
    # is not above itself, (21, 3/4) at 79, then 3/4 up to the limit.
    area = 2 / 4 + (1 / 4 + 1 / 2) / 2 + 17 / 2 + (1 / 2 + 3 / 4) / 2 + 9 * 3 / 4
    found = aupro(maps, masks, fpr_limit=30 / 101, thresholds="mvtec100")
    assert found == pytest.approx(area / 30, abs=1e-12)


def test_pixel_auroc_equals_scikit_learn() -> None:
    maps, masks = smooth_case(3)
    for scores in (maps, maps.astype(np.float64), np.round(maps, 1)):
        assert pixel_auroc(scores, masks) == pytest.approx(
            roc_auc_score(masks.ravel(), scores.ravel()), abs=1e-12
        )
    expected = roc_auc_score(masks[3:].ravel(), maps[3:].ravel())
    assert pixel_auroc(maps, masks, images="anomalous") == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(pixel_auroc(maps, masks), abs=1e-4)


def test_one_call_gives_all() -> None:
    maps, masks = smooth_case(4)
    found = pixel_metrics(maps, masks)
    assert (found.auroc, found.aupro) == (pixel_auroc(maps, masks), aupro(maps, masks))
    assert found.aupro_mvtec == aupro(maps, masks, thresholds="mvtec100")
    variant: dict[str, Any] = {"fpr_limit": 0.1, "connectivity": 4, "average": "image", "images": "anomalous"}
    found = pixel_metrics(maps, masks, **variant)
    assert found.auroc == pixel_auroc(maps, masks, images="anomalous")
    assert found.aupro == aupro(maps, masks, **variant)
    assert found.aupro_mvtec == aupro(maps, masks, thresholds="mvtec100", **variant)


@pytest.mark.parametrize("levels", [None, 5, 40])
@pytest.mark.parametrize("images", ["all", "anomalous"])
def test_precision_is_scikit_learns(levels: int | None, images: str) -> None:
    """Also with many ties between good and defective pixels."""
    maps, masks = smooth_case(6)
    if levels is not None:
        maps = np.round((maps - maps.min()) / np.ptp(maps) * levels).astype(np.float32)
    kept = masks.any(axis=(1, 2)) if images == "anomalous" else np.ones(len(masks), dtype=bool)
    truth, scores = masks[kept].ravel(), maps[kept].ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    found = pixel_metrics(maps, masks, images=images)
    assert found.ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    highest = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    assert found.f1max == pytest.approx(highest, abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_perfect_constant_and_inverted_maps(limit: float) -> None:
    _, masks = smooth_case(5)
    perfect = masks.astype(np.float32)
    assert pixel_metrics(perfect, masks, fpr_limit=limit) == PixelMetrics(1.0, 1.0, 1.0, 1.0, 1.0)
    # One straight line from (0, 0) to (1, 1).
    constant = pixel_metrics(np.full_like(perfect, 7), masks, fpr_limit=limit)
    share = float(masks.mean())
    assert constant.auroc == 0.5
    assert constant.aupro == pytest.approx(limit / 2, abs=1e-15)
    assert constant.ap == pytest.approx(share)
    assert constant.f1max == pytest.approx(2 * share / (1 + share))
    # MVTec's thresholds stop before the lowest good score: its last piece is 1 / (good pixels) wide.
    last = 0.5 / (~masks).sum() if limit == 1 else 0.0
    inverted = pixel_metrics(-perfect, masks, fpr_limit=limit)
    assert (inverted.auroc, inverted.aupro) == (0.0, 0.0)
    assert inverted.aupro_mvtec == pytest.approx(last, abs=1e-15) == constant.aupro_mvtec
    assert (inverted.ap, inverted.f1max) == (constant.ap, constant.f1max)  # flag everything


def test_a_curve_by_hand() -> None:
    """Regions of 1, 1 and 4 pixels, 14 good ones; ties at 4, where the curve slants, and the limit there."""
    maps = np.array(
        [[[9, 0, 4, 0, 4]], [[5, 4, 4, 3, 0]], [[0, 0, 0, 0, 0]], [[8, 0, 0, 0, 0]]], dtype=np.float64
    )
    masks = np.array([[[1, 0, 1, 0, 0]], [[1, 1, 1, 1, 0]], [[0] * 5], [[0] * 5]], dtype=bool)
    # (0, 1/3), at 8 (1/14, 1/3), at 5 (1/14, 5/12), at 4 (2/14, 11/12): half of the last piece is inside.
    area = 1 / 14 / 3 + 0.5 / 14 * (5 / 12 + (5 / 12 + 11 / 12) / 2) / 2
    assert aupro(maps, masks, fpr_limit=1.5 / 14) == pytest.approx(area * 14 / 1.5, abs=1e-14)
    # The first image's two regions weigh as much as the second's one: (0, 1/4), (1/14, 3/8), (2/14, 7/8).
    area = 1 / 14 / 4 + 0.5 / 14 * (3 / 8 + (3 / 8 + 7 / 8) / 2) / 2
    assert aupro(maps, masks, fpr_limit=1.5 / 14, average="image") == pytest.approx(
        area * 14 / 1.5, abs=1e-14
    )
    # Without the good images there are 4 good pixels, one of them tied at 4, the others below everything.
    assert aupro(maps, masks, fpr_limit=0.25, images="anomalous") == pytest.approx((5 / 12 + 11 / 12) / 2)


def test_pixels_that_touch_at_a_corner() -> None:
    masks = np.zeros((1, 4, 4), dtype=bool)
    masks[0, [0, 1, 1], [0, 1, 2]] = True
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 0, 0] = 1  # found at once; the other two are tied with all good pixels
    assert aupro(maps, masks, connectivity=8) == pytest.approx(1 / 3 + 2 / 3 * 0.15)
    assert aupro(maps, masks, connectivity=4) == pytest.approx(1 / 2 + 1 / 2 * 0.15)


@given(CASES)
def test_one_region_up_to_1_is_the_pixel_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = case
    masks = np.zeros_like(masks)
    masks[-1, :2, :2] = True
    assume(not masks.all())
    found = pixel_metrics(maps, masks, fpr_limit=1.0)
    assert found.aupro == pytest.approx(found.auroc, abs=1e-12)


@given(CASES)
def test_only_the_order_of_the_scores_counts(case: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = case
    assume(masks.any() and not masks.all())
    ranks = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    for same in (maps.astype(np.float64), maps * 4, ranks.astype(np.float32), np.expm1(ranks / 200) - 3):
        assert pixel_metrics(same, masks) == pixel_metrics(maps, masks)


def test_layout_order_of_images_and_inputs_kept() -> None:
    maps, masks = smooth_case(6)
    kept = maps.copy(), masks.copy()
    expected = pixel_metrics(maps, masks)
    np.testing.assert_array_equal(maps, kept[0])
    np.testing.assert_array_equal(masks, kept[1])
    assert pixel_metrics(np.asfortranarray(maps), np.asfortranarray(masks)) == expected
    assert pixel_metrics(np.repeat(maps, 2, axis=2)[..., ::2], masks) == expected
    turned = pixel_metrics(maps[::-1].transpose(0, 2, 1), masks[::-1].transpose(0, 2, 1))
    assert turned.aupro == pytest.approx(expected.aupro, abs=1e-14)
    assert turned.auroc == expected.auroc


@pytest.mark.parametrize("metric", [aupro, pixel_auroc, pixel_metrics])
def test_scores_that_are_no_numbers_are_refused(metric: Any) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        for where in (True, False):
            maps, masks = smooth_case(7)
            maps[5][masks[5] == where] = bad
            count = (masks[5] == where).sum()
            with pytest.raises(EstimatorError, match=rf"^{count} of 40960 pixel scores are NaN or infinite"):
                metric(maps, masks)
    # Only what counts is looked at.
    maps, masks = smooth_case(7)
    maps[0, :, :3] = np.inf
    metric(maps, masks, images="anomalous")
    with pytest.raises(EstimatorError, match="192 of 40960"):
        metric(maps, masks)


@pytest.mark.parametrize("metric", [aupro, pixel_auroc, pixel_metrics])
def test_one_kind_of_pixels_is_refused(metric: Any) -> None:
    maps = np.zeros((2, 3, 3), dtype=np.float32)
    with pytest.raises(DatasetError, match="have no defective one"):
        metric(maps, np.zeros((2, 3, 3), dtype=bool))
    with pytest.raises(DatasetError, match="have no good one"):
        metric(maps, np.ones((2, 3, 3), dtype=bool))
    masks = np.zeros((2, 3, 3), dtype=bool)
    masks[1] = True
    assert metric(maps, masks)
    with pytest.raises(DatasetError, match="the anomalous masks have no good one"):
        metric(maps, masks, images="anomalous")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("fpr_limit", 0.0, r"\(0, 1\]"),
        ("fpr_limit", 1.01, r"\(0, 1\]"),
        ("fpr_limit", float("nan"), r"\(0, 1\]"),
        ("connectivity", 6, "4, 8"),
        ("average", "pixel", "region, image"),
        ("images", "good", "all, anomalous"),
    ],
)
def test_unknown_variants_are_refused(key: str, value: Any, allowed: str) -> None:
    maps, masks = smooth_case(8)
    metrics: list[Any] = [aupro, pixel_metrics, *([pixel_auroc] if key == "images" else [])]
    for metric in metrics:
        with pytest.raises(ConfigError, match=f"{key}={value}.*{allowed}"):
            metric(maps, masks, **{key: value})


def test_shapes_and_dtypes_are_checked() -> None:
    maps, masks = smooth_case(9)
    for bad_maps, bad_masks in ((maps[:-1], masks), (maps[0], masks[0]), (maps, masks[:, :-1])):
        with pytest.raises(ValueError, match="one shape"):
            pixel_metrics(bad_maps, bad_masks)
    with pytest.raises(ValueError, match="float16 and bool"):
        pixel_metrics(maps.astype(np.float16), masks)
    with pytest.raises(ValueError, match="float32 and uint8"):
        pixel_metrics(maps, masks.astype(np.uint8))
