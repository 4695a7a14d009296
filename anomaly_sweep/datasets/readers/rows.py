"""Readers of data sets whose images are named one by one: by a table, or by how their files are called."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anomaly_sweep.datasets.readers.base import (
    MIN_TRAIN,
    Problems,
    Reader,
    dangling_link,
    in_order,
    not_unicode,
)
from anomaly_sweep.datasets.records import GOOD, Category, ImageRecord, Remark
from anomaly_sweep.errors import DatasetError

_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its absolute path, whether it is trained on, and the rest as in `ImageRecord`."""

    path: Path
    train: bool
    defect: str
    masks: tuple[Path, ...] = ()
    group: str = ""


@dataclass
class Rows:
    """What is named of a category, and what is to be told."""

    rows: list[Row] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    problems: Problems = field(default_factory=list)


class RowsReader(Reader):
    """Whoever names the images, they have to be there, each once."""

    @abstractmethod
    def rows(self, root: Path, name: str) -> Rows:
        """The images of a category, good ones to be trained on and test images of both kinds."""

    def place(self, root: Path, name: str) -> Path:
        """The file or folder that a message about a whole category names."""
        return root / name

    def list_images(self, root: Path, name: str, dataset: str) -> tuple[Category, Problems]:
        """What is named, and what of it is there."""
        place, found = self.place(root, name), self.rows(root, name)
        problems, remarks = found.problems, found.remarks
        seen: dict[Path, Row] = {}
        train: list[ImageRecord] = []
        test: list[ImageRecord] = []
        for row in found.rows:
            if row.path in seen:
                twice = "twice" if seen[row.path].train == row.train else "both for training and for the test"
                problems.append((row.path, f"{row.path} is named {twice} in {place}: name it once"))
                continue
            seen[row.path] = row
            if row.train and row.defect != GOOD:
                problems.append((row.path, f"{row.path} is anomalous ({row.defect}) and named for training"))
            elif (message := _not_there(row.path, place)) is not None:
                problems.append((row.path, message))
            else:
                (train if row.train else test).append(_record(root, row, remarks))
        if len(train) < MIN_TRAIN:
            message = f"{place} has {len(train)} training image(s): training needs at least {MIN_TRAIN}"
            problems.append((place, message))
        labels = {record.label for record in test}
        for label, kind in enumerate(("good", "anomalous")):
            if label not in labels:
                message = f"the test set of {place} has no {kind} image; AUROC needs both kinds"
                problems.append((place, message))
        return Category(dataset, name, root, in_order(train), in_order(test), tuple(remarks)), problems


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table with a header, its columns parted by commas, semicolons or tabs.

    Values are stripped of blanks; columns that a row lacks are empty.

    Raises
    ------
    DatasetError
        If the file cannot be read, or lacks one of ``columns``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=header.count)
            table = csv.DictReader(file, delimiter=delimiter, restval="")
            names = [name.strip().lower() for name in table.fieldnames or ()]
            table.fieldnames = names
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"cannot read the table {path}: {reason}; it is to be UTF-8 text") from error
    lacking = [column for column in columns if column not in names]
    if lacking:
        raise DatasetError(
            f"{path} lacks the column(s) {', '.join(lacking)}: it has {', '.join(names) or 'none'}"
        )
    for number, row in enumerate(rows, 2):
        if None in row:
            raise DatasetError(f"{path}, row {number} has more values than there are columns; quote commas")
    return [{name: value.strip() for name, value in row.items()} for row in rows]


def lacking_categories(root: Path, names: Iterable[str], found: Iterable[str], table: Path) -> list[Remark]:
    """Categories that a table names and that are not there."""
    kind = "categories of which nothing is there"
    return [
        Remark(kind, root / name, f"{root / name} is missing: {table} names its images", serious=False)
        for name in sorted(set(names) - set(found))
    ]


def masks_of(values: Mapping[str, str], root: Path) -> tuple[Path, ...]:
    """The mask that a row names, if it does."""
    return (root / values["mask"],) if values.get("mask") else ()


def _record(root: Path, row: Row, remarks: list[Remark]) -> ImageRecord:
    masks = row.masks if row.defect != GOOD else ()
    lost = [mask for mask in masks if not mask.is_file()]
    for mask in lost:
        message = f"mask {mask} of {row.path} is not there; detection needs no masks, localization does"
        remarks.append(Remark("masks that are not there", mask, message))
    relative = row.path.relative_to(root) if row.path.is_relative_to(root) else row.path
    return ImageRecord(row.path, relative.as_posix(), row.defect, () if lost else masks, row.group)


def _not_there(path: Path, place: Path) -> str | None:
    try:
        if path.is_file():
            name = path.name
            return not_unicode(path) if any("\ud800" <= letter <= "\udfff" for letter in name) else None
    except OSError:  # it may not be looked at
        return None
    if path.is_symlink():
        return dangling_link(path)
    return f"{path} is missing: {place} names it; restore it, or take it out"
