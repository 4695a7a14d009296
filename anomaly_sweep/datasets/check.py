"""Everything that is wrong with a data set, in one go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from anomaly_sweep.datasets.folder import list_categories, scan_category
from anomaly_sweep.datasets.images import read_image
from anomaly_sweep.datasets.masks import read_mask
from anomaly_sweep.datasets.mvtec_ad import OFFICIAL_COUNTS, Counts
from anomaly_sweep.datasets.records import Category, ImageRecord
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.terminal import counted


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to repair.

    Parameters
    ----------
    category
        Name of the category.
    path
        The file or folder it is about.
    message
        What is wrong and what to do; names the path.
    """

    category: str
    path: Path
    message: str


def check_dataset(
    root: Path, categories: Sequence[str] | None = None, *, official_counts: bool
) -> list[Problem]:
    """Open every file of a data set in MVTec AD's layout and list all problems.

    Parameters
    ----------
    root
        Data set root.
    categories
        Categories to check; all if None.
    official_counts
        Also compare the number of images with MVTec AD's official ones.

    Returns
    -------
    list of Problem
        Sorted by category, then path; empty if there are none.

    Raises
    ------
    DatasetError
        If the root holds no category at all.
    """
    names = list_categories(root) if categories is None else sorted(set(categories))
    known = set(list_categories(root))
    problems: list[Problem] = []
    records: list[tuple[str, ImageRecord]] = []
    for name in names:
        try:
            category, found = scan_category(root, name, dataset=root.name)
        except DatasetError as error:
            problems.append(Problem(name, root / name, str(error)))
            continue
        problems += [Problem(name, path, message) for path, message in found]
        records += [(name, record) for record in (*category.train, *category.test)]
        if official_counts:
            problems += _compare_counts(category)
    if official_counts and categories is None:
        missing = sorted(OFFICIAL_COUNTS.keys() - known)
        problems += [
            Problem(name, root / name, f"{root / name} is missing: MVTec AD has this category")
            for name in missing
        ]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        results = pool.map(lambda item: _check_record(item[1]), records)
        for (name, _), found in zip(records, counted(results, "checking images", len(records)), strict=True):
            problems += [Problem(name, path, message) for path, message in found]
    return sorted(problems, key=lambda problem: (problem.category, str(problem.path)))


def count_images(category: Category) -> Counts:
    """Number of training, good test and anomalous test images of a category."""
    defective = int(category.test_labels.sum())
    return Counts(len(category.train), len(category.test) - defective, defective)


def _compare_counts(category: Category) -> list[Problem]:
    path = category.root / category.name
    official = OFFICIAL_COUNTS.get(category.name)
    if official is None:
        return [Problem(category.name, path, f"{path} is not a category of MVTec AD")]
    found = count_images(category)
    parts = {
        "train/good": (found.train_good, official.train_good),
        "test/good": (found.test_good, official.test_good),
        "test/<defect>": (found.test_defect, official.test_defect),
    }
    return [
        Problem(category.name, path / part, f"{path}/{part} holds {have} images, MVTec AD has {want} there")
        for part, (have, want) in parts.items()
        if have != want
    ]


def _check_record(record: ImageRecord) -> list[tuple[Path, str]]:
    problems: list[tuple[Path, str]] = []
    size = None
    try:
        size = read_image(record.path).size
    except DatasetError as error:
        problems.append((record.path, str(error)))
    if record.label and record.mask is None:
        message = f"{record.path} has no mask: pixel metrics cannot use it (image-level ones can)"
        problems.append((record.path, message))
    if record.mask is not None:
        problems += _check_mask(record.mask, record.path, size)
    return problems


def _check_mask(mask: Path, image: Path, image_size: tuple[int, int] | None) -> list[tuple[Path, str]]:
    try:
        read = read_mask(mask)
    except DatasetError as error:
        return [(mask, str(error))]
    problems: list[tuple[Path, str]] = []
    if image_size is not None and read.size != image_size:
        message = "mask {} is {} x {}, its image {} is {} x {}: replace the mask"
        problems.append((mask, message.format(mask, *read.size, image, *image_size)))
    if not read.marked.any():
        problems.append((mask, f"mask {mask} marks no pixel: redraw it, or move {image} to the good images"))
    return problems
