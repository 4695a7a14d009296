"""Two sweeps beside each other: what changed, by how much, how sure, and what only one of them has."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_sweep.tracking.names import CONTEXT_PARAMS, DETECTION, GROUPS, STATUS_OK
from multirun_analysis.errors import AnalysisError
from multirun_analysis.rendering.table import Block, Cell, Row, Table
from multirun_analysis.stats.intervals import (
    INTERVAL_CATEGORIES,
    POINTS,
    Floats,
    Interval,
    apart_interval,
    mean_interval,
)
from multirun_analysis.summary.coverage import listed, provenance, random_weights
from multirun_analysis.trials.labels import ordered
from multirun_analysis.trials.long_table import context_in_words
from multirun_analysis.trials.run_info import Origin
from multirun_analysis.trials.tasks import trials_of

LARGEST = 5


@dataclass(frozen=True)
class Side:
    """One sweep: its complete configurations (index: the six groups) by category, and its context."""

    name: str
    trials: pd.DataFrame
    values: pd.DataFrame
    incomplete: int
    context: dict[str, str]


def compare(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], origins: Sequence[Origin] = ()
) -> Table:
    """How AUROC differs between two sets of trials, over the configurations complete in both.

    Where both have the same categories, the intervals are of the differences category by category; where they
    have not, of two independent sets of categories.

    Parameters
    ----------
    first, second
        Trials, each once; those of localization are left out.
    names
        What the two are called.
    origins
        The runs they are of.

    Returns
    -------
    Table
        Its notes say in what the two differ: data set, weights, sizes, images, categories, configurations.

    Raises
    ------
    AnalysisError
        If a side holds several data sets, weights or sizes of one configuration, or they share none.

    Examples
    --------
    >>> from multirun_analysis.trials.long_table import as_trials
    >>> def trials(auroc, digest):
    ...     row = {"dataset": "parts", "category": "bolt", "status": "ok"}
    ...     row |= {"data": digest, "image_auroc": auroc}
    ...     return as_trials(pd.DataFrame([row | dict.fromkeys(GROUPS, "x")]))
    >>> table = compare(trials(0.7, "d1"), trials(0.8, "d2"), ("before", "after"))
    >>> table.blocks[0].rows[0].cells[2].printed, table.notes[0]
    ('+10.00', 'The images differ (names or contents) of: bolt.')
    """
    a, b = _side(first, names[0]), _side(second, names[1])
    shared = a.values.index.intersection(b.values.index)
    if shared.empty:
        raise AnalysisError(
            f"{a.name} and {b.name} share no configuration that is complete in both: "
            f"{len(a.values)} and {len(b.values)} are complete"
        )
    ours, theirs = a.values.loc[shared], b.values.loc[shared]
    paired = set(ours) == set(theirs)
    theirs = theirs[list(ours)] if paired else theirs
    blocks = [Block("all shared configurations", (_row("mean", ours, theirs, paired),))]
    for group in GROUPS:
        choices = ordered(group, map(str, shared.get_level_values(group).unique()))
        if len(choices) > 1:
            chosen = [(choice, shared.get_level_values(group) == choice) for choice in choices]
            blocks.append(
                Block(group, tuple(_row(name, ours[mask], theirs[mask], paired) for name, mask in chosen))
            )
    return Table(
        name="comparison",
        title=f"{b.name} against {a.name}",
        caption=(
            f"Means over {len(shared)} configurations complete in both; differences ({b.name} - {a.name}) in "
            f"points (0.01 of AUROC) with 95 % intervals over {'the shared' if paired else 'each own'} "
            f"categories ({'paired t' if paired else 'Welch'}), each line's alone: of many lines some miss 0 "
            "by chance.",
        ),
        corner="configurations",
        columns=(a.name, b.name, "difference", "[95 %]"),
        blocks=tuple(blocks),
        notes=(
            *_notes(a, b, paired, ours, theirs),
            *(f"{side.name}: {line}" for side in (a, b) for line in provenance(side.trials, origins)),
        ),
        warnings=random_weights(pd.concat([a.trials, b.trials])),
    )


def _side(trials: pd.DataFrame, name: str) -> Side:
    trials = context_in_words(trials_of(trials, DETECTION, name))
    keys = list(GROUPS)
    mixed = [c for c in CONTEXT_PARAMS if trials.groupby(keys, dropna=False)[c].nunique().gt(1).any()]
    if mixed or trials["dataset"].nunique() > 1:
        raise AnalysisError(
            f"{name} holds several values of {', '.join(mixed) or 'dataset'}: compare one at a time"
        )
    ok = trials[trials["status"].eq(STATUS_OK).fillna(False).astype(bool)]
    categories = sorted(trials["category"].dropna().unique())
    table = ok.pivot(index=keys, columns="category", values="image_auroc").reindex(columns=categories)
    context = {
        c: ", ".join(sorted(map(str, trials[c].dropna().unique()))) or "not recorded" for c in CONTEXT_PARAMS
    }
    complete = table.dropna()
    return Side(name, trials, complete, len(trials[keys].drop_duplicates()) - len(complete), context)


def _row(name: str, ours: pd.DataFrame, theirs: pd.DataFrame, paired: bool) -> Row:
    a: Floats = ours.mean(axis=0).to_numpy(dtype=np.float64)
    b: Floats = theirs.mean(axis=0).to_numpy(dtype=np.float64)
    interval = difference(a, b, paired=paired)
    sure = min(len(a), len(b)) >= INTERVAL_CATEGORIES
    return Row(
        name,
        (
            Cell(float(a.mean())),
            Cell(float(b.mean())),
            Cell(interval.value, 2, signed=True),
            Cell(text=f"[{interval.low:+.2f}, {interval.high:+.2f}]" if sure else ""),
        ),
    )


def difference(a: Floats, b: Floats, *, paired: bool) -> Interval:
    """Mean of ``b`` minus mean of ``a`` in points, by category; shapes (n,) and (m,), n = m where paired."""
    return mean_interval(POINTS * (b - a)) if paired else apart_interval(POINTS * a, POINTS * b)


def _notes(a: Side, b: Side, paired: bool, ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    notes = [
        f"{name} differs: {a.context[name]} in {a.name}, {b.context[name]} in {b.name}."
        for name in CONTEXT_PARAMS
        if a.context[name] != b.context[name]
    ]
    changed = _changed(a, b)
    if changed:
        notes.append(f"The images differ (names or contents) of: {listed(changed)}.")
    if not paired:
        only = sorted(set(map(str, ours)) ^ set(map(str, theirs)))
        notes.append(f"Categories that only one has: {listed(only)}.")
    elif len(ours.columns) < INTERVAL_CATEGORIES:
        notes.append(f"No intervals with fewer than {INTERVAL_CATEGORIES} categories.")
    for side, other in ((a, b), (b, a)):
        unpaired = side.values.index.difference(other.values.index)
        if len(unpaired):
            notes.append(f"Complete in {side.name} only: {len(unpaired)} ({listed(map(_label, unpaired))}).")
        if side.incomplete:
            notes.append(f"Failed or missing in {side.name}: {side.incomplete} configurations, left out.")
    change = (theirs.mean(axis=1) - ours.mean(axis=1)) * POINTS
    largest = change.loc[change.abs().sort_values(ascending=False).index[:LARGEST]]
    if change.abs().max() > 0:
        changes = listed(f"{_label(key)} {value:+.2f}" for key, value in largest.items())
        notes.append(
            f"Largest changes of a configuration's mean, picked from {len(change)} and so larger than a "
            f"second run would show: {changes}."
        )
    else:
        notes.append("Every shared value is the same.")
    return notes


def _changed(a: Side, b: Side) -> list[str]:
    """The categories of which the two have read different images, as far as both recorded what they read."""
    first, second = (
        side.trials.dropna(subset=["data"]).groupby("category")["data"].agg(set) for side in (a, b)
    )
    return [str(name) for name in first.index.intersection(second.index) if first[name] != second[name]]


def _label(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
