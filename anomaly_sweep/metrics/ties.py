"""Scores that are equal but for rounding errors become equal.

Scores that are equal in exact arithmetic (of duplicate images, of symmetric ones, of a distance that is
constant between training points) come out of two correct computations in either order. Every metric of a
trial is of settled scores, and so are the scores that are kept.

How far apart rounding can push two equal scores depends on what the scores are, which the estimator says
(``score_scale``), in the words of Stevens, "On the theory of scales of measurement" (1946):

``ratio``
    Distances and their squares: not negative, with a natural zero. A sum of N terms of one sign is right to N
    units in its last place, so the gap of a tie is a share of the pair's own size. Multiplying all scores by
    a number changes no tie, and no other score does.
``interval``
    Log-densities, decision values, anything unknown: signed, and zero is a point like any other. The terms
    cancel, so what counts is their typical size: the gap is a share of the pair's distance from the median,
    or of the median absolute deviation where that is more (and some units in the last place of the scores
    themselves, which a large offset leaves no digits below). Multiplying all scores by a number changes no
    tie; adding one changes none as long as it is below about 2**5 deviations, or the sums are exact.
    Outliers, fewer than half of the scores, move the median and the deviation hardly at all.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_sweep.errors import EstimatorError

ScoreScale: TypeAlias = Literal["ratio", "interval"]

#: Share of its size by which rounding may push apart two equal sums: each of up to 2**12 terms, at half a
#: unit in the last place (2**-53) a term.
TIE_RESOLUTION = 2.0**-40
#: For the ``interval`` scale: the same in units of the scores' own last places, 128 of them.
LAST_DIGITS = 2.0**-45


def settle_ties(scores: ArrayLike, scale: ScoreScale) -> NDArray[np.float64]:
    """Make scores equal that differ by rounding errors only.

    In order of size, each score that is within a tie's gap above its neighbour takes its neighbour's value.
    Gaps decide, not a grid: a grid has edges on which equal scores can come apart.

    Parameters
    ----------
    scores : array_like of shape (..., n), finite
        Each row along the last axis is settled by itself.
    scale : {"ratio", "interval"}
        What the scores are; see this module.

    Returns
    -------
    ndarray of the same shape, float64
        Each value is one of the row's scores, none is above its own score. Settled scores are left as they
        are on the ratio scale.

    Raises
    ------
    EstimatorError
        If a score is NaN or infinite.
    """
    values = np.asarray(scores, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        raise EstimatorError(f"{int((~finite).sum())} of {values.size} scores are NaN or infinite")
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1)
    with np.errstate(over="ignore"):  # a gap above the largest number is a gap
        new = np.diff(ranked, axis=-1) > _gaps(ranked, scale)
    settled = np.empty_like(values)
    np.put_along_axis(settled, order, np.take_along_axis(ranked, first_of_run(new), axis=-1), axis=-1)
    return settled


def first_of_run(new: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where each place's run starts, (..., n), if ``new`` (..., n - 1) tells which places start one."""
    starts = np.zeros((*new.shape[:-1], new.shape[-1] + 1), dtype=np.intp)
    np.multiply(new, np.arange(1, new.shape[-1] + 1), out=starts[..., 1:])
    return np.maximum.accumulate(starts, axis=-1)


def _gaps(ranked: NDArray[np.float64], scale: ScoreScale) -> NDArray[np.float64]:
    """The largest gap between neighbours that is a tie, (..., n - 1)."""
    # Scaled first, which powers of two do without rounding: differences and medians then cannot overflow.
    size = _larger(np.abs(TIE_RESOLUTION * ranked))
    if scale == "ratio":
        return size
    scaled = TIE_RESOLUTION * ranked
    deviations = np.abs(scaled - np.median(scaled, axis=-1, keepdims=True))
    typical = np.median(deviations, axis=-1, keepdims=True)
    gaps: NDArray[np.float64] = np.maximum(
        np.maximum(_larger(deviations), typical), size * (LAST_DIGITS / TIE_RESOLUTION)
    )
    return gaps


def _larger(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The larger one of each two neighbours."""
    larger: NDArray[np.float64] = np.maximum(values[..., 1:], values[..., :-1])
    return larger
