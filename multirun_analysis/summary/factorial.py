"""The part of a grid in which every combination ran, and how its variance divides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly_sweep.tracking.names import GROUPS
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import ordered

CATEGORY = "category"


@dataclass(frozen=True)
class Factorial:
    """Every combination of choices on every category.

    Attributes
    ----------
    factors
        The groups with several choices, then ``category``: the axes of ``values``.
    choices
        The choices along each axis.
    values
        AUROC, complete; shape = the numbers of choices.
    left_out
        Choices of the study for which combinations lack, as ``group=choice``.
    """

    factors: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    values: Floats
    left_out: tuple[str, ...]


def full_factorial(study: DetectionStudy) -> Factorial | None:
    """The largest full grid that leaving out choices finds; None if no group has two choices in it.

    The choice that lacks the largest share of its combinations goes first, until none lacks. A combination
    lacks if one of the categories does.
    """
    trials = study.finished().trials()
    groups = [name for name in GROUPS if name != "backbone" and trials[name].nunique() > 1]
    if not groups or trials.empty:
        return None
    choices = {name: list(ordered(name, map(str, trials[name].dropna().unique()))) for name in groups}
    axes = [*choices.values(), list(study.categories)]
    full = pd.MultiIndex.from_product(axes, names=[*groups, CATEGORY])
    values = trials.set_index([*groups, CATEGORY])["image_auroc"]
    if not values.index.is_unique:  # a group without a choice recorded
        return None
    array = values.reindex(full).to_numpy(dtype=np.float64).reshape([len(axis) for axis in axes])
    left_out = []
    present = ~np.isnan(array).any(axis=-1)
    while present.size and not present.all():
        axis, index = _worst(present)
        left_out.append(f"{groups[axis]}={choices[groups[axis]].pop(index)}")
        present, array = np.delete(present, index, axis), np.delete(array, index, axis)
    several = [axis for axis, size in enumerate(present.shape) if size > 1]
    if not present.size or not several:
        return None
    single = tuple(axis for axis in range(present.ndim) if axis not in several)
    names = [groups[axis] for axis in several]
    return Factorial(
        (*names, CATEGORY),
        (*(tuple(choices[name]) for name in names), study.categories),
        np.squeeze(array, axis=single),
        tuple(left_out),
    )


def variance_shares(values: Floats) -> dict[tuple[int, ...], float]:
    """Share of the variance that each axis, and each pair of axes beyond its two, accounts for.

    Functional ANOVA with every combination weighted alike: the components are orthogonal, and what their
    shares lack of 1 belongs to interactions of three and more. NaN where nothing varies.

    Parameters
    ----------
    values : array with an axis for each factor

    Returns
    -------
    dict
        Keys ``(axis,)`` and ``(axis, axis)``.
    """
    centred = values - values.mean()
    total = float((centred**2).mean())
    parts: dict[tuple[int, ...], Floats] = {}
    axes = range(values.ndim)
    for subset in itertools.chain(itertools.combinations(axes, 1), itertools.combinations(axes, 2)):
        part = centred.mean(axis=tuple(axis for axis in axes if axis not in subset), keepdims=True)
        for axis in subset if len(subset) == 2 else ():
            part = part - parts[(axis,)]
        parts[subset] = part
    if total == 0:
        return dict.fromkeys(parts, float("nan"))
    return {subset: float((part**2).mean()) / total for subset, part in parts.items()}


def _worst(present: NDArray[np.bool_]) -> tuple[int, int]:
    """Axis and index of the choice that lacks most; of equals, of the axis with most choices."""
    found = []
    for axis, size in enumerate(present.shape):
        others = tuple(other for other in range(present.ndim) if other != axis)
        found += [
            (float(share), size, axis, index) for index, share in enumerate((~present).mean(axis=others))
        ]
    _, _, axis, index = max(found)
    return axis, index
