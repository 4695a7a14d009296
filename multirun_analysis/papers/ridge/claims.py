"""The statements of the ridge paper as checks on the localization trials of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from multirun_analysis.papers.claims_table import claims_table
from multirun_analysis.papers.published import ridge_table1
from multirun_analysis.papers.ridge.measurements import METRICS, Measurements, about_defaults, measure
from multirun_analysis.papers.ridge.study import LocalizationStudy, comparison
from multirun_analysis.papers.verdicts import Claim, Statement, judge, judge_ratio, together, without
from multirun_analysis.rendering.table import Cell, Table
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.coverage import listed
from multirun_analysis.trials.labels import LOCALIZERS, localizer_name

RIDGE = "ridge"
OTHERS = ("patchcore", "padim")
#: How much worse still counts as "as accurate", in points: the paper gives no bound.
MARGIN = 1.0
#: How many times faster still counts as "about ten".
ABOUT_TEN = 8.0


def check_ridge_claims(study: LocalizationStudy) -> list[Claim]:
    """Every statement of the ridge paper, decided together."""
    measured = measure(study)
    return together(
        [
            *(_accurate(study, measured, other, metric) for other in OTHERS for metric in METRICS),
            *(_faster(study, measured, other) for other in OTHERS),
        ]
    )


def ridge_claims_table(claims: Sequence[Claim], study: LocalizationStudy) -> Table:
    """The statements as a table."""
    return claims_table(
        claims,
        study,
        name="ridge_claims",
        title="Statements of the ridge paper, checked",
        figures="differences in points (0.01 of ROCAUC or PRO), and ratios of the seconds in all,",
        comparison=comparison(study),
        notes=about_defaults(study),
    )


def _accurate(study: LocalizationStudy, measured: Measurements, other: str, metric: str) -> Claim:
    name, word = LOCALIZERS[other], METRICS[metric]
    published = ridge_table1()
    difference = published[RIDGE, metric] - published[other, metric]
    statement = Statement(
        f"as_accurate_as_{other}_{metric}",
        f"ridge is as accurate as {name} ({word})",
        f"{Cell(difference, 1, signed=True).printed} (ridge - {name})",
        bound=-MARGIN,
    )
    labels = _labels(study, other)
    if isinstance(labels, str):
        return without(statement, labels)
    variant = f" [variant: {', '.join(study.variants[metric])}]" if metric in study.variants else ""
    figure = f"{word}{variant} of {labels[0]} - {labels[1]}, no worse than {MARGIN:g} point"
    statement = replace(statement, setting=f"{study.setting()}; {figure}")
    values = _pairs(measured.values[metric], labels)
    if isinstance(values, str):
        return without(statement, values)
    return judge(statement, values[:, :1] - values[:, 1:])


def _faster(study: LocalizationStudy, measured: Measurements, other: str) -> Claim:
    name = LOCALIZERS[other]
    published = ridge_table1()
    times = published[other, "score_seconds"] / published[RIDGE, "score_seconds"]
    alone = ", whose run had no GPU" if other == "padim" else ""
    statement = Statement(
        f"faster_than_{other}",
        f"ridge scores about ten times faster than {name}, or more",
        f"{times:.1f} times{alone}",
        bound=ABOUT_TEN,
        unit="times",
    )
    labels = _labels(study, other)
    if isinstance(labels, str):
        return without(statement, labels)
    seconds = measured.seconds["scoring"]
    values = _pairs(seconds.where(seconds > 0), labels)
    if isinstance(values, str):
        return without(statement, values)
    more = [
        f"{step} {ratio:.3g}"
        for step in ("+ maps", "+ backbone")
        if np.isfinite(ratio := measured.total(step)[labels[1]] / measured.total(step)[labels[0]])
    ]
    also = f" ({', '.join(more)})" if more else ""
    devices = {measured.devices().get(label) for label in labels}
    statement = replace(
        statement,
        setting=(
            f"{study.setting()}; scoring seconds of all test images, {labels[1]} over {labels[0]}, at least "
            f"{ABOUT_TEN:g}; the interval is Fieller's, of the ratio of totals over categories"
            f"{also}{'; measured on different devices' if len(devices) > 1 else ''}"
        ),
    )
    return judge_ratio(statement, values[:, 1], values[:, 0])


def _labels(study: LocalizationStudy, other: str) -> tuple[str, str] | str:
    """The labels of ridge and of what it is compared with, or why one lacks."""
    found = []
    for name in (RIDGE, other):
        label = study.like(name)
        if label is None:
            return study.why_not(name)
        found.append(label)
    return found[0], found[1]


def _pairs(frame: pd.DataFrame, labels: tuple[str, str]) -> Floats | str:
    """Values of shape (categories, 2), or where they lack."""
    values = frame[list(labels)]
    lacking = [
        f"{values.index[i]} at {localizer_name(str(values.columns[j]))}"
        for i, j in np.argwhere(values.isna().to_numpy())
    ]
    if lacking:
        return f"no value of {listed(lacking)}"
    return values.to_numpy(dtype=np.float64)
