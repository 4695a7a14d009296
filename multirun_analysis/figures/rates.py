"""What the reduction does: mean AUROC over the rate, PCA and NPCA, for each estimator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from multirun_analysis.figures.style import COLOURS, GREY, Picture, panels
from multirun_analysis.rendering.table import Absent
from multirun_analysis.summary.means import MeanTable, mean_table
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import estimator_name, ordered

LOOKS: dict[str, dict[str, Any]] = {
    "npca": {"color": COLOURS[2], "marker": "o", "linestyle": "-", "label": "NPCA"},
    "pca": {"color": COLOURS[4], "marker": "s", "linestyle": "--", "label": "PCA"},
}
COLUMNS = 3


def rate_curves(study: DetectionStudy, published: Mapping[str, float]) -> Picture | Absent:
    """Mean AUROC over the percentage kept, one panel an estimator, the published values faint beside.

    Parameters
    ----------
    study
        Whose trials.
    published
        Published values by reduction (``npca50``), ``none`` among them.
    """
    name, title = "rate_curves", "Mean AUROC by reduction rate"
    at = {"layer": study.layer, "pooling": "avg", "augmentation": "none"}
    modes = study.works("pca_mode", **at)
    if len(modes) < 2:
        return Absent(name, title, f"{len(modes)} reductions have trials at {study.layer}")
    estimators = ordered("estimator", study.works("estimator", **at))
    where = study.where(**at) | {"estimator": tuple(estimators)}
    pivot = mean_table(study.frame, "pca_mode", "estimator", where)
    if pivot.values.isna().all(axis=None):
        return Absent(name, title, "no cell has every category")
    caption = (
        f"{study.backbone} at {study.layer}, avg pooling; the dotted line is no reduction. Faint and hollow: "
        "Ono & Mori's Table 2 (its estimator is not stated)."
    )
    return Picture(name, title, caption, lambda: _draw(pivot, estimators, published))


def _draw(pivot: MeanTable, estimators: list[str], published: Mapping[str, float]) -> Figure:
    columns = min(COLUMNS, len(estimators))
    rows = -(-len(estimators) // columns)
    figure, axes = panels(rows, columns, 2.3 * columns + 0.3, 2.1 * rows + 0.4)
    for axis, estimator in zip(axes, estimators, strict=False):
        for family, look in LOOKS.items():
            theirs = _line(published, family)
            axis.plot(
                *theirs, **look | {"label": None, "alpha": 0.45, "markerfacecolor": "white", "linewidth": 0.8}
            )
            ours = {str(mode): pivot.value(mode, estimator) for mode in pivot.values.index}
            axis.plot(*_line(ours, family), **look, markersize=4)
        none = pivot.value("none", estimator)
        if none is not None:
            axis.axhline(none, color="black", linestyle=":", linewidth=1.2, label="none")
        axis.axhline(published["none"], color=GREY, linestyle=":", linewidth=0.8)
        axis.set_title(estimator_name(estimator), fontsize=9)
        axis.sharey(axes[0])
        axis.label_outer()
    for axis in axes[len(estimators) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel("components kept [%]", fontsize=9)
    figure.supylabel("mean AUROC", fontsize=9)
    return figure


def _line(
    values: Mapping[str, float | None] | Mapping[str, float], family: str
) -> tuple[list[float], list[float]]:
    points = []
    for mode, value in values.items():
        match = re.fullmatch(rf"{family}(\d+(?:\.\d+)?)", mode)
        if match and value is not None:
            points.append((float(match[1]), value))
    points.sort()
    return [rate for rate, _ in points], [value for _, value in points]
