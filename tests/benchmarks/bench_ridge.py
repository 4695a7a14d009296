"""The freedom that the ridge paper leaves, measured: the tables of docs/ridge_study.md.

Every row is a localizer, fitted and scored on the same feature maps: pixel AUROC / AUPRO / image AUROC of
each category, and the milliseconds of processor time that scoring an image takes, on one thread, on the first
category. Images are resized to 256 pixels, of which the middle 224 are taken (``--crop 256``: all).

    python tests/benchmarks/bench_ridge.py --real FOLDER [--backbone resnet18] [--crop 256] [--rows plus]

FOLDER holds ``data/mvtec_ad_320`` and ``weights`` (see CONTRIBUTING.md). ``turned`` is pill with every image
turned by an angle of its own about its middle: an object without alignment, whose defects are real.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomaly_sweep.config import AugmentationConf, BackboneConf
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.datasets import FileIndex, read_category
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.features.maps import MapStream
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.localization.base import Maps
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.render import render
from anomaly_sweep.metrics.regions import pixel_metrics
from anomaly_sweep.tasks.localization.run import masks_of

Masks = NDArray[np.bool_]
Labels = NDArray[np.bool_]
SIZE, SIGMA, BATCH = 256, 4.0, 16
ALIGNED = ("bottle", "transistor", "pill")
TURNED = "turned"

#: Name of a set of rows -> (shipped option, changes) of each row.
ROWS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "methods": [
        ("ridge", {}),
        ("ridge_shared", {}),
        ("ridge_1x1", {}),
        ("ridge_plus", {}),
        ("padim", {}),
        ("patchcore", {}),
    ],
    "plus": [
        ("ridge_plus", {}),
        ("ridge_plus", {"weight": 0.0}),
        ("ridge_plus", {"weight": 1.0}),
        ("ridge_plus", {"weight": 0.5}),
        ("ridge_plus", {"weight": 0.2}),
        ("ridge_plus", {"components": 9}),
        ("ridge_plus", {"components": 5}),
        ("ridge_plus", {"neighborhood": 5}),
        ("ridge_plus", {"rank": 32}),
        ("ridge_plus", {"rank": 32, "components": 5}),
        ("ridge_plus", {"rank": 1}),
        ("ridge_plus", {"hole": 1}),
        ("ridge_plus", {"shallow": ["level3"]}),
        ("ridge_plus", {"epsilon": 0.1}),
        ("ridge_plus", {"epsilon": 100.0}),
        ("ridge_plus", {"top": 1e-6}),
        ("ridge_plus", {"top": 0.05}),
        ("ridge_plus", {"projection": 8}),
    ],
    "seeds": [(name, {"seed": seed}) for name in ("patchcore", "padim", "ridge_plus") for seed in (1, 2, 3)],
    "paper": [
        ("ridge", {}),
        ("ridge", {"neighborhood": 1}),
        ("ridge", {"neighborhood": 5}),
        ("ridge", {"neighborhood": 3, "neighbors": "average"}),
        ("ridge", {"neighborhood": 1, "join": "concatenate"}),
        ("ridge", {"join": "concatenate"}),
        ("ridge", {"target_neighborhood": 3}),
        ("ridge", {"grid": "source"}),
        ("ridge", {"intercept": "shared"}),
        ("ridge", {"alpha": 1e-1}),
        ("ridge", {"alpha": 1e-5}),
        ("ridge", {"alpha": "gcv"}),
        ("ridge", {"norm": "squared"}),
        ("ridge", {"norm": "standardized"}),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, default=os.environ.get("ANOMALY_SWEEP_REAL"), required=False)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--crop", type=int, default=224, help=f"pixels, of {SIZE}")
    parser.add_argument("--rows", choices=list(ROWS), nargs="+", default=["methods"])
    parser.add_argument("--categories", nargs="+", default=[*ALIGNED, TURNED])
    parser.add_argument("--scratch", type=Path, default=Path(".anomaly_sweep/ridge_study"))
    arguments = parser.parse_args()
    if arguments.real is None:
        parser.error("--real FOLDER (or ANOMALY_SWEEP_REAL) is needed")
    torch.set_num_threads(1)
    rows = [row for name in arguments.rows for row in ROWS[name]]
    cells: dict[int, list[str]] = {i: [] for i in range(len(rows))}
    spent: dict[int, float] = {}
    for category in arguments.categories:
        data = maps_of(arguments.real, arguments.backbone, category, arguments.scratch, arguments.crop)
        for i, (name, changes) in enumerate(rows):
            *accuracy, milliseconds = measure(name, changes, *data)
            cells[i].append(" / ".join(f"{100 * value:.1f}" for value in accuracy))
            spent.setdefault(i, milliseconds)
            print(category, name, changes, cells[i][-1], f"{milliseconds:.2f} ms", flush=True)
    print(f"\n| {arguments.backbone} | {' | '.join(arguments.categories)} | ms |")
    print("|---" * (len(arguments.categories) + 2) + "|")
    for i, (name, changes) in enumerate(rows):
        settings = " ".join([f"`{name}`", *(f"`{key}={value}`" for key, value in changes.items())])
        print(f"| {settings} | {' | '.join(cells[i])} | {spent[i]:.2f} |")


def measure(
    name: str, changes: dict[str, Any], train: Maps, test: Maps, masks: Masks, labels: Labels
) -> tuple[float, ...]:
    """Pixel AUROC, AUPRO, image AUROC and milliseconds an image of a shipped option with changes."""
    option = OmegaConf.to_container(OmegaConf.load(config_folder() / "localizer" / f"{name}.yaml"))
    assert isinstance(option, dict)
    for parent in option.pop("defaults", []):
        if parent != "_self_":
            base = OmegaConf.to_container(OmegaConf.load(config_folder() / "localizer" / f"{parent}.yaml"))
            assert isinstance(base, dict)
            option = base | option
    localizer = build({**option, **changes})
    for part in parts(train):
        localizer.partial_fit({level: part[level] for level in localizer.levels})
    localizer.finish()
    cut = [{level: part[level] for level in localizer.levels} for part in parts(test)]
    localizer.score(cut[0])
    begun = time.process_time()
    scored = [localizer.score(part) for part in cut]
    seconds = time.process_time() - begun
    maps = torch.cat([render(one.grid, masks.shape[1], SIGMA) for one in scored])
    own = [one.image for one in scored if one.image is not None]
    image = torch.cat(own) if own else maps.amax((1, 2))
    pixel = pixel_metrics(maps.numpy(), masks)
    return pixel.auroc, pixel.aupro, float(roc_auc_score(labels, image.numpy())), 1e3 * seconds / len(masks)


def parts(maps: Maps) -> Iterator[dict[str, torch.Tensor]]:
    n = len(next(iter(maps.values())))
    return ({lv: m[i : i + BATCH] for lv, m in maps.items()} for i in range(0, n, BATCH))


def maps_of(
    folder: Path, backbone: str, name: str, scratch: Path, crop: int
) -> tuple[Maps, Maps, Masks, Labels]:
    """Maps of the training and of the test images, and the test images' masks and labels."""
    data = folder / "data" / "mvtec_ad_320"
    if name == TURNED:
        data, name = turn(data / "pill", scratch / "turned" / "pill").parent, "pill"
    conf = OmegaConf.to_container(OmegaConf.load(config_folder() / "backbone" / f"{backbone}.yaml"))
    assert isinstance(conf, dict)
    if backbone == "resnet18":
        conf["weights"] = str(folder / "weights" / "resnet18_imagenet_conv1_to_layer3.safetensors")
    scratch.mkdir(parents=True, exist_ok=True)
    category = read_category(data, name, dataset="mvtec_ad")
    index = FileIndex(scratch / "files.sqlite")
    none = AugmentationConf(name="none")
    shard = Shard.of(category, BackboneConf(**conf), SIZE, none, index, crop)  # type: ignore[arg-type]
    stream = MapStream(shard, ["level2", "level3", "level4"], "cpu", cache=cache_at(str(scratch / "maps")))
    found = []
    for split in ("train", "test"):
        batches = [batch.maps for batch in stream.batches(split)]
        found.append({level: torch.cat([maps[level] for maps in batches]) for level in stream.levels})
    return found[0], found[1], masks_of(shard), np.asarray(category.test_labels)


def turn(source: Path, target: Path) -> Path:
    """A category with every image, and its mask, turned by an angle of its own; the border is mirrored."""
    if target.exists():
        return target
    generator = np.random.default_rng(0)
    for path in sorted(source.rglob("*.png")):
        relative = path.relative_to(source)
        if relative.parts[0] == "ground_truth":
            continue
        angle = float(generator.uniform(0, 360))
        mask = source / "ground_truth" / relative.parent.name / f"{relative.stem}_mask.png"
        turned = {relative: _turned(path, angle, Image.Resampling.BILINEAR)}
        if relative.parts[0] == "test" and mask.exists():
            turned[mask.relative_to(source)] = Image.open(mask).convert("L").rotate(angle)
        for place, image in turned.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            image.save(target / place)
    return target


def _turned(path: Path, angle: float, how: Image.Resampling) -> Image.Image:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width = pixels.shape[:2]
    margin = max(height, width) // 4
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    box = (margin, margin, margin + width, margin + height)
    return Image.fromarray(padded).rotate(angle, how).crop(box)


if __name__ == "__main__":
    main()
