"""What a data set is to the rest of the project: lists of image files with labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOOD = "good"
#: A kind of remark.
ORPHAN_MASKS = "masks that belong to no image"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image file.

    Parameters
    ----------
    path
        Absolute path of the image.
    relative
        The same path relative to the data set root, with forward slashes on every system.
    defect
        ``"good"``, or the name of the defect type (as a rule the folder the image lies in).
    masks
        Absolute paths of the pixel masks: one as a rule, several where each marks a defect of its own; none
        where there are none (always for good images).
    group
        What images belong together by, where a data set says so: the object that several views show, the
        batch. Empty if it does not.
    """

    path: Path
    relative: str
    defect: str
    masks: tuple[Path, ...] = ()
    group: str = ""

    @property
    def label(self) -> int:
        """0 for a good image, 1 for an anomalous one."""
        return int(self.defect != GOOD)


@dataclass(frozen=True, slots=True)
class Remark:
    """An entry of a data set's folders that is not read, or not as one may think.

    Parameters
    ----------
    kind
        What it is, in the plural, to be counted.
    path
        The file or folder.
    message
        What becomes of it and what to do; names the path.
    serious
        Whether it looks like a mistake.
    """

    kind: str
    path: Path
    message: str
    serious: bool = True


@dataclass(frozen=True, slots=True)
class Saturation:
    """How much of a defect has to be found for all of it to count as found (MVTec LOCO AD).

    Parameters
    ----------
    defect
        What the kind of defect is called.
    value
        The intensity of its pixels in masks.
    threshold
        Pixels of the image, or a share of the defect's own pixels.
    relative
        Whether it is a share.
    """

    defect: str
    value: int
    threshold: float
    relative: bool


@dataclass(frozen=True, slots=True)
class Category:
    """One product class: defect-free training images and a test set of both kinds.

    Parameters
    ----------
    dataset
        Name of the data set.
    name
        Name of the category.
    root
        Root folder of the data set (the category's parent).
    train, test
        Records, each sorted by ``relative``.
    remarks
        What else its folders hold.
    saturations
        How much of a defect is to be found, where the data set says so.
    """

    dataset: str
    name: str
    root: Path
    train: tuple[ImageRecord, ...]
    test: tuple[ImageRecord, ...]
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    saturations: tuple[Saturation, ...] = ()

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """The training images, then the test images."""
        return (*self.train, *self.test)

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Labels of the test images, shape ``(n_test,)``: 0 good, 1 anomalous."""
        return np.array([record.label for record in self.test], dtype=np.int64)
