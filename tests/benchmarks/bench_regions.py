"""Pixel AUROC and AUPRO of MVTec AD's 1,725 test maps, 256 x 256, beside other ways to get them.

    python tests/benchmarks/bench_regions.py [--categories N] [--repeats N] [--size N] [--dtype float64]

Maps made as the localizers make theirs (a grid of scores, upsampled and smoothed), higher on made-up defects,
MVTec AD's image counts, on one thread:

* ours: ``pixel_metrics``, both metrics at once, the median of the repeats;
* argsort: both metrics from cumulative sums over all pixels in the order of their scores, exact as well;
* loop: AUPRO from 200 thresholds, each applied to all maps, a few of them done, extrapolated;
* anomalib: its ``AUPRO``, if the package is installed.

Times are the process's own CPU seconds: what other programs take of a shared machine is not in them. They
wander still; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import label
from threadpoolctl import threadpool_limits

from anomaly_sweep.datasets.readers.mvtec_ad import OFFICIAL_COUNTS
from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports
from anomaly_sweep.localization.render import render
from anomaly_sweep.metrics.regions import pixel_metrics

THRESHOLDS = 200
LIMIT = 0.3


def case(category: str, size: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Maps and masks (n, size, size); about one pixel in 20 of the anomalous images is defective."""
    counts = OFFICIAL_COUNTS[category]
    rng = np.random.default_rng([sum(map(ord, category))])
    masks = np.zeros((counts.test_good + counts.test_defect, size, size), dtype=bool)
    y, x = np.ogrid[:size, :size]
    for mask in masks[counts.test_good :]:
        for _ in range(rng.integers(1, 4)):
            (cy, cx), (ry, rx) = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(0.02, 0.15, 2) * size
            mask |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    noise = torch.from_numpy(rng.gamma(2, 1, (len(masks), 32, 32)).astype(np.float32))
    maps = render(noise, size, 4.0).numpy() + rng.uniform(0, 2, (len(masks), 1, 1)) * masks
    return maps.astype(dtype), masks


def regions_of(masks: np.ndarray) -> np.ndarray:
    """Regions of all images, numbered from 1 (n, h, w)."""
    structure = np.zeros((3, 3, 3))
    structure[1] = 1
    regions: np.ndarray = label(masks, structure)[0]
    return regions


def by_argsort(maps: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """Pixel AUROC and AUPRO, exact."""
    order = np.argsort(maps, axis=None)[::-1]
    scores, regions = maps.ravel()[order], regions_of(masks).ravel()[order]
    sizes = np.bincount(regions)
    shares = 1.0 / sizes
    shares[0] = 0
    last = np.append(scores[1:] != scores[:-1], True)
    fpr = np.append(0, np.cumsum(regions == 0)[last] / sizes[0])
    tpr = np.append(0, np.cumsum(regions > 0)[last] / (regions.size - sizes[0]))
    pro = np.append(0, np.cumsum(shares[regions])[last] / (len(sizes) - 1))
    inside = int(np.searchsorted(fpr, LIMIT, side="right"))
    at_limit = np.interp(LIMIT, fpr[inside - 1 : inside + 1], pro[inside - 1 : inside + 1])
    area = np.trapezoid(np.append(pro[:inside], at_limit), np.append(fpr[:inside], LIMIT))
    return float(np.trapezoid(tpr, fpr)), float(area) / LIMIT


def by_loop(maps: np.ndarray, masks: np.ndarray, every: int) -> list[tuple[float, float]]:
    """Points (fpr, pro) of every n-th threshold."""
    good, region = ~masks, regions_of(masks)[masks]
    sizes = np.bincount(region)[1:]
    points = []
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS)[::every]:
        flagged = maps >= threshold
        overlaps = np.bincount(region, weights=flagged[masks])[1:] / sizes
        points.append((float(flagged[good].mean()), float(overlaps.mean())))
    return points


def anomalib_aupro() -> Callable[[np.ndarray, np.ndarray], float] | None:
    """Anomalib's AUPRO as a function, None if it is not installed."""
    ensure_torchvision_imports()
    try:
        from anomalib.metrics import AUPRO
    except ModuleNotFoundError as error:
        if error.name != "anomalib":
            raise
        return None

    def measure(maps: np.ndarray, masks: np.ndarray) -> float:
        metric: Any = AUPRO(fields=["anomaly_map", "gt_mask"], fpr_limit=LIMIT)
        metric.update(SimpleNamespace(anomaly_map=torch.from_numpy(maps), gt_mask=torch.from_numpy(masks)))
        return float(metric.compute())

    return measure


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    begun = time.process_time()
    result = function(*arguments)
    return time.process_time() - begun, result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--categories", type=int, default=15, help="the first N of 15 (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of ours, for the median (default: 5)")
    parser.add_argument("--every", type=int, default=50, help="the loop does every N-th threshold")
    parser.add_argument("--size", type=int, default=256, help="side of the maps in pixels")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--goal", type=float, help="exit with 1 if ours takes more seconds than this")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    anomalib = anomalib_aupro()
    seconds = {"ours": 0.0, "argsort": 0.0, "loop": 0.0} | ({"anomalib": 0.0} if anomalib else {})
    apart = {"argsort": [0.0, 0.0], "anomalib": [0.0]}
    count = 0
    with threadpool_limits(limits=1):
        pixel_metrics(*case("toothbrush", 64, options.dtype))  # first calls are not what is measured
        for category in list(OFFICIAL_COUNTS)[: options.categories]:
            maps, masks = case(category, options.size, options.dtype)
            runs = [timed(pixel_metrics, maps, masks) for _ in range(options.repeats)]
            seconds["ours"] += median(taken for taken, _ in runs)
            ours = runs[0][1]
            taken, (area, overlap) = timed(by_argsort, maps, masks)
            seconds["argsort"] += taken
            found = {"argsort": [abs(area - ours.auroc), abs(overlap - ours.aupro)]}
            taken, points = timed(by_loop, maps, masks, options.every)
            seconds["loop"] += taken * THRESHOLDS / len(points)
            if anomalib:
                taken, overlap = timed(anomalib, maps, masks)
                seconds["anomalib"] += taken
                found["anomalib"] = [abs(overlap - ours.aupro)]
            for name, differences in found.items():
                apart[name] = [max(pair) for pair in zip(apart[name], differences, strict=True)]
            count += len(maps)
    print(f"{count} maps of {options.size} x {options.size}, {options.dtype}, one thread")
    print(f"{'':10}{'seconds':>9}{'ms/map':>8}{'ratio':>8}   largest difference to ours")
    for name, total in seconds.items():
        values = zip(("AUPRO", "pixel AUROC"), reversed(apart.get(name, [])), strict=False)
        note = ", ".join(f"{metric} {value:.1e}" for metric, value in values)
        print(f"{name:10}{total:9.2f}{1e3 * total / count:8.2f}{total / seconds['ours']:7.1f}x   {note}")
    return int(options.goal is not None and seconds["ours"] > options.goal)


if __name__ == "__main__":
    sys.exit(main())
