"""Metrics of anomaly maps: AUPRO over defect regions and pixel AUROC, exact, from one sort.

The same sort gives AUPRO as MVTec's evaluation code reads it, at 100 thresholds.

A pixel that is flagged at false positive rate F adds its weight to the PRO at every rate above F, so the
area is a sum over defective pixels of weight x (limit - F): only their ranks among the good pixels are
needed. The good pixels' scores are sorted by value (no order is carried along), the defective ones are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label

from anomaly_sweep.checks import in_range, one_of
from anomaly_sweep.errors import DatasetError, EstimatorError

#: Anomaly maps (n, h, w), float32 or float64.
AnomalyMaps: TypeAlias = NDArray[np.floating[Any]]
#: Thresholds of MVTec's evaluation code.
MVTEC_THRESHOLDS = 100


@dataclass(frozen=True)
class PixelMetrics:
    """Metrics of all pixels together, each in [0, 1].

    Attributes
    ----------
    auroc, aupro
        What :func:`pixel_auroc` and :func:`aupro` give.
    aupro_mvtec
        AUPRO with ``thresholds="mvtec100"``.
    ap, f1max
        Average precision and the highest F1 of the pixels; see
        :class:`anomaly_sweep.metrics.ranking.RankingMetrics`.
    """

    auroc: float
    aupro: float
    aupro_mvtec: float
    ap: float
    f1max: float


def aupro(
    maps: AnomalyMaps,
    masks: NDArray[np.bool_],
    *,
    fpr_limit: float = 0.3,
    connectivity: int = 8,
    average: str = "region",
    images: str = "all",
    thresholds: str = "all",
) -> float:
    """Area under the per-region overlap (PRO) curve up to a false positive rate, divided by that rate.

    At a threshold, PRO is the mean over the defect regions (connected components of the masks) of the share
    of the region's pixels at or above it; the false positive rate is that of the good pixels of all images.
    Points are joined by straight lines, also where good and defective pixels are tied and at the limit, so
    constant maps give ``fpr_limit / 2``.

    Parameters
    ----------
    maps : ndarray of shape (n, h, w), float32 or float64, finite
        Anomaly scores of the pixels; higher = more anomalous. Neither copied whole nor changed.
    masks : ndarray of shape (n, h, w), bool
        True on defective pixels; all False for a good image.
    fpr_limit : float in (0, 1]
        Where the integration ends.
    connectivity : 8 or 4
        Whether pixels that touch at a corner only are of one region (8) or not (4).
    average : {"region", "image"}
        ``region``: every region of every image weighs the same (Bergmann et al.). ``image``: every image that
        has a region weighs the same, and its regions weigh the same within it.
    images : {"all", "anomalous"}
        ``all``: the good pixels are those of all images. ``anomalous``: only those of images with a defective
        pixel, as if the other images were not there.
    thresholds : {"all", "mvtec100"}
        ``all``: every score is a threshold. ``mvtec100``: as the evaluation code published with MVTec 3D-AD
        does it. The thresholds are the good pixels' scores at 100 equidistant places of their order, a pixel
        counts above a threshold only, the false positive rate is that of the place (whatever ties there are),
        and the curve begins at the rate 0 of the highest good score. Under a limit of 0.3 are 30 of them, and
        where the curve bends between two its chord lies below it: this reads lower, on good maps by up to
        some tenths of a point.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    EstimatorError
        If a score that counts is NaN or infinite.
    DatasetError
        If there is no defective or no good pixel.
    ConfigError
        For an unknown variant or a limit out of range.
    ValueError
        If shapes or dtypes are not those above.
    """
    one_of("thresholds", thresholds, ("all", "mvtec100"))
    both = pixel_metrics(
        maps, masks, fpr_limit=fpr_limit, connectivity=connectivity, average=average, images=images
    )
    return both.aupro if thresholds == "all" else both.aupro_mvtec


def pixel_auroc(maps: AnomalyMaps, masks: NDArray[np.bool_], *, images: str = "all") -> float:
    """Area under the ROC curve of all pixels together, ties counted half; see :func:`aupro`."""
    return _auroc(_ranks(maps, masks, images))


def pixel_metrics(
    maps: AnomalyMaps,
    masks: NDArray[np.bool_],
    *,
    fpr_limit: float = 0.3,
    connectivity: int = 8,
    average: str = "region",
    images: str = "all",
) -> PixelMetrics:
    """:func:`pixel_auroc`, :func:`aupro` and what else the same sort gives, in the time of one of them."""
    in_range("fpr_limit", fpr_limit, 0, 1, open_low=True)
    one_of("connectivity", connectivity, (4, 8))
    one_of("average", average, ("region", "image"))
    ranks = _ranks(maps, masks, images)
    weights = _weights(np.asarray(masks), connectivity, average)[ranks.order]
    return PixelMetrics(
        _auroc(ranks),
        float(np.average(_areas(ranks, fpr_limit), weights=weights)),
        _by_places(ranks, weights, fpr_limit),
        *_precision(ranks),
    )


@dataclass(frozen=True)
class Defect:
    """A defect of an image, of which a part may be enough.

    Parameters
    ----------
    image
        Its image's place among the maps.
    marked : ndarray of shape (h, w), bool
        True on its pixels; defects may overlap.
    saturation
        Number of its pixels, above 0, that have to be flagged for all of it to count as found.
    """

    image: int
    marked: NDArray[np.bool_]
    saturation: float


def au_spro(maps: AnomalyMaps, defects: Sequence[Defect], *, fpr_limit: float = 0.05) -> float:
    """Area under the saturated per-region overlap (sPRO) curve up to a false positive rate, divided by it.

    At a threshold, the sPRO of a defect is the number of its pixels at or above it divided by its saturation,
    at most 1; the curve has the mean over all defects. The false positive rate is that of the pixels of all
    images that belong to no defect. Every score is a threshold, where the evaluation code published with
    MVTec LOCO AD refines its thresholds until neighbouring points of the curve are close.

    Parameters
    ----------
    maps : ndarray of shape (n, h, w), float32 or float64, finite
        Anomaly scores of the pixels; higher = more anomalous.
    defects
        Those of all images; each has a pixel.
    fpr_limit : float in (0, 1]
        Where the integration ends.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    EstimatorError
        If a score is NaN or infinite.
    DatasetError
        If there is no defect, or all pixels are defective.
    ConfigError
        For a limit out of range.
    ValueError
        If shapes or dtypes are not those above, or a defect has no pixel or no saturation.

    References
    ----------
    Bergmann et al., Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
    Localization, IJCV 2022, section 4.2.
    """
    in_range("fpr_limit", fpr_limit, 0, 1, open_low=True)
    masks = np.zeros(np.shape(maps), dtype=np.bool_)
    for defect in defects:
        if not defect.marked.any() or not defect.saturation > 0:
            raise ValueError("a defect needs a pixel and a saturation above 0")
        masks[defect.image] |= defect.marked
    ranks = _ranks(maps, masks, "all")
    # Of each defective pixel, as maps[masks] lists them: its rank from the highest score, its area.
    rank = np.empty(ranks.order.size, dtype=np.intp)
    rank[ranks.order] = np.arange(ranks.order.size)[::-1]
    areas = np.empty(ranks.order.size)
    areas[ranks.order] = _areas(ranks, fpr_limit)
    first = np.concatenate([[0], np.cumsum(np.count_nonzero(masks, axis=(1, 2)))])
    found = []
    for defect in defects:
        pixels = first[defect.image] + np.flatnonzero(defect.marked[masks[defect.image]])
        by_score = areas[pixels[np.argsort(rank[pixels])]]
        # The pixel that is flagged k-th adds what the overlap grows by; tied ones have one area.
        overlap = np.minimum(np.arange(by_score.size + 1) / defect.saturation, 1.0)
        found.append(float(np.diff(overlap) @ by_score))
    return float(np.mean(found))


@dataclass(frozen=True)
class _Ranks:
    """Where the defective pixels stand among the good ones.

    Attributes
    ----------
    order : ndarray of shape (m,), intp
        The defective pixels (as ``maps[masks]`` lists them) by ascending score.
    above, tied : ndarray of shape (m,), int64
        Good pixels with a higher score, and with the same, in that order.
    first : ndarray of shape (m,), int64
        Defective pixels with a lower score.
    n_good : int
    """

    order: NDArray[np.intp]
    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    first: NDArray[np.int64]
    n_good: int


def _ranks(maps: AnomalyMaps, masks: NDArray[np.bool_], images: str) -> _Ranks:
    one_of("images", images, ("all", "anomalous"))
    maps, masks = np.asarray(maps), np.asarray(masks)
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"maps and masks must be of one shape (n, h, w), got {maps.shape} and {masks.shape}")
    if maps.dtype not in (np.float32, np.float64) or masks.dtype != np.bool_:
        raise ValueError(
            f"maps must be float32 or float64 and masks bool, got {maps.dtype} and {masks.dtype}"
        )
    counted = ~masks
    if images == "anomalous":
        counted[~masks.any(axis=(1, 2))] = False
    good, defective = maps[counted], maps[masks]
    for kind, pixels in (("defective", defective), ("good", good)):
        if not pixels.size:
            of = "the anomalous" if images == "anomalous" else "the"
            raise DatasetError(f"pixel metrics need good and defective pixels: {of} masks have no {kind} one")
    good.sort()
    order = np.argsort(defective)
    scores = defective[order]
    # What is not finite was sorted to the ends.
    if not np.isfinite([good[0], good[-1], scores[0], scores[-1]]).all():
        bad = sum(int((~np.isfinite(values)).sum()) for values in (good, scores))
        raise EstimatorError(f"{bad} of {good.size + scores.size} pixel scores are NaN or infinite")
    below = np.searchsorted(good, scores)
    # Few are tied as a rule, and a second search among all would take as long as the first.
    met = good[np.minimum(below, good.size - 1)] == scores
    tied = np.zeros(scores.size, dtype=np.int64)
    tied[met] = np.searchsorted(good, scores[met], side="right") - below[met]
    return _Ranks(order, good.size - below - tied, tied, np.searchsorted(scores, scores), good.size)


def _auroc(ranks: _Ranks) -> float:
    # Twice the pairs in the wrong order: integers, no rounding.
    twice = int((2 * ranks.above + ranks.tied).sum())
    return 1 - twice / (2 * ranks.n_good * ranks.above.size)


def _precision(ranks: _Ranks) -> tuple[float, float]:
    """Average precision and the highest F1, with each distinct score of a defective pixel as a threshold.

    A threshold between them only adds good pixels: precision and F1 fall.
    """
    m = ranks.above.size
    true = m - ranks.first
    flagged = true + ranks.above + ranks.tied
    return float(np.mean(true / flagged)), float((2 * true / (flagged + m)).max())


def _areas(ranks: _Ranks, limit: float) -> NDArray[np.float64]:
    """Share of the area up to the limit under a pixel's curve: 0 to ``start``, straight to 1 at ``end``."""
    start = ranks.above / ranks.n_good
    end = (ranks.above + ranks.tied) / ranks.n_good
    areas = np.maximum(limit - (start + end) / 2, 0.0)
    cut = (start < limit) & (limit < end)
    areas[cut] = (limit - start[cut]) ** 2 / (2 * (end[cut] - start[cut]))
    return areas / limit


def _by_places(ranks: _Ranks, weights: NDArray[np.float64], limit: float) -> float:
    """AUPRO by MVTec's thresholds: the good scores at equidistant places of their ascending order."""
    places = np.linspace(0, ranks.n_good - 1, MVTEC_THRESHOLDS, dtype=int)[::-1]
    # A score is above the good one at a place if more good ones are below it than stand before that place.
    below = ranks.n_good - ranks.above - ranks.tied
    flagged = below.size - np.searchsorted(below, places, side="right")
    found = np.concatenate([[0.0], np.cumsum(weights[::-1])])
    rates = np.append(1 - (places + 1) / ranks.n_good, 1.0)
    overlaps = np.append(found[flagged] / found[-1], 1.0)
    inside = rates < limit
    x = np.append(rates[inside], limit)
    y = np.append(overlaps[inside], np.interp(limit, rates, overlaps))
    return float(np.trapezoid(y, x)) / limit


def _weights(masks: NDArray[np.bool_], connectivity: int, average: str) -> NDArray[np.float64]:
    """Weight of each defective pixel, in the order of ``maps[masks]``.

    The pixels of one region share 1 (``average="region"``) or 1 / (regions of its image) (``"image"``).
    """
    structure = generate_binary_structure(2, 2 if connectivity == 8 else 1)
    weights = []
    for mask in masks[masks.any(axis=(1, 2))]:
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        regions, n_regions = label(box, structure)
        region = regions[box]
        share = np.bincount(region) * (n_regions if average == "image" else 1)
        weights.append(1.0 / share[region])
    return np.concatenate(weights)
