"""How the scores of good and of anomalous test images lie, category by category."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.figures.style import COLOURS, Picture, panels
from multirun_analysis.stats.delong import area
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.per_image import Scored
from multirun_analysis.summary.per_image_tables import describe
from multirun_analysis.trials.image_scores import Images

BINS = 24
COLUMNS = 5


def distributions(found: Scored) -> Picture:
    """A panel for each category: the good images filled, the anomalous ones as a line."""
    caption = (
        f"{describe(found)}. Shares of the good (filled) and of the anomalous (line) test images by anomaly "
        "score; the number is the AUROC. Each category has its own scale."
    )
    return Picture("scores", "Distributions of the anomaly scores", caption, lambda: _draw(found))


def _draw(found: Scored) -> Figure:
    columns = min(COLUMNS, len(found.images))
    rows = math.ceil(len(found.images) / columns)
    figure, axes = panels(rows, columns, max(3.2, 1.6 * columns + 0.4), 1.35 * rows + 0.7)
    for axis, (category, images) in zip(axes, found.images.items(), strict=False):
        _panel(axis, images)
        value = area(images.scores, images.labels).value
        axis.set_title(f"{category}  {value:.3f}", fontsize=8)
    for axis in axes[len(found.images) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    figure.supxlabel("anomaly score", fontsize=9)
    figure.supylabel("share of the images", fontsize=9)
    return figure


def _panel(axes: Axes, images: Images) -> None:
    edges = bin_edges(images.scores)
    good, anomalous = (
        np.histogram(values, edges)[0] / len(values) for values in (images.good, images.anomalous)
    )
    axes.stairs(good, edges, fill=True, color=COLOURS[3], alpha=0.8, label="good")
    axes.stairs(anomalous, edges, color="black", linewidth=1.2, label="anomalous")
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=3)


def bin_edges(scores: Floats) -> Floats:
    """Edges of equal bins over all scores; around the one score where all are equal."""
    low, high = float(scores.min()), float(scores.max())
    if high == low:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    return np.linspace(low, high, BINS + 1)
