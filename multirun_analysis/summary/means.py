"""Means over categories with honest coverage: a mean is there only where every category is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from anomaly_sweep.tracking.names import STATUS_OK, SUBSET_PARAMS
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.long_table import context_in_words, dimensions

MISSING = "missing"
NO_VALUE = "no value"


@dataclass(frozen=True)
class MeanTable:
    """A table of means and what they stand on.

    Attributes
    ----------
    rows, cols
        The columns of the long table that the rows and columns of this one are.
    values
        Mean per cell, NaN where a category is failed or missing.
    present, expected
        Categories with a value, and categories of the data set, per cell.
    holes
        One row for each value a cell lacks: the cell, the category, what is averaged over, ``status``
        ("failed", "missing", or "no value" of a trial that did not fail) and ``reason``.
    trials
        The trials the table was made of.
    """

    rows: str
    cols: str
    values: pd.DataFrame
    present: pd.DataFrame
    expected: pd.DataFrame
    holes: pd.DataFrame
    trials: pd.DataFrame

    def value(self, row: object, col: object) -> float | None:
        """The mean of a cell, None where it is missing or not in the table."""
        if row not in self.values.index or col not in self.values.columns:
            return None
        value: Any = self.values.at[row, col]
        return None if pd.isna(value) else float(value)


def mean_table(
    frame: pd.DataFrame,
    rows: str,
    cols: str,
    where: Mapping[str, Any],
    *,
    average_over: Sequence[str] = (),
    value: str = "image_auroc",
) -> MeanTable:
    """Mean over the categories of the data set, for each pair of a row and a column value.

    Parameters
    ----------
    frame
        Trials. The categories a mean needs are all those the frame has of the data set.
    rows, cols
        Columns of the long table; one of them may be ``category``.
    where
        The value of a column that the trials must have, or a tuple of values; None stands for any. A
        tuple for ``rows`` or ``cols`` is also the order of that axis, and every value of it is in the
        table, run or not.
    average_over
        Dimensions of which a cell averages all choices that occur (for a backbone, when ``rows`` or
        ``cols`` is the backbone). A choice that lacks a category leaves the cell missing.
    value
        The column of the long table that is averaged.

    Raises
    ------
    AnalysisError
        If a cell would gather several configurations over a dimension that was not named.
    """
    trials = _where(frame, where)
    _refuse_mixtures(trials, rows, cols, where, average_over)
    expected = _expected(frame, trials, rows, cols, where, list(average_over))
    keys = list(dict.fromkeys([rows, cols, "category", *average_over]))
    numbers = trials[value].astype("Float64").astype("float64")
    full = expected.merge(trials[[*keys, "status", "reason"]].assign(_value=numbers), how="left", on=keys)
    ok = full["status"].eq(STATUS_OK).fillna(False).astype(bool)
    full["_value"] = full["_value"].where(ok)
    full["_complete"] = full["_value"].notna()
    cells = _averaged(full, rows, cols) if average_over else full
    grouped = cells.groupby([rows, cols], sort=False)
    present, wanted = grouped["_complete"].sum(), grouped["_complete"].size()
    means = grouped["_value"].mean().where(present == wanted)
    holes = full[~full["_complete"]].drop(columns=["_value", "_complete"])
    status = holes["status"].mask(ok[holes.index], NO_VALUE).fillna(MISSING)
    return MeanTable(
        rows,
        cols,
        values=means.unstack(),
        present=present.unstack(),
        expected=wanted.unstack(),
        holes=holes.assign(status=status, reason=holes["reason"].fillna("")).reset_index(drop=True),
        trials=trials,
    )


def _averaged(full: pd.DataFrame, rows: str, cols: str) -> pd.DataFrame:
    """Each category of a cell with the mean of what is averaged over, complete where none of it lacks."""
    # It is a key of the cell too, when rows or cols is the category.
    category = full["category"].rename("_category")
    grouped = full.groupby([full[rows], full[cols], category], sort=False)
    means, complete = grouped["_value"].mean(), grouped["_complete"].all()
    return pd.DataFrame({"_value": means, "_complete": complete}).reset_index()


def _where(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    mask = np.ones(len(frame), dtype=bool)
    for column, value in where.items():
        if isinstance(value, tuple):
            mask &= frame[column].isin(value).to_numpy(dtype=bool)
        elif value is not None:
            mask &= frame[column].eq(value).to_numpy(dtype=bool, na_value=False)
    return frame[mask]


def _refuse_mixtures(
    trials: pd.DataFrame, rows: str, cols: str, where: Mapping[str, Any], average_over: Sequence[str]
) -> None:
    optional = ["center_crop", *SUBSET_PARAMS]
    if trials[optional].nunique(dropna=False).gt(1).any():  # missing is a choice too
        trials = context_in_words(trials)
    fixed = {name for name, value in where.items() if value is not None and not isinstance(value, tuple)}
    named = {rows, cols, *average_over, *fixed}
    free = [
        dimension
        for dimension in dimensions(trials)
        if dimension not in named
        and trials[dimension].nunique() > 1  # of most there is one: no need to look into the cells
        and (trials.groupby([rows, cols])[dimension].nunique().gt(1).any() or dimension == "dataset")
    ]
    if free:
        choices = "; ".join(f"{name} ({', '.join(map(str, _values(trials, name)))})" for name in free)
        raise AnalysisError(
            f"a cell of {rows} x {cols} would mix several configurations: fix, or average over, {choices}"
        )
    keys = list(dict.fromkeys([rows, cols, "category", *average_over]))
    twice = trials[trials.duplicated(keys)]
    if len(twice):
        first = ", ".join(f"{name}={twice.iloc[0][name]}" for name in keys)
        raise AnalysisError(f"{len(twice)} trials are there more than once (first: {first}): drop duplicates")


def _expected(
    frame: pd.DataFrame,
    trials: pd.DataFrame,
    rows: str,
    cols: str,
    where: Mapping[str, Any],
    average_over: list[str],
) -> pd.DataFrame:
    """Every value the table needs: cells, times categories, times the choices averaged over."""
    by_dataset = ["dataset"] if "dataset" in (rows, cols) else []
    wanted = frame["dataset"].isin(trials["dataset"].dropna())
    source = frame[wanted] if wanted.any() else trials  # else the data set was not recorded
    categories = source[[*by_dataset, "category"]].drop_duplicates()
    axes = []
    for name in (rows, cols):
        selected = where.get(name)
        candidates = categories if name == "category" else trials
        values = list(selected) if isinstance(selected, tuple) else _values(candidates, name)
        axes.append(pd.DataFrame({name: values}).astype({name: frame[name].dtype}))
    expected = _join(_cross(*axes), categories, ["dataset", "category"])
    if average_over:
        by_backbone = ["backbone"] if "backbone" in (rows, cols) else []
        choices = trials[[*by_backbone, *average_over]].drop_duplicates()
        expected = _join(expected, choices, ["backbone"])
    return expected


def _join(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    shared = [key for key in keys if key in left and key in right]
    return left.merge(right, on=shared) if shared else _cross(left, right)


def _cross(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """Every row of one with every row of the other, several times faster than a merge."""
    one = left.take(np.repeat(np.arange(len(left)), len(right))).reset_index(drop=True)
    other = right.take(np.tile(np.arange(len(right)), len(left))).reset_index(drop=True)
    return pd.concat([one, other], axis=1)


def _values(trials: pd.DataFrame, name: str) -> list[Any]:
    return sorted(trials[name].dropna().unique())
