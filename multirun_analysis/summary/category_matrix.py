"""AUROCs of several choices on the same categories: what paired comparisons are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.coverage import listed
from multirun_analysis.summary.means import mean_table
from multirun_analysis.summary.study import DetectionStudy


@dataclass(frozen=True)
class CategoryMatrix:
    """Values of shape (categories, choices), complete."""

    categories: tuple[str, ...]
    choices: tuple[str, ...]
    values: Floats


@dataclass(frozen=True)
class Lacking:
    """Why there is no complete matrix."""

    why: str


def category_matrix(
    study: DetectionStudy,
    dimension: str,
    choices: Sequence[str],
    at: Mapping[str, str],
    *,
    average_over: str | None = None,
    of: tuple[str, ...] | None = None,
) -> CategoryMatrix | Lacking:
    """AUROC of each category at each choice of a dimension.

    Parameters
    ----------
    study
        Whose trials.
    dimension, choices
        What is compared. A choice without trials, or a category without a value, leaves the matrix lacking.
    at
        The choices that are the same for all.
    average_over
        A dimension of which each value averages every choice that did not fail throughout.
    of
        The choices averaged over instead.
    """
    where = study.where(**at) | {dimension: tuple(choices)}
    over: list[str] = []
    if average_over is not None:
        over = [average_over]
        where[average_over] = of or tuple(study.works(average_over, **at))
    pivot = mean_table(study.frame, "category", dimension, where, average_over=over)
    available = [choice for choice in choices if (pivot.trials[dimension] == choice).any()]
    if len(available) < len(choices):
        absent = [choice for choice in choices if choice not in available]
        return Lacking(f"no trials with {dimension} {listed(absent)}")
    if of is not None:
        absent = [name for name in of if not (pivot.trials[over[0]] == name).any()]
        if absent:
            return Lacking(f"no trials with {over[0]} {listed(absent)}")
    values = pivot.values.reindex(columns=list(choices)).astype(float)
    array = np.asarray(values, dtype=np.float64)
    if np.isnan(array).any():
        places = [f"{values.index[i]} at {values.columns[j]}" for i, j in np.argwhere(np.isnan(array))]
        return Lacking(f"no value of {listed(places)}")
    return CategoryMatrix(tuple(map(str, values.index)), tuple(choices), array)
