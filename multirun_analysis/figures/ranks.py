"""Critical-difference diagrams: mean ranks over categories, with bars over what is not told apart."""

from __future__ import annotations

import itertools
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.figures.layers import layer_matrix
from multirun_analysis.figures.style import Picture
from multirun_analysis.rendering.table import Absent
from multirun_analysis.stats.intervals import INTERVAL_CATEGORIES, Ranking, rank
from multirun_analysis.summary.category_matrix import CategoryMatrix, category_matrix
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import ordered

ALPHA = 0.05


def critical_differences(study: DetectionStudy) -> Picture | Absent:
    """A diagram each for the layers, the reductions and the estimators."""
    name, title = "critical_differences", "Mean ranks over categories"
    if len(study.categories) < INTERVAL_CATEGORIES:
        return Absent(
            name, title, f"{len(study.categories)} categories; ranks need at least {INTERVAL_CATEGORIES}"
        )
    at = {"layer": study.layer, "pooling": "avg", "augmentation": "none"}
    modes = ordered("pca_mode", study.works("pca_mode", **at))
    estimators = ordered("estimator", study.works("estimator", **at | {"pca_mode": "npca50"}))
    found: dict[str, object] = {
        "layers (k-NN, NPCA 50 %)": layer_matrix(study),
        f"reductions ({study.layer}, mean of the estimators)": category_matrix(
            study, "pca_mode", modes, at, average_over="estimator"
        ),
        f"estimators ({study.layer}, NPCA 50 %)": category_matrix(
            study, "estimator", estimators, at | {"pca_mode": "npca50"}
        ),
    }
    matrices = {key: m for key, m in found.items() if isinstance(m, CategoryMatrix) and len(m.choices) > 2}
    if not matrices:
        return Absent(name, title, "no group has three choices with complete categories")
    caption = (
        f"{study.backbone}, {len(study.categories)} categories; rank 1 is best. A bar joins choices that "
        f"Wilcoxon's signed ranks, Holm-corrected over all pairs of a diagram, do not tell apart at "
        f"{ALPHA:g}, which is no proof that they are the same.{_blind(matrices, len(study.categories))}"
    )
    return Picture(name, title, caption, lambda: _draw(matrices))


def _blind(matrices: dict[str, CategoryMatrix], categories: int) -> str:
    """Which diagrams cannot tell any pair apart, however different."""
    least = 2.0 ** (1 - categories)  # two-sided, of one choice ahead in every category
    blind = [key for key, m in matrices.items() if least * math.comb(len(m.choices), 2) > ALPHA]
    if not blind:
        return ""
    return f" {categories} categories are too few to tell any pair apart among: {'; '.join(blind)}."


def cliques(ranking: Ranking, alpha: float = ALPHA) -> list[tuple[int, ...]]:
    """Runs of two or more treatments, by mean rank, in which no pair differs, and that are in no other."""
    order = sorted(range(len(ranking.mean_ranks)), key=lambda i: ranking.mean_ranks[i])
    found: list[tuple[int, ...]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and all(
            ranking.pairs[min(a, b), max(a, b)] >= alpha
            for a, b in itertools.combinations(order[start : end + 1], 2)
        ):
            end += 1
        run = tuple(order[start:end])
        if len(run) > 1 and not any(set(run) <= set(other) for other in found):
            found.append(run)
    return found


def _draw(matrices: dict[str, CategoryMatrix]) -> Figure:
    rankings = {key: rank(matrix.values) for key, matrix in matrices.items()}
    heights = [
        1.0 + 0.13 * len(matrices[key].choices) + 0.09 * len(cliques(r)) for key, r in rankings.items()
    ]
    figure = Figure(figsize=(6.4, sum(heights)), layout="constrained")
    axes = figure.subplots(len(matrices), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (key, ranking) in zip(axes, rankings.items(), strict=True):
        p = "< 0.001" if ranking.p < 0.001 else f"= {ranking.p:.3f}"
        axis.set_title(f"{key}; Friedman p {p}", fontsize=9, loc="left")
        _diagram(axis, ranking, matrices[key].choices)
    return figure


def _diagram(axes: Axes, ranking: Ranking, choices: tuple[str, ...]) -> None:
    k = len(choices)
    order = sorted(range(k), key=lambda i: ranking.mean_ranks[i])
    bars = cliques(ranking)
    top = -0.4 * len(bars) - 0.8  # labels hang below the bars
    for place, i in enumerate(order):
        left = place < (k + 1) // 2
        depth = top - 0.75 * (place if left else k - 1 - place)
        x, edge = float(ranking.mean_ranks[i]), (0.4 if left else k + 0.6)
        axes.plot([x, x, edge], [0, depth, depth], color="black", linewidth=0.8)
        text = f"{choices[i]}  {x:.2f}" if left else f"{x:.2f}  {choices[i]}"
        axes.text(
            edge,
            depth,
            f"{text} " if left else f" {text}",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
        )
    for number, run in enumerate(bars):
        ends = [float(ranking.mean_ranks[i]) for i in (run[0], run[-1])]
        y = -0.4 * (number + 1)
        axes.plot(
            [ends[0] - 0.06, ends[1] + 0.06], [y, y], color="black", linewidth=3.5, solid_capstyle="butt"
        )
    axes.set_xlim(0.4 - 0.18 * k, k + 0.6 + 0.18 * k)
    axes.set_ylim(top - 0.75 * ((k + 1) // 2), 0.1)
    axes.spines[:].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.spines["top"].set_bounds(1, k)
    axes.spines["top"].set_position(("data", 0))
    axes.xaxis.set_ticks_position("top")
    axes.set_xticks(range(1, k + 1))
    axes.set_yticks([])
