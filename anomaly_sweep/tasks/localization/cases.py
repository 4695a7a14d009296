"""The best and the worst cases of a category as a picture: image, mask, anomaly map, overlay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.metrics.regions import aupro

#: Cases of each kind.
EACH = 3
_PANELS = ("image", "mask", "anomaly map", "overlay")


@dataclass(frozen=True)
class Case:
    """A test image to draw: its place among the test images and what is said of it."""

    index: int
    caption: str


def choose_cases(
    maps: NDArray[np.float32], masks: NDArray[np.bool_], names: Sequence[str], each: int = EACH
) -> list[Case]:
    """The anomalous images with the worst and the best AUPRO of their own, and the good one scored highest.

    Parameters
    ----------
    maps, masks : ndarray of shape (n, h, w)
    names : sequence of str
        Of the images.
    each : int
        How many of the worst, and of the best.
    """
    overlap: dict[int, float] = {}
    for i in np.flatnonzero(masks.any(axis=(1, 2))):
        try:
            overlap[int(i)] = aupro(maps[i : i + 1], masks[i : i + 1])
        except AnomalySweepError:  # a defect that fills the image
            continue
    order = sorted(overlap, key=lambda i: overlap[i])
    worst = order[:each]
    best = [i for i in reversed(order) if i not in worst][:each]
    cases = [Case(i, f"worst: {names[i]}\nAUPRO {overlap[i]:.3f}") for i in worst]
    cases += [Case(i, f"best: {names[i]}\nAUPRO {overlap[i]:.3f}") for i in best]
    good = np.flatnonzero(~masks.any(axis=(1, 2)))
    if len(good):
        highest = int(good[maps[good].max(axis=(1, 2)).argmax()])
        cases.append(Case(highest, f"good, scored highest:\n{names[highest]}"))
    return cases


def draw_cases(
    path: Path, shard: Shard, maps: NDArray[np.float32], masks: NDArray[np.bool_], *, title: str
) -> None:
    """Draw the cases of a category into a PNG; all maps share one colour scale.

    Parameters
    ----------
    path : Path
        Ends in ``.png``.
    shard : Shard
        Its test images are those of the maps and masks, in order.
    maps, masks : ndarray of shape (n, side, side)
    """
    records = shard.category.test
    names = [record.relative.partition("/test/")[2] or record.relative for record in records]
    cases = choose_cases(maps, masks, names)
    low, high = np.quantile(maps[:, ::4, ::4], [0.01, 0.999])
    figure = Figure(figsize=(8.4, 0.5 + 2.0 * len(cases)), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(len(cases), len(_PANELS), squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        image = load_square(records[case.index].path, shard.input_size, shard.center_crop)
        row[0].imshow(image)
        row[1].imshow(masks[case.index], cmap="gray", vmin=0, vmax=1)
        row[2].imshow(maps[case.index], cmap="inferno", vmin=low, vmax=high)
        row[3].imshow(image)
        row[3].imshow(maps[case.index], cmap="inferno", vmin=low, vmax=high, alpha=0.5)
        row[3].contour(masks[case.index], levels=[0.5], colors="white", linewidths=0.8)
        row[0].set_ylabel(case.caption, fontsize=7)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, name in zip(axes[0], _PANELS, strict=True):
        axis.set_title(name, fontsize=9)
    figure.savefig(path)
