"""Few training images and contaminated ones: a category with some of its records moved or left out.

Which images are taken is drawn image by image from the seed and the image's name, so that choices are nested:
the first k of an order are among the first k + 1, with or without contamination, and a file that is added
leaves the others in their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from anomaly_sweep.datasets.records import Category, ImageRecord
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.fingerprint import fingerprint


def subset_of(
    category: Category, train_images: int | None, contamination: float = 0.0, seed: int = 0
) -> Category:
    """A category trained on some of its training images, and on some of its anomalous test images.

    Parameters
    ----------
    category
        With all of its images.
    train_images
        How many good training images are kept: the first of the seed's order. None: all.
    contamination
        Share of the training images that are anomalous, in [0, 1): with n good ones, c / (1 - c) * n
        anomalous test images, rounded to the nearest whole number (halves up), are moved into training, the
        first of the seed's order. They are no test images any more.
    seed
        Of both orders.

    Returns
    -------
    Category
        Its training images are the moved ones, then the good ones; these and the test images are in the
        order that they have in ``category``.

    Raises
    ------
    DatasetError
        If there are fewer training images, or no anomalous test image would be left.

    Examples
    --------
    >>> from pathlib import Path
    >>> from anomaly_sweep import read_category
    >>> from anomaly_sweep.datasets.subsets import subset_of
    >>> from anomaly_sweep.datasets.synthetic import generate
    >>> generate(Path("images"), size=32, n_train=10, n_test_good=1, n_per_defect=2)
    >>> category = read_category(Path("images"), "washer", dataset="mine")
    >>> few = subset_of(category, 4, contamination=0.2)
    >>> [record.label for record in few.train], len(few.test) == len(category.test) - 1
    ([1, 0, 0, 0, 0], True)
    """
    if train_images is not None and train_images > len(category.train):
        raise DatasetError(
            f"{category.name}: dataset.train_images={train_images} is more than its {len(category.train)} "
            "training images; give a smaller number, or all"
        )
    train = _first(category.train, train_images, "train", seed)
    anomalous = [record for record in category.test if record.label]
    number = contaminating(len(train), contamination)
    if number and number >= len(anomalous):
        most = (len(anomalous) - 1) / (len(anomalous) - 1 + len(train))
        raise DatasetError(
            f"{category.name}: dataset.contamination={contamination:g} of {len(train)} good training images "
            f"takes {number} of its {len(anomalous)} anomalous test images, and one has to be left to be "
            f"found; give at most {math.floor(1000 * most) / 1000:g}, or fewer dataset.train_images"
        )
    moved = _first(anomalous, number, "contamination", seed)
    gone = {record.relative for record in moved}
    test = tuple(record for record in category.test if record.relative not in gone)
    return replace(category, train=(*moved, *train), test=test)


def contaminating(n_good: int, contamination: float) -> int:
    """How many anomalous images make up this share of the training images beside so many good ones."""
    share = Fraction(str(contamination))  # 0.1 is a tenth: halves are halves
    return math.floor(share / (1 - share) * n_good + Fraction(1, 2))


def _first(records: Sequence[ImageRecord], number: int | None, what: str, seed: int) -> list[ImageRecord]:
    """The first records of the seed's order, in their own."""
    if number is None or number == len(records):
        return list(records)
    drawn = sorted(records, key=lambda record: fingerprint(what, seed, record.relative))
    taken = {record.relative for record in drawn[:number]}
    return [record for record in records if record.relative in taken]
