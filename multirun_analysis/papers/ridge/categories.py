"""Accuracy and times of each localizer by category."""

from __future__ import annotations

import math

import pandas as pd

from multirun_analysis.papers.published import is_paper_dataset, localizers_per_class
from multirun_analysis.papers.ridge.measurements import (
    MVTEC_PRO,
    MVTEC_PRO_WORDS,
    STEPS,
    Measurements,
    about_pro,
    notes_of,
)
from multirun_analysis.papers.ridge.study import LocalizationStudy
from multirun_analysis.rendering.table import BLANK, Absent, Block, Cell, Row, Table, mark_best, significant
from multirun_analysis.summary.coverage import why_empty
from multirun_analysis.trials.labels import localizer_name

METRICS = {
    "pixel_auroc": "pixel ROCAUC",
    "aupro": "PRO",
    MVTEC_PRO: MVTEC_PRO_WORDS,
    "image_auroc": "image ROCAUC",
}
PERCENT = 100.0


def by_category(study: LocalizationStudy, measured: Measurements) -> Table | Absent:
    """Pixel and image ROCAUC and PRO of each category, with what the methods' own papers print beside."""
    name, title = "ridge_categories", "Localization by category, in per cent"
    if reason := why_empty([measured.pivot], len(study.categories)):
        return Absent(name, title, reason)
    published = localizers_per_class()
    references = list(dict.fromkeys(key for key, _, _ in published)) if is_paper_dataset(study) else []

    def row(metric: str, category: str) -> Row:
        frame = measured.values[metric]
        line: pd.Series = measured.mean(metric) if category == "mean" else frame.T[category]
        ours = mark_best([_percent(value) for value in line.to_numpy(dtype="float64")])
        wanted = study.categories if category == "mean" else (category,)
        theirs = []
        for reference in references:
            values = [
                published.get((reference, "aupro" if metric == MVTEC_PRO else metric, each))
                for each in wanted
            ]
            known = [value for value in values if value is not None]
            if metric in study.variants or len(known) < len(values):
                theirs.append(BLANK)
            else:
                theirs.append(Cell(math.fsum(known) / len(known), 1))
        return Row(category, (*ours, *theirs), rule_before=category == "mean")

    blocks = [
        Block(
            f"{words}{' [variant]' if metric in study.variants else ''}",
            tuple(row(metric, category) for category in (*study.categories, "mean")),
        )
        for metric, words in METRICS.items()
    ]
    beside = ""
    if references:
        beside = (
            "Beside: the papers of PaDiM and PatchCore, WideResNet-50-2, images resized to 256 and cropped "
            "to 224 px; means over the categories that are here."
        )
    return Table(
        name=name,
        title=title,
        caption=tuple(filter(None, (f"Fixed: {study.setting()}.", beside))),
        corner="category",
        columns=(*map(localizer_name, study.localizers), *(f"{name}, paper" for name in references)),
        blocks=tuple(blocks),
        notes=(*about_pro(measured), *notes_of(study, measured)),
        warnings=study.warnings(),
    )


def times(study: LocalizationStudy, measured: Measurements) -> Table | Absent:
    """Milliseconds an image of each category, and over all test images."""
    name, title = "ridge_times", "Localization times by category, in milliseconds an image"
    if measured.seconds["scoring"].isna().all(axis=None):
        return Absent(name, title, "no trial has a scoring time")
    images = measured.values["n_test"]
    blocks = []
    for step, seconds in measured.seconds.items():
        each = 1000 * seconds / images
        whole = 1000 * measured.total(step) / measured.images
        rows = [_row(category, each.T[category]) for category in study.categories]
        blocks.append(Block(step, (*rows, _row("all images", whole, rule=True))))
    return Table(
        name=name,
        title=title,
        caption=(
            f"Fixed: {study.setting()}. As the sweep recorded them: {', '.join(STEPS)}, each with all before "
            "it. The last line is of all test images together.",
        ),
        corner="category",
        columns=tuple(map(localizer_name, study.localizers)),
        blocks=tuple(blocks),
        notes=(
            *measured.measured_on(),
            *notes_of(study, measured),
        ),
        warnings=study.warnings(),
    )


def _row(header: str, line: pd.Series, *, rule: bool = False) -> Row:
    cells = [significant(value) for value in line.to_numpy(dtype="float64")]
    return Row(header, mark_best(cells, lowest=True), rule_before=rule)


def _percent(share: float) -> Cell:
    return Cell(None if math.isnan(share) else float(PERCENT * share), 1)
