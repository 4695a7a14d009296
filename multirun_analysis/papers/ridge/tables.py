"""The tables of the ridge paper, from the localization trials of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from multirun_analysis.papers.published import RIDGE_TEST_IMAGES, ridge_table1
from multirun_analysis.papers.ridge.categories import by_category, times
from multirun_analysis.papers.ridge.measurements import (
    METRICS,
    MVTEC_PRO,
    MVTEC_PRO_WORDS,
    STEPS,
    Measurements,
    about_pro,
    measure,
    notes_of,
)
from multirun_analysis.papers.ridge.study import LocalizationStudy, comparison
from multirun_analysis.rendering.table import (
    BLANK,
    Absent,
    Block,
    Cell,
    Row,
    Table,
    difference,
    mark_best,
    significant,
)
from multirun_analysis.trials.labels import LOCALIZERS, localizer_name

PERCENT = 100.0
REFERENCE = "patchcore"
#: Columns of accuracy -> what the paper's column is called that each is compared with.
ACCURACY = METRICS | {MVTEC_PRO: MVTEC_PRO_WORDS}
PUBLISHED = {metric: metric for metric in METRICS} | {MVTEC_PRO: "aupro"}
NO_ACCURACY = [BLANK] * len(ACCURACY)
#: Rows of one block: the header and a cell for each column of Table 1.
Lines = Mapping[str, Sequence[Cell]]


def ridge_tables_of(study: LocalizationStudy) -> list[Table | Absent]:
    """Table 1 of the paper, and what stands behind it."""
    measured = measure(study)
    return [table1(study, measured), by_category(study, measured), times(study, measured)]


def table1(study: LocalizationStudy, measured: Measurements) -> Table | Absent:
    """Accuracy and seconds of every localizer, the published ones beside them."""
    name, title = "ridge_table1", "Table 1: pixel ROCAUC, PRO and time"
    if measured.mean("pixel_auroc").isna().all():
        lines = study.coverage([measured.pivot])
        return Absent(name, title, f"no localizer has a value for every category. {' '.join(lines)}")
    headers = {label: localizer_name(label) for label in study.localizers}
    ours = {headers[label]: _accuracy(measured, label) + _seconds(measured, label) for label in headers}
    published = {name: _published(key) for key, name in LOCALIZERS.items()}
    differences = {
        headers[label]: _difference_cells(study, measured, label)
        for label in headers
        if label.partition("[")[0] in LOCALIZERS
    }
    blocks = [_block("ours", ours, best=True), _block("published", published, best=True)]
    if differences:
        blocks.append(_block("difference (ours - published)", differences))
    blocks += [
        _block("ours: milliseconds an image", {headers[n]: _milliseconds(measured, n) for n in headers}),
        _block("published: milliseconds an image", _published_times(1000 / RIDGE_TEST_IMAGES)),
    ]
    reference = study.like(REFERENCE)
    if reference is not None:
        ratios = {headers[label]: _ratios(measured, label, reference) for label in headers}
        blocks.append(_block(f"ours: ratio to {headers[reference]}", ratios))
    one = 1 / ridge_table1()[REFERENCE, "score_seconds"]
    blocks.append(_block(f"published: ratio to {LOCALIZERS[REFERENCE]}", _published_times(one)))
    return Table(
        name=name,
        title=title,
        caption=(
            f"Fixed: {study.setting()}. Means over the categories, in per cent; seconds for all test images "
            "as the sweep recorded them: the localizer's scoring alone, then also upsampling and smoothing "
            "its maps, then also the network's pass over the images.",
            comparison(study),
        ),
        corner="method",
        columns=(
            *(
                f"{word}{' [variant]' if metric in study.variants else ''} %"
                for metric, word in ACCURACY.items()
            ),
            *(f"{step} s" for step in STEPS),
            "images",
        ),
        blocks=tuple(blocks),
        notes=(*_remarks(study, measured, reference), *notes_of(study, measured)),
        warnings=study.warnings(),
    )


def _accuracy(measured: Measurements, label: str) -> list[Cell]:
    return [_percent(float(measured.mean(metric)[label])) for metric in ACCURACY]


def _percent(share: float) -> Cell:
    return Cell(None if pd.isna(share) else PERCENT * share, 1)


def _seconds(measured: Measurements, label: str) -> list[Cell]:
    images = float(measured.images[label])
    totals = [significant(float(measured.total(step)[label]), least=2) for step in STEPS]
    return [*totals, Cell(None if pd.isna(images) else images, 0)]


def _published(key: str) -> list[Cell]:
    table = ridge_table1()
    accuracy = [Cell(table[key, metric], 1) if metric in METRICS else BLANK for metric in ACCURACY]
    return [*accuracy, Cell(table[key, "score_seconds"], 2), BLANK, BLANK, Cell(float(RIDGE_TEST_IMAGES), 0)]


def _difference_cells(study: LocalizationStudy, measured: Measurements, label: str) -> list[Cell]:
    """Ours minus published, in points; none of seconds, which are of other computers."""
    key = label.partition("[")[0]
    differences = [
        BLANK
        if metric in study.variants
        else difference(ours, Cell(ridge_table1()[key, PUBLISHED[metric]], 1))
        for metric, ours in zip(ACCURACY, _accuracy(measured, label), strict=True)
    ]
    return [*differences, *[BLANK] * (len(STEPS) + 1)]


def _milliseconds(measured: Measurements, label: str) -> list[Cell]:
    images = measured.images[label]
    return [
        *NO_ACCURACY,
        *(significant(float(1000 * measured.total(step)[label] / images)) for step in STEPS),
        BLANK,
    ]


def _ratios(measured: Measurements, label: str, reference: str) -> list[Cell]:
    totals = [measured.total(step) for step in STEPS]
    return [*NO_ACCURACY, *(significant(float(t[label] / t[reference])) for t in totals), BLANK]


def _published_times(scale: float) -> Lines:
    return {
        name: [*NO_ACCURACY, significant(scale * ridge_table1()[key, "score_seconds"]), BLANK, BLANK, BLANK]
        for key, name in LOCALIZERS.items()
    }


def _block(label: str, lines: Lines, *, best: bool = False) -> Block:
    """Rows under a label; ``best`` marks the highest accuracy and the fewest seconds of each column."""
    columns = [list(column) for column in zip(*lines.values(), strict=True)]
    if best:
        last = len(columns) - 1  # numbers of images have no best
        columns = [
            column if i == last else list(mark_best(column, lowest=i >= len(ACCURACY)))
            for i, column in enumerate(columns)
        ]
    rows = zip(lines, zip(*columns, strict=True), strict=True)
    return Block(label, tuple(Row(header, tuple(cells)) for header, cells in rows))


def _remarks(study: LocalizationStudy, measured: Measurements, reference: str | None) -> list[str]:
    table = ridge_table1()
    spreads = [
        f"{name} {table[key, 'score_seconds']:.2f} \N{PLUS-MINUS SIGN} "
        f"{table[key, 'score_seconds_spread']:.2f}"
        for key, name in LOCALIZERS.items()
    ]
    without = [] if reference is not None else [f"No ratio: {study.why_not(REFERENCE)}."]
    return [
        *about_pro(measured),
        *measured.measured_on(),
        *without,
        f"Published seconds, on another computer, are of {RIDGE_TEST_IMAGES} test images: "
        f"{', '.join(spreads)}; differences of seconds are not taken.",
    ]
