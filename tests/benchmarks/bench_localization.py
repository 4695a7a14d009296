"""Scoring seconds of the localizers in one run, on the same feature maps, as ratios to PatchCore.

Two parts, by the protocol of ``anomaly_sweep.localization.timing`` (docs/timing.md), one thread:

- maps of WideResNet-101-2's shapes at 256 pixels, random numbers: speed only. PatchCore's banks have as many
  rows as 1 % and 10 % of an average MVTec AD category (240 images).
- with ``--real FOLDER`` (``data/mvtec_ad_320`` and ``weights`` in it; default: ANOMALY_SWEEP_REAL): ResNet-18
  on the bottle images, every localizer fitted on the 209 training images: speed and accuracy.

Where the package ``anomalib`` is installed (it is no dependency), its PatchCore is in the first part and its
PaDiM in the second: its selection of a real category's coreset takes six minutes on a core, and its inversion
of WideResNet's covariances 15 GB.

    python tests/benchmarks/bench_localization.py [--images 16] [--repeats 5] [--real FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from anomaly_sweep.config import AugmentationConf, BackboneConf
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.datasets import FileIndex, read_category
from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.maps import MapStream
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.localization.base import Localizer, Maps, Scored
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.render import render
from anomaly_sweep.localization.timing import peak_bytes, time_backbone, time_localizer
from anomaly_sweep.metrics.regions import pixel_metrics
from anomaly_sweep.tasks.localization.run import describe_device, masks_of

SIDE, SIGMA = 256, 4.0
WIDE = {"level2": (256, 64, 64), "level3": (512, 32, 32), "level4": (1024, 16, 16)}
CATEGORY_IMAGES = 240


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=16, help="images scored in a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--real", type=Path, default=os.environ.get("ANOMALY_SWEEP_REAL"))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    device = torch.device(arguments.device)
    print(f"device: {describe_device(device)}")
    wide(arguments.images, arguments.repeats, device)
    if arguments.real:
        real(Path(arguments.real), arguments.repeats, device)
    print(f"\npeak memory of all of this: {peak_bytes(device) / 1e9:.1f} GB")


def localizer(name: str, **changes: Any) -> Localizer:
    """A shipped option, changed."""
    option = OmegaConf.to_container(OmegaConf.load(config_folder() / "localizer" / f"{name}.yaml"))
    assert isinstance(option, dict)
    return build({**option, **changes})


def wide(images: int, repeats: int, device: torch.device) -> None:
    """Random maps of WideResNet-101-2's shapes."""
    generator = torch.Generator().manual_seed(0)

    def maps(n: int) -> dict[str, torch.Tensor]:
        return {level: torch.rand(n, *shape, generator=generator).to(device) for level, shape in WIDE.items()}

    few = CATEGORY_IMAGES // 10
    train, test = maps(few), maps(images)
    made: dict[str, Any] = {
        "ridge": localizer("ridge"),
        "ridge 1x1": localizer("ridge", neighborhood=1),
        "ridge_plus": localizer("ridge_plus"),
        "patchcore 1 %": localizer("patchcore", coreset=0.1),  # of a tenth of the images
        "patchcore 10 %": localizer("patchcore", coreset=1.0),
        "padim 550": localizer("padim", channels=550),
    }
    if importlib.util.find_spec("anomalib") is not None:
        made["anomalib patchcore 1 %"] = AnomalibPatchcore(0.1)
    for name, one in made.items():
        begun = time.perf_counter()
        fit(one, [train])
        print(f"fitted {name} to {few} images in {time.perf_counter() - begun:.1f} s")
    print(f"\nWideResNet-101-2's shapes at {SIDE} px, random maps, {images} images, median of {repeats}")
    table(made, test, repeats)


def real(folder: Path, repeats: int, device: torch.device) -> None:
    """ResNet-18 on real bottles."""
    option = OmegaConf.to_container(OmegaConf.load(config_folder() / "backbone" / "resnet18.yaml"))
    assert isinstance(option, dict)
    weights = folder / "weights" / "resnet18_imagenet_conv1_to_layer3.safetensors"
    backbone = BackboneConf(**{**option, "weights": str(weights)})
    category = read_category(folder / "data" / "mvtec_ad_320", "bottle", dataset="mvtec_ad")
    with tempfile.TemporaryDirectory() as scratch:
        index = FileIndex(Path(scratch) / "files.sqlite")
        shard = Shard.of(category, backbone, SIDE, AugmentationConf(name="none"), index)
    stream = MapStream(shard, list(WIDE), str(device))
    made: dict[str, Any] = {
        "ridge": localizer("ridge"),
        "ridge, literal": localizer("ridge", intercept="shared"),
        "ridge 1x1": localizer("ridge", neighborhood=1),
        "ridge_plus": localizer("ridge_plus"),
        "patchcore 1 %": localizer("patchcore"),
        "patchcore 10 %": localizer("patchcore", coreset=0.1),
        "padim 100": localizer("padim"),
    }
    if importlib.util.find_spec("anomalib") is not None:
        made["anomalib padim 100"] = AnomalibPadim()
    seconds = dict.fromkeys(made, 0.0)
    for batch in stream.batches("train"):
        for name, one in made.items():
            begun = time.perf_counter()
            one.partial_fit({level: batch.maps[level] for level in one.levels})
            seconds[name] += time.perf_counter() - begun
    for name, one in made.items():
        begun = time.perf_counter()
        one.finish()
        seconds[name] += time.perf_counter() - begun
        print(f"fitted {name} to {len(category.train)} images in {seconds[name]:.1f} s")
    parts = [batch.maps for batch in stream.batches("test")]
    test = {level: torch.cat([part[level] for part in parts]) for level in WIDE}
    print(f"\nResNet-18 at {SIDE} px on {len(category.test)} real bottle images, median of {repeats}")
    images = [load_square(record.path, SIDE) for record in category.test[:16]]
    for batch_size in (1, 16):
        took = time_backbone(stream.network, images, list(WIDE), batch_size, repeats=repeats)
        print(f"  backbone to level4, batch {batch_size:2d}: {took.median * 1e3:.1f} ms/image")
    table(made, test, repeats)
    masks = masks_of(shard)
    for name, one in made.items():
        maps = torch.cat([render(one.score(part).grid, SIDE, SIGMA) for part in parts]).cpu().numpy()
        pixel = pixel_metrics(maps, masks)
        print(f"  {name:24s} pixel AUROC {pixel.auroc:.4f}  AUPRO {pixel.aupro:.4f}")


def fit(one: Localizer, batches: list[dict[str, torch.Tensor]]) -> None:
    for batch in batches:
        one.partial_fit({level: batch[level] for level in one.levels})
    one.finish()


def table(made: dict[str, Localizer], maps: Maps, repeats: int) -> None:
    """Milliseconds an image, one row a localizer."""
    found = {
        name: {batch: time_localizer(one, maps, SIDE, SIGMA, batch, repeats=repeats) for batch in (1, 16)}
        for name, one in made.items()
    }
    one_percent, ten_percent = (found[f"patchcore {share} %"] for share in (1, 10))
    print(
        f"  {'':24s}{'score, batch 1':>26s}{'score, batch 16':>26s}{'map':>8s}"
        f"{'1 % / it':>10s}{'10 % / it':>10s}{'state':>10s}"
    )
    for name, timings in found.items():
        cells = ""
        for score, _ in timings.values():
            low, high = score.quartiles
            cells += f"{score.median * 1e3:10.2f} ({low * 1e3:.2f}-{high * 1e3:.2f}) ms".rjust(26)
        ratios = "".join(
            f"{reference[16][0].median / timings[16][0].median:10.2f}"
            for reference in (one_percent, ten_percent)
        )
        state = made[name].state_bytes / 1e6
        print(f"  {name:24s}{cells}{timings[16][1].median * 1e3:8.2f}{ratios}{state:8.0f} MB")


class AnomalibPatchcore:
    """anomalib's PatchCore, under our contract."""

    levels = ("level3", "level4")

    def __init__(self, coreset: float) -> None:
        ensure_torchvision_imports()
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        self.coreset = coreset
        self.model = PatchcoreModel(["layer2", "layer3"], "resnet18", pre_trained=False).eval()

    @property
    def state_bytes(self) -> int:
        """The bank."""
        return 4 * int(self.model.memory_bank.numel())

    def partial_fit(self, maps: Maps) -> None:
        """Keep the embeddings, as anomalib does."""
        self.model.embedding_store.append(self.model.reshape_embedding(self._embedding(maps)))

    def finish(self) -> None:
        """Select the coreset."""
        self.model.subsample_embedding(self.coreset)

    def score(self, maps: Maps) -> Scored:
        """Distances to the nearest vector of the bank."""
        embedding = self._embedding(maps)
        b, _, h, w = embedding.shape
        scores, _ = self.model.nearest_neighbors(self.model.reshape_embedding(embedding), n_neighbors=1)
        return Scored(scores.reshape(b, h, w))

    def _embedding(self, maps: Maps) -> torch.Tensor:
        pooled = {f"layer{i}": self.model.feature_pooler(maps[lv]) for i, lv in enumerate(self.levels, 2)}
        embedding: torch.Tensor = self.model.generate_embedding(pooled)
        return embedding


class AnomalibPadim:
    """anomalib's PaDiM on 100 channels of ResNet-18, under our contract."""

    levels = ("level2", "level3", "level4")

    def __init__(self) -> None:
        ensure_torchvision_imports()
        from anomalib.models.image.padim.torch_model import PadimModel

        self.model = PadimModel("resnet18", pre_trained=False, n_features=100).eval()
        self.model.idx = torch.tensor(random.Random(1024).sample(range(448), 100))

    @property
    def state_bytes(self) -> int:
        """Means and inverse covariances."""
        gaussian = self.model.gaussian
        return 4 * int(gaussian.mean.numel() + gaussian.inv_covariance.numel())

    def partial_fit(self, maps: Maps) -> None:
        """Keep the embeddings, as anomalib does."""
        self.model.memory_bank.append(self._embedding(maps))

    def finish(self) -> None:
        """Fit the Gaussians."""
        self.model.fit()

    def score(self, maps: Maps) -> Scored:
        """Mahalanobis distances."""
        gaussian = self.model.gaussian
        stats = [gaussian.mean, gaussian.inv_covariance]
        return Scored(self.model.anomaly_map_generator.compute_distance(self._embedding(maps), stats)[:, 0])

    def _embedding(self, maps: Maps) -> torch.Tensor:
        layers = {f"layer{i}": maps[level] for i, level in enumerate(self.levels, 1)}
        embedding: torch.Tensor = self.model.generate_embedding(layers)
        return embedding


if __name__ == "__main__":
    main()
