"""Reader of MVTec AD's folder layout, by listing only: no image is opened here.

The layout, for each category::

    <root>/<category>/train/good/*.png
    <root>/<category>/test/good/*.png
    <root>/<category>/test/<defect>/NNN.png
    <root>/<category>/ground_truth/<defect>/NNN_mask.png   (or NNN.png; optional)

Whatever else the folders hold is told: what makes the category useless or its numbers wrong as a problem,
the rest as remarks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anomaly_sweep.datasets.listing import Listing, list_folder
from anomaly_sweep.datasets.records import GOOD, Category, ImageRecord, Remark
from anomaly_sweep.errors import DatasetError

LAYOUT = "<category>/train/good, <category>/test/good and <category>/test/<defect>"
MIN_TRAIN = 2  # a mean and a variance need two
#: A kind of remark.
ORPHAN_MASKS = "masks that belong to no image"
_PARTS = ("train", "test", "ground_truth")
_MASK = "_mask"
# Beside images they are notes; beside masks they may be the marks.
_DOCUMENTS = frozenset(
    {".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".log", ".ini"}
)
# Names under which other data sets keep their good images.
_LIKE_GOOD = frozenset(
    {"goods", "ok", "okay", "normal", "normals", "negative", "pass", "nodefect", "nondefective", "defectfree"}
)


def list_categories(root: Path) -> list[str]:
    """Names of the categories under a data set root.

    Parameters
    ----------
    root
        Data set root. Every visible sub-folder that holds ``train`` or ``test`` is a category; so is a link
        that leads nowhere, lest it be left out unseen.

    Returns
    -------
    list of str
        Sorted names, at least one.

    Raises
    ------
    DatasetError
        If the root is missing or holds no category.

    Examples
    --------
    >>> from pathlib import Path
    >>> from anomaly_sweep import list_categories
    >>> from anomaly_sweep.datasets.synthetic import generate
    >>> generate(Path("images"), size=32, n_train=2, n_test_good=1, n_per_defect=1)
    >>> list_categories(Path("images"))[:3]
    ['bolt_head', 'bracket', 'chip']
    """
    if not root.is_dir():
        raise DatasetError(
            f"data set root {root} is not a folder: give the folder that holds the categories ({LAYOUT})"
        )
    listing = list_folder(root)
    names = sorted(
        [folder.name for folder in listing.folders if _looks_like_category(folder)]
        + [link.name for link in listing.dangling if not link.suffix]
    )
    if names:
        return names
    if _looks_like_category(root):
        raise DatasetError(f"{root} is itself a category, not a data set root: give its parent {root.parent}")
    raise DatasetError(
        f"no category under {root}: expected {LAYOUT}, found {_listing([f.name for f in listing.folders])}"
    )


def root_remarks(root: Path) -> list[Remark]:
    """What a data set's root holds beside categories."""
    listing = list_folder(root)
    categories = {name.casefold(): name for name in list_categories(root)}
    remarks = [
        Remark(
            "folders that are no category",
            folder,
            f"{folder} is not read: it holds neither train nor test"
            + _similar(_PARTS, list_folder(folder).folders),
        )
        for folder in listing.folders
        if not _looks_like_category(folder)
    ]
    remarks += [Remark("names that are no valid Unicode", path, _unnamed(path)) for path in listing.unnamed]
    remarks += _strays(listing, f"images belong into {LAYOUT}")
    for name in list_categories(root):
        twin = categories[name.casefold()]
        if twin != name:
            message = f"{root / name} and {root / twin} differ by case alone: some systems take them for one"
            remarks.append(
                Remark("categories that differ by case alone", root / name, message, serious=False)
            )
    return remarks


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
        have ``mask=None``: image-level work does not need it. What is not read is in ``remarks``.

    Raises
    ------
    DatasetError
        If the category is missing, cannot be listed, lacks images, has links that lead nowhere, or a second
        folder of good test images.

    Examples
    --------
    >>> from pathlib import Path
    >>> from anomaly_sweep import read_category
    >>> from anomaly_sweep.datasets.synthetic import generate
    >>> generate(Path("images"), size=32, n_train=2, n_test_good=1, n_per_defect=1)
    >>> category = read_category(Path("images"), "washer", dataset="mine")
    >>> len(category.train), category.test_labels.tolist()
    (2, [1, 0, 1, 1])
    """
    category, problems = scan_category(root, name, dataset=dataset)
    if problems:
        more = f" (and {len(problems) - 1} more: anomaly-sweep-data check lists them)" if problems[1:] else ""
        raise DatasetError(problems[0][1] + more)
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
    if base.is_symlink() and not base.exists():
        return Category(dataset, name, root, (), ()), [(base, _dangling(base))]
    scan = _Scan(root, name)
    scan.beside()
    train, test = scan.train(), scan.test()
    category = Category(dataset, name, root, _sorted(train), _sorted(test), tuple(scan.remarks))
    return category, scan.problems


class _Scan:
    """One walk through a category's folders."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.base = root / name
        self.problems: list[tuple[Path, str]] = []
        self.remarks: list[Remark] = []
        self._parts = {part: list_folder(self.base / part) for part in _PARTS}

    def train(self) -> list[ImageRecord]:
        """The training images."""
        part, folder = self._parts["train"], self.base / "train" / GOOD
        self._broken(part)
        for other in part.folders:
            if other.name != GOOD:
                message = f"{other} is not read: training images come from {folder} alone"
                self.remarks.append(Remark("folders beside train/good", other, message))
        self.remarks += _strays(part, f"training images belong into {folder}")
        images = self._images(folder)
        if folder not in part.folders:
            hint = _similar((GOOD,), part.folders)
            message = f"{folder} is missing: put the defect-free training images there{hint}"
            self.problems.append((folder, message))
        elif len(images) < MIN_TRAIN:
            message = f"{folder} holds {len(images)} image(s): training needs at least {MIN_TRAIN}"
            self.problems.append((folder, message))
        return [self._record(path, GOOD) for path in images]

    def test(self) -> list[ImageRecord]:
        """The test images with their masks."""
        part, records = self._parts["test"], []
        self._broken(part)
        self.remarks += _strays(part, f"test images belong into {self.base / 'test' / GOOD} or test/<defect>")
        for folder in part.folders:
            images = self._images(folder)
            masks: dict[Path, Path] = {}
            if folder.name != GOOD:
                self._judge_name(folder)
                masks = self._masks(folder.name, images)
            records += [self._record(path, folder.name, masks.get(path)) for path in images]
        self._broken(Listing(unnamed=self._parts["ground_truth"].unnamed))
        for folder in self._parts["ground_truth"].folders:
            if folder.name != GOOD and self.base / "test" / folder.name not in part.folders:
                self._masks(folder.name, [])
        self.remarks += _strays(
            self._parts["ground_truth"], f"masks belong into {self.base / 'ground_truth'}/<defect>"
        )
        self.remarks += _lost_masks(self._parts["ground_truth"])
        self.problems += _test_problems(self.base / "test", records)
        return records

    def beside(self) -> None:
        """What stands beside train, test and ground_truth."""
        listing = list_folder(self.base)
        self._broken(replace(listing, dangling=[p for p in listing.dangling if p.name != "ground_truth"]))
        self.remarks += _lost_masks(
            Listing(dangling=[p for p in listing.dangling if p.name == "ground_truth"])
        )
        for folder in listing.folders:
            if folder.name not in _PARTS:
                hint = _similar(_PARTS, [folder])
                message = f"{folder} is not read: a category holds {', '.join(_PARTS)}{hint}"
                self.remarks.append(
                    Remark("folders beside train, test and ground_truth", folder, message, bool(hint))
                )
        self.remarks += _strays(
            Listing(images=listing.images, special=listing.special), f"images belong into {LAYOUT}"
        )

    def _images(self, folder: Path) -> list[Path]:
        """The images of one folder; what else it holds is told."""
        listing = list_folder(folder)
        self._broken(listing)
        self.remarks += _unread_inside(listing)
        return listing.images

    def _broken(self, listing: Listing) -> None:
        self.problems += [(link, _dangling(link)) for link in listing.dangling]
        self.problems += [(path, _unnamed(path)) for path in listing.unnamed]

    def _judge_name(self, folder: Path) -> None:
        letters = "".join(c for c in folder.name.casefold() if c.isalnum())
        if letters == GOOD:
            good = self.base / "test" / GOOD
            message = (
                f"{folder} would count as a defect type: only {good}, in lower case, holds the good images; "
                "rename the folder, or move its images there"
            )
            self.problems.append((folder, message))
        elif letters in _LIKE_GOOD:
            message = f"{folder} counts as a defect type: if its images are good, call it {GOOD}"
            self.remarks.append(Remark("defect types that are called as good images are", folder, message))

    def _masks(self, defect: str, images: Sequence[Path]) -> dict[Path, Path]:
        """Masks by image; the rest is told."""
        listing = list_folder(self.base / "ground_truth" / defect)
        self._broken(Listing(unnamed=listing.unnamed))
        self.remarks += _unread_inside(listing, masks=True)
        self.remarks += _lost_masks(listing)
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for image in images:
            by_stem[image.stem].append(image)
        found: dict[Path, Path] = {}
        orphans: list[Path] = []
        # NNN_mask.png comes before NNN.png
        for mask in sorted(listing.images, key=lambda path: (_stem(path) == path.stem, path.name)):
            marked = by_stem.get(_stem(mask)) or by_stem.get(mask.stem)
            if not marked:
                orphans.append(mask)
            elif marked[0] in found:
                message = f"{mask} is not read: the mask of {marked[0]} is {found[marked[0]]}"
                self.remarks.append(Remark("second masks of an image", mask, message, serious=False))
            else:
                found |= dict.fromkeys(marked, mask)
        without = [image for image in images if image not in found]
        for mask in orphans:
            message = _orphan(mask, self.base / "test" / defect, without)
            self.remarks.append(Remark(ORPHAN_MASKS, mask, message))
        return found

    def _record(self, path: Path, defect: str, mask: Path | None = None) -> ImageRecord:
        return ImageRecord(path, path.relative_to(self.root).as_posix(), defect, mask)


def _strays(listing: Listing, advice: str) -> Iterator[Remark]:
    """Files between the folders."""
    for path in listing.images:
        yield Remark("images outside the folders of images", path, f"{path} is not read: {advice}")
    yield from _special(listing)


def _unread_inside(listing: Listing, *, masks: bool = False) -> Iterator[Remark]:
    """What is not read in a folder of images or masks."""
    for path in listing.folders:
        where = path.parent
        advice = f"only the files directly in {where} are; move them there"
        if masks:
            advice = f"an image has one mask, directly in {where}; join several into one"
        yield Remark(
            "sub-folders of folders of images", path, f"{path} and what it holds is not read: {advice}"
        )
    for path in listing.others:
        message = f"{path} is not read: its suffix is no image's that is read; convert it, or move it away"
        serious = masks or path.suffix.lower() not in _DOCUMENTS
        yield Remark("files of other kinds among the images", path, message, serious)
    yield from _special(listing)


def _special(listing: Listing) -> Iterator[Remark]:
    for path in listing.special:
        yield Remark("entries that are no regular files", path, f"{path} is not read: it is no regular file")


def _lost_masks(listing: Listing) -> Iterator[Remark]:
    for path in listing.dangling:
        message = f"{_dangling(path)}; detection needs no masks, localization does"
        yield Remark("links to masks that lead nowhere", path, message)


def _dangling(link: Path) -> str:
    try:
        target = f" ({link.readlink()})"
    except OSError:
        target = ""
    return f"{link} is a link that leads nowhere{target}: restore what it points to, or remove it"


def _unnamed(path: Path) -> str:
    return f"the name of {path} is no valid Unicode, which tables and tracking stores cannot hold: rename it"


def _orphan(mask: Path, test: Path, without: Sequence[Path]) -> str:
    """Which image a mask may be meant for, by its name."""
    text = f"mask {mask} has no image: expected {test / _stem(mask)}.*"
    near = [image for image in without if _is_part(image.stem.casefold(), mask.stem.casefold())]
    if near:
        image = max(near, key=lambda path: len(path.stem))
        return f"{text}; if it is the mask of {image.name}, rename it to {image.stem}{_MASK}{mask.suffix}"
    return f"{text}; rename it after its image, add the image, or delete the mask"


def _is_part(stem: str, text: str) -> bool:
    """Whether a name is part of another and not of a longer word or number in it."""
    before, found, after = text.partition(stem)
    return bool(found) and not before[-1:].isalnum() and not after[:1].isalnum()


def _stem(mask: Path) -> str:
    return mask.stem[: -len(_MASK)] if mask.stem.lower().endswith(_MASK) else mask.stem


def _similar(names: Sequence[str], listing: Sequence[Path]) -> str:
    """A hint at a folder whose name differs from those wanted by case or blanks alone; or empty."""
    near = [path for path in listing if path.name.strip().casefold() in names and path.name not in names]
    return f"; {near[0]} is there: names are in lower case, rename it" if near else ""


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


def _looks_like_category(folder: Path) -> bool:
    try:
        return (folder / "train").is_dir() or (folder / "test").is_dir()
    except OSError:  # it may not be looked into: to be told when it is read
        return True


def _sorted(records: list[ImageRecord]) -> tuple[ImageRecord, ...]:
    return tuple(sorted(records, key=lambda record: record.relative))


def _listing(names: Sequence[str], limit: int = 20) -> str:
    if not names:
        return "no sub-folder"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
