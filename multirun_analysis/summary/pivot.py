"""Any table of means: two dimensions across, the others fixed or averaged over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.rendering.table import Block, Cell, Row, Table, mark_best, significant
from multirun_analysis.summary.coverage import coverage, provenance, random_weights, why_empty
from multirun_analysis.summary.means import MeanTable, mean_table
from multirun_analysis.trials.filter import check_column, matching, parse_where
from multirun_analysis.trials.labels import ordered
from multirun_analysis.trials.long_table import crops_in_words, dimensions
from multirun_analysis.trials.run_info import Origin
from multirun_analysis.trials.tasks import tasks_of, trials_of


@dataclass(frozen=True)
class Measure:
    """What a table can be of: its words, whether the lowest is best, the only task that has it, its kind."""

    words: str
    lowest: bool = False
    task: str | None = None
    is_amount: bool = False

    def cell(self, value: float) -> Cell:
        """A value as it is printed; seconds and bytes with three digits."""
        if self.is_amount:
            return significant(value)
        return Cell(None if math.isnan(value) else float(value))


def _amount(words: str, *, task: str | None = None) -> Measure:
    """Seconds or bytes: less is better."""
    return Measure(words, lowest=True, task=task, is_amount=True)


#: Columns of the long table that a table can be of.
MEASURES = {
    "image_auroc": Measure("AUROC"),
    "image_auroc_sd": Measure("standard deviation of AUROC between seeds", lowest=True),
    "image_ap": Measure("average precision"),
    "image_f1max": Measure("F1max"),
    "image_fpr95": Measure("FPR at 95 % recall", lowest=True),
    "pixel_auroc": Measure("pixel AUROC", task="localization"),
    "pixel_auroc_sd": Measure(
        "standard deviation of pixel AUROC between seeds", lowest=True, task="localization"
    ),
    "pixel_ap": Measure("pixel average precision", task="localization"),
    "pixel_f1max": Measure("pixel F1max", task="localization"),
    "aupro": Measure("AUPRO", task="localization"),
    "aupro_sd": Measure("standard deviation of AUPRO between seeds", lowest=True, task="localization"),
    "aupro_mvtec": Measure("AUPRO (100 thresholds)", task="localization"),
    "au_spro": Measure("AU-sPRO", task="localization"),
    "au_spro_logical": Measure("AU-sPRO of logical anomalies", task="localization"),
    "au_spro_structural": Measure("AU-sPRO of structural anomalies", task="localization"),
    "fit_seconds": _amount("seconds of fitting"),
    "score_seconds": _amount("seconds of scoring the test images"),
    "map_seconds": _amount("seconds of making the test maps", task="localization"),
    "backbone_seconds": _amount("seconds of the network on the test images", task="localization"),
    "state_bytes": _amount("bytes of the fitted state", task="localization"),
}


def pivot(
    frame: pd.DataFrame,
    rows: str,
    cols: str,
    where: str = "",
    average_over: Sequence[str] = (),
    *,
    value: str = "image_auroc",
    origins: Sequence[Origin] = (),
) -> Table:
    """Mean over the categories for each pair of a row's and a column's choice.

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
    value
        What is averaged: one of `MEASURES`. What only localization has leaves the other trials out.
    origins
        The runs the trials are of.

    Raises
    ------
    AnalysisError
        If a cell would mix configurations, nothing is selected, or a name is not known.

    Examples
    --------
    >>> from multirun_analysis.trials.long_table import as_trials
    >>> rows = [
    ...     {"dataset": "parts", "category": category, "estimator": "mvg", "layer": layer,
    ...      "image_auroc": auroc, "status": "ok"}
    ...     for layer, aurocs in {"level3": (0.7, 0.8), "level4": (0.9, 1.0)}.items()
    ...     for category, auroc in zip(("bolt", "nut"), aurocs)
    ... ]
    >>> table = pivot(as_trials(pd.DataFrame(rows)), "estimator", "layer")
    >>> dict(zip(table.columns, (cell.printed for cell in table.blocks[0].rows[0].cells)))
    {'level3': '0.750', 'level4': '0.950'}
    """
    if value not in MEASURES:
        raise AnalysisError(f"--value {value!r}: there are {', '.join(MEASURES)}")
    measure = MEASURES[value]
    if measure.task is not None:
        frame = trials_of(frame, measure.task)
    frame = crops_in_words(frame)
    for name in (rows, cols, *average_over):
        if check_column(name, frame) not in ("category", *dimensions(frame)):
            raise AnalysisError(f"{name} is no dimension of a table: choose one with --{name}")
    if rows == cols:
        raise AnalysisError(f"--rows and --cols are both {rows}: choose two different dimensions")
    conditions = parse_where(where, frame)
    scope = {name: conditions.pop(name) for name in list(conditions) if name in ("sweep", "category")}
    frame = matching(frame, scope)
    chosen = matching(frame, conditions).dropna(subset=[rows, cols, *average_over])
    if chosen.empty:
        raise AnalysisError(f"no trial meets all of {where!r}, with a choice of {rows} and {cols}")
    if len(tasks_of(chosen)) == 1:  # the categories of other tasks are not wanted
        frame = trials_of(frame, tasks_of(chosen)[0])
    axes = {
        name: tuple(ordered(name, chosen[name].dropna().unique()))
        for name in (rows, cols)
        if name != "category"
    }
    pivot = mean_table(frame, rows, cols, conditions | axes, average_over=average_over, value=value)
    conditions_shown = [*scope.items(), *conditions.items()]
    choices = ", ".join(f"{name}={'|'.join(map(str, values))}" for name, values in conditions_shown) or "none"
    over = f" Averaged over: {', '.join(average_over)}." if average_over else ""
    total = int(chosen.groupby("dataset", dropna=False)["category"].nunique().max())
    if reason := why_empty([pivot], total):
        raise AnalysisError(f"the table would be empty: {reason}")
    head = measure.words if "category" in (rows, cols) else f"mean {measure.words}"
    return Table(
        name="pivot",
        title=f"{head[0].upper()}{head[1:]} by {rows} and {cols}",
        caption=(f"Conditions: {choices}.{over}",),
        corner=rows,
        columns=tuple(map(str, _with_mean(pivot, cols))),
        blocks=(_block(pivot, head, measure),),
        notes=(*coverage([pivot], total), *provenance(pivot.trials, origins)),
        warnings=random_weights(pivot.trials),
    )


def _with_mean(pivot: MeanTable, axis: str) -> list[object]:
    values = pivot.values.columns if axis == pivot.cols else pivot.values.index
    names = list(values)
    return [*names, "mean"] if axis == "category" and len(names) > 1 else names


def _block(pivot: MeanTable, label: str, measure: Measure) -> Block:
    """The cells, with the mean over categories where they are an axis; the best of each row is bold."""
    values = pivot.values
    if pivot.rows == "category" and len(values) > 1:
        values = pd.concat([values, values.mean(axis=0, skipna=False).to_frame("mean").T])
    if pivot.cols == "category" and len(values.columns) > 1:
        values = values.assign(mean=values.mean(axis=1, skipna=False))
    cells = [[measure.cell(value) for value in line] for line in values.to_numpy(dtype="float64")]
    if pivot.cols == "category":  # the best of each category, not the easiest category
        columns = [mark_best(column, lowest=measure.lowest) for column in zip(*cells, strict=True)]
        lines = list(zip(*columns, strict=True))
    else:
        lines = [mark_best(line, lowest=measure.lowest) for line in cells]
    named = zip(_with_mean(pivot, pivot.rows), lines, strict=True)
    return Block(label, tuple(Row(str(header), line, rule_before=header == "mean") for header, line in named))
