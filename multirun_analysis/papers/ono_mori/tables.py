"""The tables of Ono & Mori, from the trials of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence

from multirun_analysis.papers.ono_mori import table2
from multirun_analysis.papers.ono_mori.study import GRID, absent, comparison, fixed
from multirun_analysis.papers.published import PAPER_BACKBONE, is_paper_dataset, ono_mori
from multirun_analysis.rendering.table import Absent, Block, Cell, Row, Table, difference_block, mark_best
from multirun_analysis.stats.intervals import POINTS
from multirun_analysis.summary.coverage import why_empty
from multirun_analysis.summary.means import MeanTable, mean_table
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import POOLINGS, estimator_name, layer_order

AUGMENTATIONS = ("none", "noise", "standard")
ESTIMATORS = ("mvg", "knn1")  # of the pooling and augmentation comparisons
POOLING_SWEEP = "ono_mori_pooling"
AUGMENTATION_SWEEP = "ono_mori_augmentation"


def tables_of(study: DetectionStudy) -> list[Table | Absent]:
    """All tables of the paper, or why one is not made."""
    return [
        table2.one_layer(study),
        table2.all_layers(study),
        table3(study),
        table4(study),
        augmentation(study),
    ]


def table3(study: DetectionStudy) -> Table | Absent:
    """Category by layer: k-NN with one neighbour on NPCA 50 %."""
    title = "Table 3: AUROC by category and layer (k-NN, NPCA 50 %)"
    choices = {"pooling": "avg", "augmentation": "none", "pca_mode": "npca50", "estimator": "knn1"}
    layers = sorted(study.has("layer", **choices), key=layer_order)
    if len(layers) < 2:
        return absent("table3", title, "layer", layers, choices, GRID)
    where = study.where(**choices)
    by_category = mean_table(study.frame, "category", "layer", where)
    means = mean_table(study.frame, "estimator", "layer", where)
    if reason := why_empty([by_category], len(study.categories)):
        return Absent("table3", title, reason)
    published = ono_mori("table3")
    compared = study.backbone == PAPER_BACKBONE or set(layers) == {layer for _, layer in published}

    def row(category: str) -> Row:
        pivot, key = (means, "knn1") if category == "mean" else (by_category, category)
        cells = mark_best([Cell(pivot.value(key, layer), decimals=2) for layer in layers])
        return Row(category, cells, rule_before=category == "mean")

    def printed(category: str) -> Row:
        values = [published.get((category, layer)) for layer in layers]
        if category == "mean" and is_paper_dataset(study):  # of the categories that are ours too
            values = [_mean([published.get((name, layer)) for name in study.categories]) for layer in layers]
        cells = [Cell(value, decimals=2, blank=value is None) for value in values]
        return Row(category, mark_best(cells), rule_before=category == "mean")

    ours = Block("ours", tuple(row(name) for name in (*study.categories, "mean")))
    blocks = [ours]
    if compared:
        names = {*study.categories, "mean"} if is_paper_dataset(study) else {"mean"}
        comparable = Block("ours", tuple(row for row in ours.rows if row.header in names))
        theirs = Block("published", tuple(printed(row.header) for row in comparable.rows))
        blocks += [theirs, difference_block("difference (ours - published)", comparable, theirs)]
    return Table(
        name="table3",
        title=title,
        caption=(fixed(study, layer=None, **choices), comparison(study)),
        corner="category",
        columns=tuple(layer.removeprefix("level") for layer in layers),
        blocks=tuple(blocks),
        notes=_notes(study, [by_category]),
        warnings=study.warnings(),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def table4(study: DetectionStudy) -> Table | Absent:
    """Mean AUROC by pooling, for MVG and k-NN."""
    title = "Table 4: mean AUROC by pooling"
    choices = {"layer": study.layer, "augmentation": "none", "pca_mode": "npca50"}
    poolings = [pooling for pooling in study.has("pooling", **choices) if pooling in POOLINGS]
    if len(poolings) < 2:
        return absent("table4", title, "pooling", poolings, choices, POOLING_SWEEP)
    pivot = _of_estimators(study, "pooling", choices, POOLINGS)
    if reason := why_empty([pivot], len(study.categories)):
        return Absent("table4", title, reason)
    published = ono_mori("table4")
    ours = Block(
        "ours",
        tuple(
            Row(estimator_name(name), mark_best([Cell(pivot.value(name, column)) for column in POOLINGS]))
            for name in ESTIMATORS
        ),
    )
    theirs = Block(
        "published",
        tuple(
            Row(estimator_name(name), mark_best([Cell(published[name, column]) for column in POOLINGS]))
            for name in ESTIMATORS
        ),
    )
    return Table(
        name="table4",
        title=title,
        caption=(fixed(study, **choices), comparison(study)),
        corner="estimator",
        columns=tuple(pooling.replace("_", "+") for pooling in POOLINGS),
        blocks=(ours, theirs, difference_block("difference (ours - published)", ours, theirs)),
        notes=_notes(study, [pivot]),
        warnings=study.warnings(),
    )


def augmentation(study: DetectionStudy) -> Table | Absent:
    """Mean AUROC by augmentation, and how far each is from none."""
    title = "Augmentation: mean AUROC and difference to none"
    choices = {"layer": study.layer, "pooling": "avg", "pca_mode": "npca50"}
    augmentations = study.has("augmentation", **choices)
    if len(augmentations) < 2:
        return absent("augmentation", title, "augmentation", augmentations, choices, AUGMENTATION_SWEEP)
    columns = tuple(dict.fromkeys([*AUGMENTATIONS, *augmentations]))
    pivot = _of_estimators(study, "augmentation", choices, columns)
    if reason := why_empty([pivot], len(study.categories)):
        return Absent("augmentation", title, reason)
    ours, differences, phrases = [], [], []
    for name in ESTIMATORS:
        values = [pivot.value(name, column) for column in columns]
        none = values[0]
        points = [None if v is None or none is None else POINTS * (v - none) for v in values]
        ours.append(Row(estimator_name(name), mark_best([Cell(value) for value in values])))
        cells = tuple(
            Cell(value, decimals=2, signed=True, blank=column == "none")
            for value, column in zip(points, columns, strict=True)
        )
        differences.append(Row(estimator_name(name), cells))
        noise = points[columns.index("noise")]
        if noise is not None:
            phrases.append(f"{estimator_name(name)} {Cell(noise, decimals=2, signed=True).printed}")
    verdict = (f"Noise against none, in points: {', '.join(phrases)}.",) if phrases else ()
    return Table(
        name="augmentation",
        title=title,
        caption=(
            fixed(study, **choices),
            "The paper prints no values; it says that AUC fell with noise only, by less than 0.1 point "
            "for both estimators. One point is 0.01 of AUROC.",
            comparison(study),
        ),
        corner="estimator",
        columns=columns,
        blocks=(
            Block("ours", tuple(ours)),
            Block("difference to none, in points", tuple(differences)),
        ),
        notes=(*verdict, *_notes(study, [pivot])),
        warnings=study.warnings(),
    )


def _of_estimators(
    study: DetectionStudy, column: str, choices: dict[str, str], columns: tuple[str, ...]
) -> MeanTable:
    """Means of the two estimators over one group's choices."""
    where = study.where(**choices) | {"estimator": ESTIMATORS, column: columns}
    return mean_table(study.frame, "estimator", column, where)


def _notes(study: DetectionStudy, pivots: Sequence[MeanTable]) -> tuple[str, ...]:
    return (*study.coverage(pivots), *study.provenance(pivots))
