"""Writes the synthetic data set in MVTec AD's layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.datasets.records import GOOD
from anomaly_sweep.datasets.synthetic.catalogue import PRODUCTS, Product
from anomaly_sweep.datasets.synthetic.render import render_defective, render_good
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.terminal import counted

GENERATOR_VERSION = 1  # raise it with every change that alters a pixel
CARD = "synthetic.json"
MIN_SIZE = 32
_TRAIN, _TEST_GOOD, _TEST_DEFECT = range(3)  # split numbers in the random streams; defects count on from 2


@dataclass(frozen=True, slots=True)
class _Parameters:
    generator_version: int
    seed: int
    size: int
    n_train: int
    n_test_good: int
    n_per_defect: int


def generate(
    root: Path,
    *,
    seed: int = 0,
    size: int = 128,
    n_train: int = 60,
    n_test_good: int = 20,
    n_per_defect: int = 10,
) -> None:
    """Write the synthetic data set: 5 textures and 10 objects with three defect types each.

    Every picture depends on the seed and its own place alone, so the same call writes the same bytes, and
    a larger set begins with the pictures of a smaller one. A finished set with the same parameters is left
    as it is.

    Parameters
    ----------
    root
        Folder to create. It appears when the set is complete, never before.
    seed
        Non-negative.
    size
        Width and height in pixels, at least 32.
    n_train, n_test_good, n_per_defect
        Images for each category (at least 2, 1 and 1); ``n_per_defect`` counts for each of the three
        defect types.

    Raises
    ------
    DatasetError
        If a number is out of range, ``root`` holds something else, or it cannot be written.
    """
    parameters = _Parameters(GENERATOR_VERSION, seed, size, n_train, n_test_good, n_per_defect)
    _validate(parameters)
    root = root.absolute()
    if _is_complete(root, parameters):
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".part", dir=root.parent))
        try:
            part.chmod(0o755)  # mkdtemp's folder is the owner's alone
            _write(part, parameters)
            _publish(part, root, parameters)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DatasetError(
            f"cannot write the synthetic data set to {root}: {error}; choose a writable folder with space"
        ) from error


def _validate(parameters: _Parameters) -> None:
    least = {"seed": 0, "size": MIN_SIZE, "n_train": 2, "n_test_good": 1, "n_per_defect": 1}
    for name, minimum in least.items():
        value = getattr(parameters, name)
        if value < minimum:
            raise DatasetError(f"synthetic data set: {name}={value} is too small, give at least {minimum}")


def _is_complete(root: Path, parameters: _Parameters) -> bool:
    """Whether the very set is there already; an error if something else is."""
    if not root.exists():
        return False
    card = root / CARD
    if root.is_dir() and not card.exists() and not any(root.iterdir()):
        return False
    try:
        found = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{root} exists and is not a synthetic data set (no readable {CARD}): choose another folder; "
            "to sweep over the images in it, give dataset=folder"
        ) from error
    wanted = asdict(parameters)
    if found == wanted:
        return True
    raise DatasetError(
        f"{root} holds a synthetic data set with other parameters (found {found}, asked {wanted}): "
        "choose another folder, or delete this one first"
    )


def _write(part: Path, parameters: _Parameters) -> None:
    for number, product in counted(enumerate(PRODUCTS), "drawing", len(PRODUCTS)):
        _write_product(part / product.name, product, number, parameters)
    (part / CARD).write_text(json.dumps(asdict(parameters), indent=2) + "\n", encoding="utf-8")


def _write_product(folder: Path, product: Product, number: int, parameters: _Parameters) -> None:
    size = parameters.size

    def key(split: int, image: int) -> tuple[int, ...]:
        return (parameters.seed, number, split, image)

    for i in range(parameters.n_train):
        _save(folder / "train" / GOOD / f"{i:03d}.png", render_good(product, size, key(_TRAIN, i)))
    for i in range(parameters.n_test_good):
        _save(folder / "test" / GOOD / f"{i:03d}.png", render_good(product, size, key(_TEST_GOOD, i)))
    for place, defect in enumerate(product.defects):
        for i in range(parameters.n_per_defect):
            pair = render_defective(product, defect, size, key(_TEST_DEFECT + place, i))
            _save(folder / "test" / defect / f"{i:03d}.png", pair.defective)
            _save(folder / "ground_truth" / defect / f"{i:03d}_mask.png", pair.mask.astype(np.uint8) * 255)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=4)


def _publish(part: Path, root: Path, parameters: _Parameters) -> None:
    try:
        part.replace(root)  # an empty folder gives way, anything else does not
    except OSError:
        # Another process may have finished the same set first.
        if not _is_complete(root, parameters):
            raise
