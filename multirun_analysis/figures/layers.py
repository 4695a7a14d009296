"""What depends on the layer: the heat map over reductions, and a curve for each category."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multirun_analysis.figures.style import COLOURS, GREY, MAP, Picture, panels
from multirun_analysis.rendering.table import Absent
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.category_matrix import CategoryMatrix, category_matrix
from multirun_analysis.summary.means import mean_table
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import layer_order, ordered

MOST_PANELS = 30
SETTING = {"pooling": "avg", "augmentation": "none"}
TABLE3 = SETTING | {"pca_mode": "npca50", "estimator": "knn1"}


def heat_map(study: DetectionStudy) -> Picture | Absent:
    """Mean AUROC of every reduction at every layer, averaged over the estimators."""
    name, title = "heat_map", "Mean AUROC by reduction and layer"
    layers = sorted(study.works("layer", **SETTING), key=layer_order)
    modes = ordered("pca_mode", study.works("pca_mode", **SETTING))
    if len(layers) < 2 or len(modes) < 2:
        return Absent(name, title, f"{len(modes)} reductions at {len(layers)} layers have trials")
    where = study.where(**SETTING) | {"pca_mode": tuple(modes), "layer": tuple(layers)}
    estimators = study.works("estimator", **SETTING)
    pivot = mean_table(
        study.frame, "pca_mode", "layer", where | {"estimator": tuple(estimators)}, average_over=["estimator"]
    )
    values: Floats = pivot.values.loc[modes, layers].to_numpy(dtype=np.float64)
    if np.isnan(values).all():
        return Absent(name, title, "no cell has every category and estimator")
    over = ", ".join(ordered("estimator", estimators))
    caption = (
        f"{study.backbone}, avg pooling, mean over {over} and the categories; the best by these test images "
        "is framed."
    )
    return Picture(name, title, caption, lambda: _draw_map(values, modes, layers))


def _draw_map(values: Floats, modes: list[str], layers: list[str]) -> Figure:
    figure, (axes,) = panels(1, 1, 1.6 + 0.62 * len(layers), 0.9 + 0.3 * len(modes))
    image = axes.imshow(np.ma.masked_invalid(values), cmap=MAP, aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text, dark = ("\N{EN DASH}", False) if np.isnan(value) else (f"{value:.3f}", value < middle)
        axes.text(
            column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black"
        )
    best = np.unravel_index(np.nanargmax(values), values.shape)
    corner = (int(best[1]) - 0.5, int(best[0]) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=2.2))
    axes.set_xticks(range(len(layers)), _short(layers))
    axes.set_yticks(range(len(modes)), modes)
    axes.set_xlabel("layer")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="mean AUROC", fraction=0.05)
    return figure


def category_curves(study: DetectionStudy) -> Picture | Absent:
    """AUROC of each category over the levels, with the mean over the categories behind it."""
    name, title = "category_curves", "AUROC by level, each category"
    layers = [n for n in sorted(study.works("layer", **TABLE3), key=layer_order) if layer_order(n)[0] == 0]
    if len(layers) < 2:
        return Absent(name, title, f"{len(layers)} levels have trials of k-NN on NPCA 50 %")
    pivot = mean_table(study.frame, "category", "layer", study.where(**TABLE3) | {"layer": tuple(layers)})
    values: Floats = pivot.values[layers].to_numpy(dtype=np.float64)
    categories = [str(category) for category in pivot.values.index]
    if np.isnan(values).all():
        return Absent(name, title, "no trial has a value")
    caption = f"{study.backbone}, k-NN (k = 1) on NPCA 50 %; grey: the mean of all categories."
    if len(categories) > MOST_PANELS:
        caption = f"{study.backbone}, k-NN (k = 1) on NPCA 50 %; black: the mean; one line a category."
        return Picture(name, title, caption, lambda: _draw_together(values, layers))
    return Picture(name, title, caption, lambda: _draw_curves(values, categories, layers))


def _draw_curves(values: Floats, categories: list[str], layers: list[str]) -> Figure:
    columns = min(5, len(categories))
    rows = math.ceil(len(categories) / columns)
    figure, axes = panels(rows, columns, 1.6 * columns + 0.4, 1.35 * rows + 0.4)
    places = range(len(layers))
    mean = values.mean(axis=0)  # not there where a category lacks: never a mean of fewer
    low = min(float(np.nanmin(values)), 0.5)
    for axis, category, line in zip(axes, categories, values, strict=False):
        axis.axhline(0.5, color=GREY, linewidth=0.6, linestyle=":")
        axis.plot(places, mean, color=GREY, linewidth=1.2, linestyle="--")
        axis.plot(places, line, color=COLOURS[2], marker="o", markersize=3, linewidth=1.4)
        axis.set_title(category, fontsize=8)
        axis.set_xticks(places, _short(layers))
        axis.set_ylim(low - 0.03, 1.03)
        axis.label_outer()
    for axis in axes[len(categories) :]:
        axis.set_visible(False)
    figure.supxlabel("level", fontsize=9)
    figure.supylabel("AUROC", fontsize=9)
    return figure


def _short(layers: list[str]) -> list[str]:
    return [layer.removeprefix("level") for layer in layers]


def _draw_together(values: Floats, layers: list[str]) -> Figure:
    figure, (axes,) = panels(1, 1, 5.0, 3.4)
    places = range(len(layers))
    axes.plot(places, values.T, color=GREY, linewidth=0.6, alpha=0.5)
    axes.plot(places, values.mean(axis=0), color="black", marker="o", linewidth=2)
    axes.set_xticks(places, _short(layers))
    axes.set_xlabel("level")
    axes.set_ylabel("AUROC")
    return figure


def layer_matrix(study: DetectionStudy) -> CategoryMatrix | None:
    """Categories by layers at the setting of Table 3; None where a value lacks."""
    layers = sorted(study.works("layer", **TABLE3), key=layer_order)
    found = category_matrix(study, "layer", layers, TABLE3)
    return found if isinstance(found, CategoryMatrix) else None
