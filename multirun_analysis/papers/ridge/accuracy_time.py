"""Localization: accuracy against the time of scoring."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from multirun_analysis.figures.style import COLOURS, GREY, MARKERS, Picture, panels
from multirun_analysis.papers.published import RIDGE_TEST_IMAGES, ridge_table1
from multirun_analysis.papers.ridge.measurements import METRICS, measure
from multirun_analysis.papers.ridge.study import LocalizationStudy
from multirun_analysis.rendering.table import Absent
from multirun_analysis.trials.labels import LOCALIZERS, localizer_name


@dataclass(frozen=True)
class Point:
    """One method: milliseconds an image of scoring alone and of everything, and per cent by metric."""

    name: str
    scoring: float
    everything: float
    accuracy: dict[str, float]


def accuracy_against_time(study: LocalizationStudy) -> Picture | Absent:
    """Pixel ROCAUC and PRO of every localizer over its scoring time, the published ones faint beside."""
    name, title = "accuracy_time", "Localization: accuracy against scoring time"
    points = our_points(study)
    if not points:
        return Absent(name, title, "no localizer has every category's pixel ROCAUC, PRO and scoring time")
    variants = "".join(
        f" {METRICS[m]} is a variant: {', '.join(s)}." for m, s in study.variants.items() if m in METRICS
    )
    caption = (
        f"{study.setting()}; {len(study.categories)} categories. A mark is at the milliseconds an image of "
        "scoring alone, its line ends at those with maps and backbone. Hollow: the ridge paper, on another "
        f"computer, scoring alone.{variants}"
    )
    return Picture(name, title, caption, lambda: _draw(points))


def our_points(study: LocalizationStudy) -> list[Point]:
    """The localizers that have every value a mark needs."""
    measured = measure(study)
    scoring, everything = (
        1000 * measured.total(step) / measured.images for step in ("scoring", "+ backbone")
    )
    points = [
        Point(
            localizer_name(label),
            float(scoring[label]),
            float(everything[label]),
            {metric: 100 * float(measured.mean(metric)[label]) for metric in METRICS},
        )
        for label in study.localizers
    ]
    return [p for p in points if all(map(math.isfinite, (p.scoring, *p.accuracy.values()))) and p.scoring > 0]


def published_points() -> list[Point]:
    """The ridge paper's three."""
    table = ridge_table1()
    return [
        Point(
            name,
            1000 * table[key, "score_seconds"] / RIDGE_TEST_IMAGES,
            math.nan,
            {metric: table[key, metric] for metric in METRICS},
        )
        for key, name in LOCALIZERS.items()
    ]


def _draw(points: list[Point]) -> Figure:
    figure, axes = panels(1, len(METRICS), 7.2, 3.6)
    names = list(dict.fromkeys([*LOCALIZERS.values(), *(point.name for point in points)]))
    for axis, metric in zip(axes, METRICS, strict=True):
        for point in published_points():
            _mark(axis, point, metric, names.index(point.name), published=True)
        for point in points:
            _mark(axis, point, metric, names.index(point.name), published=False)
        axis.set_xscale("log")
        axis.set_xlabel("milliseconds an image")
        axis.set_ylabel(f"{METRICS[metric]} [%]")
    present = [point.name for point in points]
    handles = [
        Line2D([], [], color=_colour(i), marker=MARKERS[i % len(MARKERS)], linestyle="", label=name)
        for i, name in enumerate(names)
        if name in present
    ]
    handles.append(
        Line2D([], [], color=GREY, marker="o", markerfacecolor="none", linestyle="", label="published")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), fontsize=8)
    return figure


def _mark(axes: Axes, point: Point, metric: str, place: int, *, published: bool) -> None:
    height, colour = point.accuracy[metric], GREY if published else _colour(place)
    if math.isfinite(point.everything):
        axes.plot([point.scoring, point.everything], [height, height], color=colour, linewidth=1)
        axes.plot(point.everything, height, color=colour, marker="|", markersize=7)
    axes.plot(
        point.scoring,
        height,
        color=colour,
        marker=MARKERS[place % len(MARKERS)],
        markersize=6,
        linestyle="",
        markerfacecolor="none" if published else colour,
        label=f"published {point.name}" if published else point.name,
    )


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
