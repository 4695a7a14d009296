"""Small backbones, pictures, categories and shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from anomaly_sweep.config import AugmentationConf, BackboneConf
from anomaly_sweep.datasets import Category, FileIndex, ImageRecord
from anomaly_sweep.features.shard import Shard

CPU = torch.device("cpu")
torch.set_num_threads(1)  # the maps are small, and the tests may share the machine
RESNET_LEVELS = {
    "level1": "maxpool",
    "level2": "layer1",
    "level3": "layer2",
    "level4": "layer3",
    "level5": "layer4",
}
PLAIN = AugmentationConf(name="none")


def resnet18(**changes: Any) -> BackboneConf:
    """resnet18 with few channels and random weights, at 64 pixels, or as changed."""
    settings: dict[str, Any] = {
        "name": "resnet18",
        "model": "resnet18.tv_in1k",
        "levels": dict(RESNET_LEVELS),
        "input_size": 64,
        "kwargs": {"zero_init_last": False, "channels": [16, 32, 64, 128]},
        "weights": "random",
    }
    return BackboneConf(**(settings | changes))


def pixels(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth colours with some grain, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)


def write_png(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def make_category(root: Path, n_train: int = 5, n_test: int = 3, size: int = 64) -> Category:
    """A category ``nut`` of the data set ``parts``."""

    def records(folder: str, count: int, first_seed: int, defect: str) -> tuple[ImageRecord, ...]:
        made = []
        for number in range(count):
            relative = f"nut/{folder}/{number:03d}.png"
            path = write_png(root / relative, pixels(first_seed + number, size, size))
            made.append(ImageRecord(path, relative, defect))
        return tuple(made)

    train = records("train/good", n_train, 0, "good")
    test = records("test/crack", n_test, 100, "crack")
    return Category("parts", "nut", root, train, test)


def shard_of(
    category: Category,
    backbone: BackboneConf | None = None,
    input_size: int = 64,
    augmentation: AugmentationConf = PLAIN,
) -> Shard:
    """A category as the small backbone sees it."""
    index = FileIndex(category.root.parent / "files.sqlite")
    return Shard.of(category, backbone or resnet18(), input_size, augmentation, index)


def give_statistics(model: torch.nn.Module, seed: int = 0) -> None:
    """Batch norms as after training: running statistics and affine parameters away from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def around(values: torch.Tensor, centre: float, spread: float) -> None:
        values.copy_(centre + spread * (2 * torch.rand(values.shape, generator=generator) - 1))

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                around(module.running_mean, 0.0, 0.2)
                around(module.running_var, 1.0, 0.5)
                around(module.weight, 1.0, 0.3)
                around(module.bias, 0.0, 0.2)
