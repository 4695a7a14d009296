"""Everything that is wrong with a data set, in one go."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly_sweep.datasets.file_index import FileIndex
from anomaly_sweep.datasets.images import examine
from anomaly_sweep.datasets.masks import Mask, read_mask, to_square
from anomaly_sweep.datasets.readers import FOLDER, Reader, open_root, reader_named, root_remarks
from anomaly_sweep.datasets.records import Category, ImageRecord, Remark
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.terminal import counted

#: Share of an image from which on a mask is told as marking nearly all of it.
NEARLY_ALL = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to repair, or to know.

    Parameters
    ----------
    category
        Name of the category; empty for what concerns the whole data set.
    path
        The file or folder it is about.
    message
        What is wrong and what to do; names the path.
    serious
        Whether it is to be repaired: it stops work or makes numbers wrong. Else the data can be used as they
        are.
    """

    category: str
    path: Path
    message: str
    serious: bool = True


def check_dataset(
    root: Path,
    categories: Sequence[str] | None = None,
    *,
    reader: str | Reader = FOLDER,
    input_size: int = 224,
    center_crop: int | None = None,
    index: FileIndex | None = None,
) -> list[Problem]:
    """Open every file of a data set and list all problems.

    Parameters
    ----------
    root
        Data set root.
    categories
        Categories to check; all if None.
    reader
        Whose layout it has: one of `reader_names`, a module with a ``READER``, or a reader. Where official
        numbers of images are known, what there is is compared with them.
    input_size, center_crop
        Side in pixels of the square that maps are evaluated at, and of its central part if that is cut out:
        masks that mark nothing there are told.
    index
        Hashes remembered from earlier work: files whose content is no longer what it was, although nothing
        in their folders tells, are named and set right.

    Returns
    -------
    list of Problem
        Sorted by category, then path; empty if there are none.

    Raises
    ------
    DatasetError
        If the root holds no category at all, or the index cannot be used.

    Examples
    --------
    >>> from pathlib import Path
    >>> from anomaly_sweep import check_dataset
    >>> from anomaly_sweep.datasets.synthetic import generate
    >>> generate(Path("images"), size=32, n_train=2, n_test_good=1, n_per_defect=1)
    >>> check_dataset(Path("images"))
    []
    """
    reader = reader_named(reader) if isinstance(reader, str) else reader
    root, known = open_root(root, reader)
    names = known if categories is None else sorted(set(categories))
    problems: list[Problem] = []
    if categories is None:
        problems += _of_remarks("", root_remarks(root, reader))
    found: list[Category] = []
    for name in names:
        try:
            category, wrong = reader.scan(root, name, dataset=root.name)
        except DatasetError as error:
            problems.append(Problem(name, root / name, str(error)))
            continue
        found.append(category)
        problems += [Problem(name, path, message) for path, message in wrong]
        problems += _of_remarks(name, category.remarks)
        problems += _check_good_masks(category, reader)
        problems += [Problem(name, path, message) for path, message in reader.missing(category)]
    if categories is None:
        problems += [
            Problem(name, root / name, f"{root / name} is missing: {reader.title} has this category")
            for name in sorted(reader.counts.keys() - set(known))
        ]
    problems += _check_files(found, input_size, center_crop)
    if index is not None:
        problems += _check_memory(found, index)
    return sorted(problems, key=lambda problem: (problem.category, str(problem.path), problem.message))


def _of_remarks(name: str, remarks: Iterable[Remark]) -> list[Problem]:
    return [Problem(name, remark.path, remark.message, remark.serious) for remark in remarks]


def _check_files(categories: Sequence[Category], size: int, crop: int | None) -> Iterator[Problem]:
    records = [(c.name, record) for c in categories for record in c.images]
    pixels: dict[str, dict[str, list[ImageRecord]]] = defaultdict(lambda: defaultdict(list))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        results = pool.map(lambda item: _check_record(item[0], item[1], size, crop), records)
        for (name, record), (problems, digest) in zip(
            records, counted(results, "checking images", len(records)), strict=True
        ):
            yield from problems
            if digest is not None:
                pixels[name][digest].append(record)
    for category in categories:
        train = set(category.train)
        for same in pixels[category.name].values():
            if len(same) > 1:
                yield from _copies(category.name, same, train)


def _copies(name: str, same: Sequence[ImageRecord], train: set[ImageRecord]) -> Iterator[Problem]:
    """Images of one category with the same pixels; the training images come first."""
    first = same[0]
    for record in same[1:]:
        text = f"{record.path} shows the same pixels as {first.path}"
        if first in train and record not in train:
            yield Problem(name, record.path, f"{text}: a test image that was trained on; remove one of them")
        elif first.label != record.label:
            yield Problem(
                name, record.path, f"{text}, but one is good and the other is not; remove one of them"
            )
        elif first.defect != record.defect:
            yield Problem(
                name, record.path, f"{text}, which counts as another defect type; remove one of them"
            )
        else:
            yield Problem(name, record.path, f"{text}: it counts twice", serious=False)


def _check_record(
    name: str, record: ImageRecord, size: int, crop: int | None
) -> tuple[list[Problem], str | None]:
    """What is wrong with an image and its mask, and a digest of the image's pixels (None: it has none)."""
    problems: list[Problem] = []
    image_size, digest = None, None
    try:
        image, remarks = examine(record.path)
    except DatasetError as error:
        problems.append(Problem(name, record.path, str(error)))
    else:
        image_size, digest = image.size, _pixel_digest(image)
        problems += [Problem(name, record.path, remark, serious=False) for remark in remarks]
    if record.label and not record.masks:
        message = f"{record.path} has no mask: pixel metrics cannot use it (image-level ones can)"
        problems.append(Problem(name, record.path, message))
    for mask in record.masks:
        problems += _check_mask(name, mask, record.path, image_size, size, crop)
    return problems, digest


def _pixel_digest(image: Image.Image) -> str:
    digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _check_mask(
    name: str, path: Path, image: Path, image_size: tuple[int, int] | None, size: int, crop: int | None
) -> Iterator[Problem]:
    try:
        mask = read_mask(path)
    except DatasetError as error:
        yield Problem(name, path, str(error))
        return
    if image_size is not None and mask.size != image_size:
        message = "mask {} is {} x {}, its image {} is {} x {}: replace the mask"
        yield Problem(name, path, message.format(path, *mask.size, image, *image_size))
    if mask.remark:
        yield Problem(name, path, f"mask {path} - {mask.remark}", serious=False)
    yield from (Problem(name, path, message) for message in _check_marks(mask, path, image, size, crop))


def _check_marks(mask: Mask, path: Path, image: Path, size: int, crop: int | None) -> Iterator[str]:
    share = float(mask.marked.mean())
    if not share:
        yield f"mask {path} marks no pixel: redraw it, or move {image} to the good images"
    elif not to_square(mask.marked, size, crop).any():
        where = f"{size} x {size} pixels" + (f", of which the central {crop} are used" if crop else "")
        yield (
            f"mask {path} marks {int(mask.marked.sum())} pixel(s), none of which is left at {where}: {image} "
            "counts as good there, pixel by pixel; use a larger input size"
        )
    elif share >= NEARLY_ALL:
        yield f"mask {path} marks {share:.1%} of {image}: if that is the background, invert it"


def _check_good_masks(category: Category, reader: Reader) -> Iterator[Problem]:
    """Masks of good images are not used; one that marks something contradicts them."""
    for path in reader.good_masks(category.root, category.name):
        try:
            marked = read_mask(path).marked.any()
        except DatasetError as error:
            yield Problem(
                category.name, path, f"{error} (it is not used: good images need no mask)", serious=False
            )
            continue
        if marked:
            yield Problem(category.name, path, f"mask {path} marks a defect in a good image: move both")


def _check_memory(categories: Sequence[Category], index: FileIndex) -> list[Problem]:
    """Files that changed behind the back of the index."""
    problems: list[Problem] = []
    for category in categories:
        paths = [record.path for record in category.images]
        paths += [mask for record in category.images for mask in record.masks]
        problems += [
            Problem(
                category.name,
                path,
                f"{path} changed although its size and times did not: what was computed since may be of its "
                "former content. From now on it counts as what it is; launch your sweeps again",
            )
            for path in index.verify(paths)
        ]
    return problems
