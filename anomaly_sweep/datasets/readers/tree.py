"""Readers of folders: MVTec AD's layout, and those that differ from it in names or by a folder.

The layout, for each category::

    <root>/<category>/train/good/*.png
    <root>/<category>/test/good/*.png
    <root>/<category>/test/<defect>/NNN.png
    <root>/<category>/ground_truth/<defect>/NNN_mask.png   (or NNN.png; optional)

Listing only: no image is opened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from anomaly_sweep.datasets.listing import Listing, list_folder
from anomaly_sweep.datasets.readers.base import (
    MIN_TRAIN,
    Problems,
    Reader,
    dangling_link,
    in_order,
    listing,
    not_unicode,
)
from anomaly_sweep.datasets.records import GOOD, ORPHAN_MASKS, Category, ImageRecord, Remark
from anomaly_sweep.errors import DatasetError

_MASK = "_mask"
# Beside images they are notes; beside masks they may be the marks.
_DOCUMENTS = frozenset(
    {".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".log", ".ini"}
)
# Names under which data sets keep their good images.
_LIKE_GOOD = frozenset(
    {"good", "goods", "ok", "okay", "normal", "normals", "negative", "pass"}
    | {"nodefect", "nondefective", "defectfree"}
)


class TreeReader(Reader):
    """A folder a category, in it a folder a split, in that a folder a defect type.

    A subclass names what its layout has under other names.
    """

    #: Folders under a category: of good training images' folder, of the test images' folders, of the masks'.
    train: ClassVar[str] = "train"
    test: ClassVar[str] = "test"
    masks: ClassVar[str] = "ground_truth"
    #: What else the official layout has there; it is not read.
    unused: ClassVar[tuple[str, ...]] = ()
    #: What the folders of good images are called.
    good: ClassVar[str] = GOOD
    #: Folder of the images in each of these folders; "" if they lie there themselves.
    within: ClassVar[str] = ""

    @property
    def layout(self) -> str:  # type: ignore[override]
        """What to expect under the root."""
        train, test = (f"<category>/{part}" for part in (self.train, self.test))
        return f"{train}/{self._inside(self.good)}, {test}/{self._inside(self.good)} and " + (
            f"{test}/{self._inside('<defect>')}"
        )

    def categories(self, root: Path) -> list[str]:
        """Every visible sub-folder that holds a training or test part; a link that leads nowhere too."""
        if not root.is_dir():
            raise DatasetError(
                f"data set root {root} is not a folder: give the folder that holds the categories "
                f"({self.layout})"
            )
        found = list_folder(root)
        # A link that leads nowhere counts, lest it be left out unseen.
        names = sorted(
            [folder.name for folder in found.folders if self._is_category(folder)]
            + [link.name for link in found.dangling if not link.suffix]
        )
        if names:
            return names
        if self._is_category(root):
            raise DatasetError(
                f"{root} is itself a category, not a data set root: give its parent {root.parent}"
            )
        raise DatasetError(
            f"no category under {root}: expected {self.layout}, found "
            f"{listing([folder.name for folder in found.folders])}"
        )

    def remarks(self, root: Path) -> list[Remark]:
        """Folders that are no category, stray images, names that cannot be kept."""
        found = list_folder(root)
        names = self.categories(root)
        by_case = {name.casefold(): name for name in names}
        remarks = [
            Remark(
                "folders that are no category",
                folder,
                f"{folder} is not read: it holds neither {self.train} nor {self.test}"
                + _similar((self.train, self.test, self.masks), list_folder(folder).folders),
            )
            for folder in found.folders
            if not self._is_category(folder)
        ]
        remarks += [
            Remark("names that are no valid Unicode", path, not_unicode(path)) for path in found.unnamed
        ]
        remarks += _strays(found, f"images belong into {self.layout}")
        for name in names:
            twin = by_case[name.casefold()]
            if twin != name:
                message = (
                    f"{root / name} and {root / twin} differ by case alone: some systems take them for one"
                )
                remarks.append(
                    Remark("categories that differ by case alone", root / name, message, serious=False)
                )
        return remarks

    def list_images(self, root: Path, name: str, dataset: str) -> tuple[Category, Problems]:
        """One walk through a category's folders."""
        base = root / name
        if base.is_symlink() and not base.exists():
            return Category(dataset, name, root, (), ()), [(base, dangling_link(base))]
        scan = _Scan(self, root, name)
        scan.beside()
        train, test = scan.train(), scan.test()
        return (
            Category(dataset, name, root, in_order(train), in_order(test), tuple(scan.remarks)),
            scan.problems,
        )

    def good_masks(self, root: Path, name: str) -> list[Path]:
        """What lies in the masks' folder of the good images."""
        return list_folder(self.mask_folder(root / name, self.good)).images

    def mask_folder(self, base: Path, defect: str) -> Path:
        """Where the masks of a defect type's images lie."""
        return base / self.masks / defect

    def match_masks(self, defect: str, images: Sequence[Path], scan: Scan) -> dict[Path, tuple[Path, ...]]:
        """The masks of a defect type's images; what else their folder holds is told."""
        found = list_folder(self.mask_folder(scan.base, defect))
        scan.broken(Listing(unnamed=found.unnamed))
        scan.remarks += unread_inside(found, masks=True)
        scan.remarks += lost_masks(found)
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for image in images:
            by_stem[image.stem].append(image)
        matched: dict[Path, tuple[Path, ...]] = {}
        orphans: list[Path] = []
        # NNN_mask.png comes before NNN.png
        for mask in sorted(found.images, key=lambda path: (_stem(path) == path.stem, path.name)):
            marked = by_stem.get(_stem(mask)) or by_stem.get(mask.stem)
            if not marked:
                orphans.append(mask)
            elif marked[0] in matched:
                message = f"{mask} is not read: the mask of {marked[0]} is {matched[marked[0]][0]}"
                scan.remarks.append(Remark("second masks of an image", mask, message, serious=False))
            else:
                matched |= dict.fromkeys(marked, (mask,))
        without = [image for image in images if image not in matched]
        for mask in orphans:
            message = _orphan(mask, scan.test_folder(defect), without)
            scan.remarks.append(Remark(ORPHAN_MASKS, mask, message))
        return matched

    def _inside(self, name: str) -> str:
        return f"{name}/{self.within}" if self.within else name

    def _is_category(self, folder: Path) -> bool:
        try:
            return (folder / self.train).is_dir() or (folder / self.test).is_dir()
        except OSError:  # it may not be looked into: to be told when it is read
            return True


class Scan:
    """One walk through a category's folders: what is found, and what is told."""

    def __init__(self, reader: TreeReader, root: Path, name: str) -> None:
        self.reader = reader
        self.root = root
        self.base = root / name
        self.problems: Problems = []
        self.remarks: list[Remark] = []

    def broken(self, found: Listing) -> None:
        """Tell of entries that cannot be read, and would be missed."""
        self.problems += [(link, dangling_link(link)) for link in found.dangling]
        self.problems += [(path, not_unicode(path)) for path in found.unnamed]

    def test_folder(self, name: str) -> Path:
        """Where the test images of a kind lie."""
        return self._folder_of(self.base / self.reader.test, name)

    def _folder_of(self, part: Path, name: str) -> Path:
        return part / name / self.reader.within if self.reader.within else part / name


class _Scan(Scan):
    def train(self) -> list[ImageRecord]:
        """The training images."""
        base = self.base / self.reader.train
        part, good = list_folder(base), base / self.reader.good
        self.broken(part)
        for other in part.folders:
            if other.name != good.name:
                message = f"{other} is not read: training images come from {good} alone"
                kind = f"folders beside {self.reader.train}/{self.reader.good}"
                self.remarks.append(Remark(kind, other, message))
        self.remarks += _strays(part, f"training images belong into {good}")
        folder = self._folder_of(base, good.name)
        images = self._images(folder)
        if good not in part.folders:
            hint = _similar((good.name,), part.folders)
            message = f"{good} is missing: put the defect-free training images there{hint}"
            self.problems.append((good, message))
        elif len(images) < MIN_TRAIN:
            message = f"{folder} holds {len(images)} image(s): training needs at least {MIN_TRAIN}"
            self.problems.append((folder, message))
        return [self._record(path, GOOD) for path in images]

    def test(self) -> list[ImageRecord]:
        """The test images with their masks."""
        reader, records = self.reader, []
        base = self.base / reader.test
        part, masks_part = list_folder(base), list_folder(self.base / reader.masks)
        self.broken(part)
        good = base / reader.good
        self.remarks += _strays(part, f"test images belong into {good} or {reader.test}/<defect>")
        folders = [folder for folder in part.folders if folder != self.base / reader.masks]
        for folder in folders:
            images = self._images(self._folder_of(base, folder.name))
            masks: dict[Path, tuple[Path, ...]] = {}
            defect = GOOD
            if folder.name != good.name:
                defect = folder.name
                self._judge_name(folder)
                masks = reader.match_masks(defect, images, self)
            records += [self._record(path, defect, masks.get(path, ())) for path in images]
        if reader.masks:
            self.broken(Listing(unnamed=masks_part.unnamed))
            for folder in masks_part.folders:
                if folder.name != good.name and base / folder.name not in folders:
                    reader.match_masks(folder.name, [], self)
            self.remarks += _strays(masks_part, f"masks belong into {self.base / reader.masks}/<defect>")
            self.remarks += lost_masks(masks_part)
        self.problems += lacking_kinds(
            base, records, f"{good} and {base}/<defect>", str(good), f"{base}/<defect>"
        )
        return records

    def beside(self) -> None:
        """What stands beside the parts."""
        reader, found = self.reader, list_folder(self.base)
        parts = [part.split("/")[0] for part in (reader.train, reader.test, reader.masks) if part]
        self.broken(replace(found, dangling=[p for p in found.dangling if p.name != reader.masks]))
        self.remarks += lost_masks(Listing(dangling=[p for p in found.dangling if p.name == reader.masks]))
        names = ", ".join(dict.fromkeys(parts))
        for folder in found.folders:
            if folder.name not in (*parts, *reader.unused):
                hint = _similar(parts, [folder])
                message = f"{folder} is not read: a category holds {names}{hint}"
                kind = "folders beside " + " and ".join(names.rsplit(", ", 1))
                self.remarks.append(Remark(kind, folder, message, bool(hint)))
        self.remarks += _strays(
            Listing(images=found.images, special=found.special), f"images belong into {reader.layout}"
        )

    def _images(self, folder: Path) -> list[Path]:
        """The images of one folder; what else it holds is told."""
        found = list_folder(folder)
        self.broken(found)
        self.remarks += unread_inside(found)
        return found.images

    def _judge_name(self, folder: Path) -> None:
        name, good = folder.name, self.reader.good
        letters = "".join(c for c in name.casefold() if c.isalnum())
        if letters == good:
            place = folder.parent / good
            message = (
                f"{folder} would count as a defect type: only {place}, in lower case, holds the good images; "
                "rename the folder, or move its images there"
            )
            self.problems.append((folder, message))
        elif letters in _LIKE_GOOD:
            message = f"{folder} counts as a defect type: if its images are good, call it {good}"
            self.remarks.append(Remark("defect types that are called as good images are", folder, message))

    def _record(self, path: Path, defect: str, masks: tuple[Path, ...] = ()) -> ImageRecord:
        return ImageRecord(path, path.relative_to(self.root).as_posix(), defect, masks)


def unread_inside(found: Listing, *, masks: bool = False) -> Iterator[Remark]:
    """What is not read in a folder of images or masks."""
    for path in found.folders:
        where = path.parent
        advice = f"only the files directly in {where} are; move them there"
        if masks:
            advice = f"an image has one mask, directly in {where}; join several into one"
        yield Remark(
            "sub-folders of folders of images", path, f"{path} and what it holds is not read: {advice}"
        )
    for path in found.others:
        message = f"{path} is not read: its suffix is no image's that is read; convert it, or move it away"
        serious = masks or path.suffix.lower() not in _DOCUMENTS
        yield Remark("files of other kinds among the images", path, message, serious)
    yield from _special(found)


def lost_masks(found: Listing) -> Iterator[Remark]:
    """Links to masks that lead nowhere."""
    for path in found.dangling:
        message = f"{dangling_link(path)}; detection needs no masks, localization does"
        yield Remark("links to masks that lead nowhere", path, message)


def lacking_kinds(
    folder: Path, test: Sequence[ImageRecord], both: str, good: str, defective: str
) -> Problems:
    """Whether test images lack a kind; the words say where images of each belong."""
    labels = {record.label for record in test}
    if not labels:
        return [(folder, f"no test image under {folder}: expected {both}")]
    lacking = {0: ("anomalous", defective), 1: ("good", good)}
    if len(labels) == 1:
        kind, where = lacking[labels.pop()]
        return [(folder, f"the test set has no {kind} image: put some into {where}; AUROC needs both kinds")]
    return []


def _strays(found: Listing, advice: str) -> Iterator[Remark]:
    """Files between the folders."""
    for path in found.images:
        yield Remark("images outside the folders of images", path, f"{path} is not read: {advice}")
    yield from _special(found)


def _special(found: Listing) -> Iterator[Remark]:
    for path in found.special:
        yield Remark("entries that are no regular files", path, f"{path} is not read: it is no regular file")


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


def _similar(names: Sequence[str], found: Sequence[Path]) -> str:
    """A hint at a folder whose name differs from those wanted by case or blanks alone; or empty."""
    near = [path for path in found if path.name.strip().casefold() in names and path.name not in names]
    return f"; {near[0]} is there: names are in lower case, rename it" if near else ""
