"""Table 2 of Ono & Mori: PCA, NPCA and no reduction, for each estimator and their mean."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pandas as pd

from multirun_analysis.papers.ono_mori.study import GRID, absent, comparison, fixed
from multirun_analysis.papers.published import ono_mori
from multirun_analysis.rendering.table import (
    BLANK,
    Absent,
    Block,
    Cell,
    Row,
    Table,
    difference_block,
    mark_best,
)
from multirun_analysis.summary.coverage import why_empty
from multirun_analysis.summary.means import MeanTable, mean_table
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import estimator_name, estimator_order, layer_order

PAPER_RATES = (10.0, 20.0, 30.0, 40.0, 50.0)
FAMILIES = {"pca": "PCA", "npca": "NPCA"}
MEAN = "mean of the estimators"


def one_layer(study: DetectionStudy) -> Table | Absent:
    """Table 2 at the study's layer."""
    return _table2(
        study,
        "table2",
        "Table 2: reduction and mean AUROC",
        {"layer": study.layer},
        [],
        "The paper states neither the estimator nor the layer of its Table 2.",
    )


def all_layers(study: DetectionStudy) -> Table | Absent:
    """Table 2 with every value a mean over the backbone's layers."""
    present = sorted(study.has("layer", pooling="avg", augmentation="none"), key=layer_order)
    layers = sorted(study.works("layer", pooling="avg", augmentation="none"), key=layer_order)
    left_out = [layer for layer in present if layer not in layers]
    title = "Table 2 averaged over all layers (not in the paper): reduction and mean AUROC"
    if len(layers) < 2:
        return absent("table2_all_layers", title, "layer", layers, {"pooling": "avg"}, GRID)
    without = f" Left out, every trial failed there: {', '.join(left_out)}." if left_out else ""
    return _table2(
        study,
        "table2_all_layers",
        title,
        {"layer": tuple(layers)},
        ["layer"],
        f"Not in the paper: each value is the mean over the layers {', '.join(layers)}.{without}",
    )


def _table2(
    study: DetectionStudy,
    name: str,
    title: str,
    at: dict[str, Any],
    average_over: list[str],
    remark: str,
) -> Table | Absent:
    settings = {"pooling": "avg", "augmentation": "none"}
    choices = {key: value for key, value in at.items() if isinstance(value, str)} | settings
    modes = study.has("pca_mode", **choices)
    if len(modes) < 2:
        return absent(name, title, "pca_mode", modes, choices, GRID)
    pivot = mean_table(
        study.frame, "pca_mode", "estimator", study.where(**settings) | at, average_over=average_over
    )
    if reason := why_empty([pivot], len(study.categories)):
        return Absent(name, title, reason)
    rates = sorted({*PAPER_RATES, *(rate for _, rate in map(_reduction, modes) if rate is not None)})
    labels = list(dict.fromkeys([*FAMILIES.values(), *(row for row, _ in map(_reduction, modes) if row)]))
    values = _with_mean(pivot)
    blocks = {
        str(estimator): _block(f"ours: {estimator_name(str(estimator))}", labels, rates, _by_mode(column))
        for estimator, column in values.items()
    }
    theirs = _block("published", labels, rates, {mode: v for (mode, _), v in ono_mori("table2").items()})
    theirs = _only_published(theirs)
    nearest, distances = _nearest(blocks, theirs)
    shown = [*blocks.values(), theirs]
    if nearest is not None:
        label = f"difference ({estimator_name(nearest)} - published)"
        shown.append(difference_block(label, blocks[nearest], theirs))
    return Table(
        name=name,
        title=title,
        caption=(remark, fixed(study, **choices), comparison(study)),
        corner="reduction",
        columns=tuple(f"{rate / 100:g}" for rate in rates),
        blocks=tuple(shown),
        notes=(*distances, *study.coverage([pivot]), *study.provenance([pivot])),
        warnings=study.warnings(),
    )


def _reduction(mode: str) -> tuple[str | None, float | None]:
    """``npca35[basis=variance]`` as the row it is in and the rate of its column; neither for ``none``."""
    match = re.fullmatch(r"(pca|npca)(\d+(?:\.\d+)?)(\[.+\])?", mode)
    if match is None:
        return (None if mode == "none" else mode), None
    return " ".join(filter(None, (FAMILIES[match[1]], match[3]))), float(match[2])


def _with_mean(pivot: MeanTable) -> pd.DataFrame:
    """One column an estimator, and their mean where there are several and none is missing."""
    estimators = sorted((str(name) for name in pivot.values.columns), key=estimator_order)
    values = pivot.values[estimators]
    if len(values.columns) > 1:
        values = values.assign(**{MEAN: values.mean(axis=1, skipna=False)})
    return values


def _by_mode(column: pd.Series) -> dict[str, float]:
    return {str(mode): float(value) for mode, value in column.items()}


def _block(label: str, labels: list[str], rates: list[float], values: dict[str, float]) -> Block:
    """PCA and NPCA rows by rate, a row with one cell for none; the best of the block in bold."""
    cells: dict[tuple[str, float | None], Cell] = {}
    for mode, value in values.items():
        row, rate = _reduction(mode)
        cells[row or "none", rate] = Cell(None if pd.isna(value) else value)
    rows = []
    for row in [*labels, "none"]:
        single = row == "none" or (row, None) in cells
        first = cells.get((row, None), Cell())
        rest = [BLANK] * (len(rates) - 1)
        rows.append((row, [first, *rest] if single else [cells.get((row, rate), Cell()) for rate in rates]))
    best = iter(mark_best([cell for _, line in rows for cell in line]))
    return Block(label, tuple(Row(row, tuple(next(best) for _ in line)) for row, line in rows))


def _only_published(block: Block) -> Block:
    """Blank where the paper prints nothing."""
    rows = tuple(
        replace(row, cells=tuple(BLANK if cell.value is None else cell for cell in row.cells))
        for row in block.rows
    )
    return replace(block, rows=rows)


def _nearest(blocks: dict[str, Block], theirs: Block) -> tuple[str | None, list[str]]:
    """The estimator nearest to the paper among those that share most cells with it, and all distances."""
    found: dict[str, tuple[int, float]] = {}
    for name, block in blocks.items():
        distance = [
            abs(cell.value)
            for row in difference_block("", block, theirs).rows
            for cell in row.cells
            if cell.value is not None
        ]
        if distance:
            found[name] = (len(distance), sum(distance) / len(distance))
    if not found:
        return None, []
    printed = len([cell for row in theirs.rows for cell in row.cells if not cell.blank])
    most = max(cells for cells, _ in found.values())
    nearest = min((name for name in found if found[name][0] == most), key=lambda name: found[name][1])
    parts = [f"{estimator_name(n)} {distance:.3f} ({cells})" for n, (cells, distance) in found.items()]
    return nearest, [
        f"Nearest to the published values: {estimator_name(nearest)}, mean absolute difference "
        f"{found[nearest][1]:.3f} over {most} of {printed} cells.",
        f"Mean absolute difference to the published values (cells compared): {', '.join(parts)}.",
    ]
