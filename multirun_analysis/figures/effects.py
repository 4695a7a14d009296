"""What each group contributes, and accuracy against scoring time."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.figures.style import COLOURS, GREY, Picture, lines_of, panels
from multirun_analysis.rendering.table import Absent
from multirun_analysis.stats.intervals import INTERVAL_CATEGORIES
from multirun_analysis.summary.effects import Effects, Marginal
from multirun_analysis.summary.effects_tables import NOT_FULL, SHARED_TIME
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import estimator_name, ordered

MOST_BARS = 10


def effects_picture(found: Effects, study: DetectionStudy) -> Picture | Absent:
    """Shares of variance, and every choice's effect in points."""
    name, title = "effects", "What each group contributes"
    if found.factorial is None:
        return Absent(name, title, NOT_FULL)
    sure = len(study.categories) >= INTERVAL_CATEGORIES
    spans = "; lines are 95 % intervals over categories, each alone" if sure else ""
    caption = (
        f"{study.backbone}. Left: shares of the variance within categories (functional ANOVA; "
        "x: interactions). Right: each choice's difference to the mean of its group, all other groups "
        f"averaged{spans}."
    )
    return Picture(name, title, caption, lambda: _draw_effects(found, sure))


def _draw_effects(found: Effects, sure: bool) -> Figure:
    groups = [
        (factor, list(marginals)) for factor, marginals in groupby(found.marginals, key=lambda m: m.factor)
    ]
    rows = sum(len(marginals) + 1 for _, marginals in groups)
    figure, (left, right) = panels(1, 2, 7.6, max(2.6, 0.19 * rows + 0.6))
    shares = [share for share in found.shares if share.within][:MOST_BARS][::-1]
    for place, share in enumerate(shares):
        assert share.within is not None
        main = len(share.factors) == 1
        left.barh(
            place,
            100 * share.within.value,
            color=COLOURS[2] if main else "#c8d8e4",
            edgecolor="black",
            lw=0.6,
        )
        if sure:
            left.plot(
                [100 * share.within.low, 100 * share.within.high], [place, place], color="black", lw=1.4
            )
    left.set_yticks(range(len(shares)), [" x ".join(share.factors) for share in shares], fontsize=8)
    left.set_xlabel("share of variance [%]")
    left.set_xlim(left=0)
    _effects(right, groups, sure)
    return figure


def _effects(axes: Axes, groups: list[tuple[str, list[Marginal]]], sure: bool) -> None:
    ticks: list[tuple[int, str]] = []
    place = 0
    for number, (factor, marginals) in enumerate(groups):
        axes.text(
            0.01, place, factor, transform=axes.get_yaxis_transform(), fontsize=8, style="italic", va="center"
        )
        for marginal in marginals:
            place -= 1
            if sure:
                axes.plot(
                    [marginal.effect.low, marginal.effect.high], [place, place], color=GREY, lw=1.6, zorder=1
                )
            axes.scatter(
                marginal.effect.value, place, color="black", marker="osD^v"[number % 5], s=16, zorder=2
            )
            ticks.append((place, marginal.choice))
        place -= 1
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([y for y, _ in ticks], [choice for _, choice in ticks], fontsize=7)
    axes.set_ylim(place + 0.3, 0.7)
    axes.set_xlabel("effect [points of AUROC]")


def pareto_picture(found: Effects, study: DetectionStudy) -> Picture | Absent:
    """Every configuration by its scoring time and mean AUROC, with the front."""
    name, title = "pareto", "Accuracy against scoring time"
    if found.front.empty:
        return Absent(name, title, "no configuration has every category's AUROC and scoring time")
    caption = (
        f"{study.backbone}; one mark a configuration, the line joins those that none beats in both by these "
        f"test images. {SHARED_TIME}"
    )
    return Picture(name, title, caption, lambda: _draw_pareto(found))


def _draw_pareto(found: Effects) -> Figure:
    figure, (axes,) = panels(1, 1, 5.6, 3.8)
    rows = found.configurations.dropna(subset=["seconds"])
    names = ordered("estimator", rows["estimator"].unique())
    for name, look in lines_of(names).items():
        points = rows[rows["estimator"] == name]
        axes.scatter(
            1e6 * points["seconds"],
            points["auroc"],
            s=18,
            marker=look["marker"],
            facecolors="none",
            edgecolors=look["color"],
            linewidths=0.9,
            label=estimator_name(name),
        )
    front = found.front
    axes.step(
        1e6 * front["seconds"], front["auroc"], where="post", color="black", linewidth=1.4, label="front"
    )
    last = front.iloc[-1]
    axes.annotate(
        str(last["label"]),
        (1e6 * last["seconds"], last["auroc"]),
        (0, 6),
        textcoords="offset points",
        fontsize=7,
    )
    axes.set_xscale("log")
    axes.set_xlabel("microseconds an image (share of a joint computation)")
    axes.set_ylabel("mean AUROC")
    axes.set_ylim(top=min(1.01, float(np.max(rows["auroc"])) + 0.03))
    axes.legend(fontsize=7, loc="lower right")
    return figure
