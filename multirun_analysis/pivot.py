"""Means over categories with honest coverage: a mean is there only where every category is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from anomaly_sweep.tracking.names import CONTEXT_PARAMS, GROUPS, STATUS_OK
from multirun_analysis.errors import AnalysisError

DIMENSIONS = (*CONTEXT_PARAMS, *GROUPS)
MISSING = "missing"


@dataclass(frozen=True)
class PivotResult:
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
        ("failed" or "missing") and ``reason``.
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
) -> PivotResult:
    """Mean AUROC over the categories of the data set, for each pair of a row and a column value.

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

    Raises
    ------
    AnalysisError
        If a cell would gather several configurations over a dimension that was not named.
    """
    trials = _where(frame, where)
    _refuse_mixtures(trials, rows, cols, average_over)
    expected = _expected(frame, trials, rows, cols, where, list(average_over))
    keys = list(dict.fromkeys([rows, cols, "category", *average_over]))
    values = trials[[*keys, "image_auroc", "status", "reason"]]
    full = expected.merge(values, how="left", on=keys)
    full["image_auroc"] = full["image_auroc"].where(full["status"].eq(STATUS_OK).fillna(False).astype(bool))
    full["category_"] = full["category"]  # a cell's own key too, when rows or cols is the category
    per_category = full.groupby([rows, cols, "category_"], sort=False)["image_auroc"].agg(
        value="mean", there="count", wanted="size"
    )
    complete = per_category["there"] == per_category["wanted"]
    cells = per_category.assign(complete=complete).groupby(level=[0, 1], sort=False)
    table = cells.agg(value=("value", "mean"), present=("complete", "sum"), expected=("complete", "size"))
    table["value"] = table["value"].where(table["present"] == table["expected"])
    holes = full[full["image_auroc"].isna()].drop(columns=["image_auroc", "category_"])
    holes = holes.assign(status=holes["status"].fillna(MISSING), reason=holes["reason"].fillna(""))
    return PivotResult(
        rows,
        cols,
        values=table["value"].unstack(),
        present=table["present"].unstack(),
        expected=table["expected"].unstack(),
        holes=holes.reset_index(drop=True),
        trials=trials,
    )


def _where(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    mask = pd.Series(True, index=frame.index)
    for column, value in where.items():
        if isinstance(value, tuple):
            mask &= frame[column].isin(value)
        elif value is not None:
            mask &= frame[column].eq(value).fillna(False).astype(bool)
    return frame[mask]


def _refuse_mixtures(trials: pd.DataFrame, rows: str, cols: str, average_over: Sequence[str]) -> None:
    named = {rows, cols, *average_over}
    free = [
        dimension
        for dimension in DIMENSIONS
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
    of_dataset = frame[frame["dataset"].isin(trials["dataset"].dropna())] if len(trials) else trials
    if len(of_dataset) == 0:  # the data set was not recorded
        of_dataset = trials
    by_dataset = ["dataset"] if "dataset" in (rows, cols) else []
    categories = of_dataset[[*by_dataset, "category"]].drop_duplicates()
    axes = []
    for name in (rows, cols):
        asked = where.get(name)
        there = of_dataset if name == "category" else trials
        values = list(asked) if isinstance(asked, tuple) else _values(there, name)
        axes.append(pd.DataFrame({name: values}).astype({name: frame[name].dtype}))
    expected = _join(axes[0].merge(axes[1], how="cross"), categories, ["dataset", "category"])
    if average_over:
        by_backbone = ["backbone"] if "backbone" in (rows, cols) else []
        choices = trials[[*by_backbone, *average_over]].drop_duplicates()
        expected = _join(expected, choices, ["backbone"])
    return expected


def _join(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    shared = [key for key in keys if key in left and key in right]
    return left.merge(right, on=shared) if shared else left.merge(right, how="cross")


def _values(trials: pd.DataFrame, name: str) -> list[Any]:
    return sorted(trials[name].dropna().unique())
