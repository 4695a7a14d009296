"""Reader of MVTec AD's folder layout, by listing only: no image is opened here.

The layout, for each category::

    <root>/<category>/train/good/*.png
    <root>/<category>/test/good/*.png
    <root>/<category>/test/<defect>/NNN.png
    <root>/<category>/ground_truth/<defect>/NNN_mask.png   (or NNN.png; optional)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly_sweep.datasets.images import SUFFIXES
from anomaly_sweep.datasets.records import GOOD, Category, ImageRecord
from anomaly_sweep.errors import DatasetError

LAYOUT = "<category>/train/good, <category>/test/good and <category>/test/<defect>"
MIN_TRAIN = 2  # a mean and a variance need two


def list_categories(root: Path) -> list[str]:
    """Names of the categories under a data set root.

    Parameters
    ----------
    root
        Data set root. Every visible sub-folder that holds ``train`` or ``test`` is a category.

    Returns
    -------
    list of str
        Sorted names, at least one.

    Raises
    ------
    DatasetError
        If the root is missing or holds no category.
    """
    if not root.is_dir():
        raise DatasetError(
            f"data set root {root} is not a folder: give the folder that holds the categories ({LAYOUT})"
        )
    folders = _folders(root)
    names = [folder.name for folder in folders if _looks_like_category(folder)]
    if names:
        return names
    if _looks_like_category(root):
        raise DatasetError(f"{root} is itself a category, not a data set root: give its parent {root.parent}")
    raise DatasetError(
        f"no category under {root}: expected {LAYOUT}, found {_listing([folder.name for folder in folders])}"
    )


def read_category(root: Path, name: str, *, dataset: str) -> Category:
    """List one category's images and check that it can be used.

    Parameters
    ----------
    root
        Data set root.
    name
        Category, a sub-folder of ``root``.
    dataset
        Name the data set goes by; stored in the result.

    Returns
    -------
    Category
        At least two training images and at least one test image of each label. Images without a mask
        have ``mask=None``: image-level work does not need it.

    Raises
    ------
    DatasetError
        If the category is missing, cannot be listed, lacks images, or has masks without an image.
    """
    category, problems = scan_category(root, name, dataset=dataset)
    if problems:
        raise DatasetError(problems[0][1])
    return category


def scan_category(root: Path, name: str, *, dataset: str) -> tuple[Category, list[tuple[Path, str]]]:
    """List one category's images and everything that is wrong with the listing.

    Parameters
    ----------
    root, name, dataset
        As for `read_category`.

    Returns
    -------
    category
        What was found, possibly without images.
    problems
        ``(file or folder, message)`` pairs; empty if the category can be used.

    Raises
    ------
    DatasetError
        If the category is missing or a folder cannot be listed.
    """
    root = root.absolute()
    known = list_categories(root)
    if name not in known:
        raise DatasetError(f"no category {name!r} under {root}: there are {_listing(known)}")
    base = root / name
    problems: list[tuple[Path, str]] = []
    train_good = base / "train" / GOOD
    train = [_record(root, path, GOOD, None) for path in _images(train_good)]
    if not train_good.is_dir():
        problems.append((train_good, f"{train_good} is missing: put the defect-free training images there"))
    elif len(train) < MIN_TRAIN:
        message = f"{train_good} holds {len(train)} image(s): training needs at least {MIN_TRAIN}"
        problems.append((train_good, message))
    test: list[ImageRecord] = []
    for folder in _folders(base / "test"):
        images = _images(folder)
        masks, orphans = ({}, []) if folder.name == GOOD else _masks(base, folder.name, images)
        test += [_record(root, path, folder.name, masks.get(path)) for path in images]
        problems += orphans
    for folder in _folders(base / "ground_truth"):
        if folder.name != GOOD and not (base / "test" / folder.name).is_dir():
            problems += _masks(base, folder.name, [])[1]
    problems += _test_problems(base / "test", test)
    category = Category(dataset, name, root, _sorted(train), _sorted(test))
    return category, problems


def _test_problems(folder: Path, test: Sequence[ImageRecord]) -> list[tuple[Path, str]]:
    labels = {record.label for record in test}
    if not labels:
        return [(folder, f"no test image under {folder}: expected {folder / GOOD} and {folder}/<defect>")]
    if labels == {0}:
        where = f"{folder}/<defect>"
        return [
            (folder, f"the test set has no anomalous image: put some into {where}; AUROC needs both kinds")
        ]
    if labels == {1}:
        where = str(folder / GOOD)
        return [(folder, f"the test set has no good image: put some into {where}; AUROC needs both kinds")]
    return []


def _masks(
    base: Path, defect: str, images: Sequence[Path]
) -> tuple[dict[Path, Path], list[tuple[Path, str]]]:
    """Masks by image, and the masks that belong to no image."""
    folder = base / "ground_truth" / defect
    found: dict[Path, Path] = {}
    orphans: list[tuple[Path, str]] = []
    by_stem = {path.stem: path for path in images}
    for mask in _images(folder):
        plain = mask.stem.removesuffix("_mask")
        image = by_stem.get(plain) or by_stem.get(mask.stem)
        if image is None:
            where = base / "test" / defect
            message = (
                f"mask {mask} has no image: expected {where / plain}.*; add the image or delete the mask"
            )
            orphans.append((mask, message))
        elif image not in found or mask.stem != plain:  # NNN_mask.png wins over NNN.png
            found[image] = mask
    return found, orphans


def _looks_like_category(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DatasetError(f"cannot list {folder}: {error.strerror}; check its permissions") from error


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _images(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def _record(root: Path, path: Path, defect: str, mask: Path | None) -> ImageRecord:
    return ImageRecord(path, path.relative_to(root).as_posix(), defect, mask)


def _sorted(records: list[ImageRecord]) -> tuple[ImageRecord, ...]:
    return tuple(sorted(records, key=lambda record: record.relative))


def _listing(names: Sequence[str], limit: int = 20) -> str:
    if not names:
        return "no sub-folder"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
