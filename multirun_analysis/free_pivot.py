"""Any table of means: two dimensions across, the others fixed or averaged over."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from multirun_analysis.coverage import coverage, provenance, random_weights, why_empty
from multirun_analysis.errors import AnalysisError
from multirun_analysis.pivot import DIMENSIONS, PivotResult, mean_table
from multirun_analysis.table import Block, Cell, Row, Table, mark_best
from multirun_analysis.where import check_column, matching, parse_where
from multirun_analysis.wording import ordered

AXES = ("category", *DIMENSIONS)


def free_pivot(
    frame: pd.DataFrame, rows: str, cols: str, where: str = "", average_over: Sequence[str] = ()
) -> Table:
    """Mean AUROC for each pair of a row's and a column's choice.

    Parameters
    ----------
    frame
        Trials, each once.
    rows, cols
        Two different dimensions; one may be ``category``.
    where
        Conditions (see `parse_where`). A condition on the category asks for means over those categories.
    average_over
        Dimensions of which each cell averages every choice that occurs.

    Raises
    ------
    AnalysisError
        If a cell would mix configurations, nothing is selected, or a name is not known.
    """
    for name in (rows, cols, *average_over):
        if check_column(name) not in AXES:
            raise AnalysisError(f"{name} is no dimension of a table: choose one with --{name}")
    if rows == cols:
        raise AnalysisError(f"--rows and --cols are both {rows}: choose two different dimensions")
    conditions = parse_where(where, frame)
    scope = {name: conditions.pop(name) for name in list(conditions) if name in ("sweep", "category")}
    frame = matching(frame, scope)
    chosen = matching(frame, conditions)
    if chosen.empty:
        raise AnalysisError(f"no trial meets all of {where!r}")
    axes = {
        name: tuple(ordered(name, chosen[name].dropna().unique()))
        for name in (rows, cols)
        if name != "category"
    }
    pivot = mean_table(frame, rows, cols, conditions | axes, average_over=average_over)
    said = [*scope.items(), *conditions.items()]
    choices = ", ".join(f"{name}={'|'.join(map(str, values))}" for name, values in said) or "none"
    over = f" Averaged over: {', '.join(average_over)}." if average_over else ""
    total = int(chosen.groupby("dataset", dropna=False)["category"].nunique().max())
    if reason := why_empty([pivot], total):
        raise AnalysisError(f"the table would be empty: {reason}")
    return Table(
        name="pivot",
        title=f"Mean AUROC by {rows} and {cols}"
        if "category" not in (rows, cols)
        else f"AUROC by {rows} and {cols}",
        caption=(f"Conditions: {choices}.{over}",),
        corner=rows,
        columns=tuple(map(str, _with_mean(pivot, cols))),
        blocks=(_block(pivot),),
        notes=(*coverage([pivot], total), provenance(pivot.trials)),
        warnings=random_weights(pivot.trials),
    )


def _with_mean(pivot: PivotResult, axis: str) -> list[object]:
    values = pivot.values.columns if axis == pivot.cols else pivot.values.index
    names = list(values)
    return [*names, "mean"] if axis == "category" and len(names) > 1 else names


def _block(pivot: PivotResult) -> Block:
    """The cells, with the mean over categories where they are an axis; the best of each row is bold."""
    values = pivot.values
    if pivot.rows == "category" and len(values) > 1:
        values = pd.concat([values, values.mean(axis=0, skipna=False).to_frame("mean").T])
    if pivot.cols == "category" and len(values.columns) > 1:
        values = values.assign(mean=values.mean(axis=1, skipna=False))
    cells = values.map(lambda value: Cell(None if pd.isna(value) else float(value)))
    lines = [list(line) for line in cells.itertuples(index=False)]
    if pivot.cols == "category":  # the best of each category, not the easiest category
        lines = [
            list(line)
            for line in zip(*(mark_best(column) for column in zip(*lines, strict=True)), strict=True)
        ]
    else:
        lines = [list(mark_best(line)) for line in lines]
    named = zip(_with_mean(pivot, pivot.rows), lines, strict=True)
    return Block(
        "AUROC" if pivot.rows == "category" or pivot.cols == "category" else "mean AUROC",
        tuple(Row(str(header), tuple(line), rule_before=header == "mean") for header, line in named),
    )
