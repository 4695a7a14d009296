"""What a reader of a data set is: it lists categories and their images, and opens nothing it need not.

What a layout holds beyond what is read is told: what makes a category useless or its numbers wrong as a
problem, the rest as remarks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeAlias

from anomaly_sweep.datasets.records import Category, ImageRecord, Remark
from anomaly_sweep.errors import DatasetError

MIN_TRAIN = 2  # a mean and a variance need two

#: Files or folders with what is wrong about them.
Problems: TypeAlias = list[tuple[Path, str]]


class Counts(NamedTuple):
    """Number of images in each part of a category."""

    train_good: int
    test_good: int
    test_defect: int


class Reader(ABC):
    """One layout on disk.

    A module with an instance as its ``READER`` is a reader; what differs between two copies of a layout is
    an argument of its class (``dataset.options``).
    """

    #: How the data set is called.
    title: ClassVar[str]
    #: What to expect under the root, in words.
    layout: ClassVar[str]
    #: Official numbers of images by category, as read; empty where there are none, or none are published.
    counts: ClassVar[Mapping[str, Counts]] = {}

    @abstractmethod
    def categories(self, root: Path) -> list[str]:
        """Names of the categories under a root, sorted, at least one.

        Raises
        ------
        DatasetError
            If the root is missing or holds no category.
        """

    @abstractmethod
    def list_images(self, root: Path, name: str, dataset: str) -> tuple[Category, Problems]:
        """What there is of a category, and everything that is wrong with it.

        Parameters
        ----------
        root
            Absolute.
        name
            One of :meth:`categories`.
        dataset
            Name the data set goes by.
        """

    def remarks(self, root: Path) -> list[Remark]:  # noqa: ARG002
        """What the root holds beside categories."""
        return []

    def good_masks(self, root: Path, name: str) -> list[Path]:  # noqa: ARG002
        """Masks of good images, which are not used: one that marks something contradicts them."""
        return []

    def scan(self, root: Path, name: str, *, dataset: str) -> tuple[Category, Problems]:
        """List one category's images and everything that is wrong with the listing.

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
        known = self.categories(root)
        if name not in known:
            raise DatasetError(f"no category {name!r} under {root}: there are {listing(known)}")
        return self.list_images(root, name, dataset)

    def read(self, root: Path, name: str, *, dataset: str) -> Category:
        """:meth:`scan`, where nothing may be wrong.

        Raises
        ------
        DatasetError
            As :meth:`scan`, or if there is a problem.
        """
        category, problems = self.scan(root, name, dataset=dataset)
        if problems:
            rest = len(problems) - 1
            more = f" (and {rest} more: anomaly-sweep-data check lists them)" if rest else ""
            raise DatasetError(problems[0][1] + more)
        return category

    def missing(self, category: Category) -> Iterator[tuple[Path, str]]:
        """How a category differs from the official one; nothing where no numbers are known."""
        if not self.counts:
            return
        path = category.root / category.name
        official = self.counts.get(category.name)
        if official is None:
            yield path, f"{path} is not a category of {self.title}"
            return
        parts = ("good training images", "good test images", "anomalous test images")
        for part, found, wanted in zip(parts, count_images(category), official, strict=True):
            if found != wanted:
                yield path, f"{path} holds {found} {part}, {self.title} has {wanted}"


def count_images(category: Category) -> Counts:
    """Number of training, good test and anomalous test images of a category."""
    defective = int(category.test_labels.sum())
    return Counts(len(category.train), len(category.test) - defective, defective)


def in_order(records: Iterable[ImageRecord]) -> tuple[ImageRecord, ...]:
    """Records as a category keeps them."""
    return tuple(sorted(records, key=lambda record: record.relative))


def listing(names: Sequence[str], limit: int = 20) -> str:
    """Names in a sentence."""
    if not names:
        return "no sub-folder"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def dangling_link(link: Path) -> str:
    """That a link leads nowhere, and what to do."""
    try:
        target = f" ({link.readlink()})"
    except OSError:
        target = ""
    return f"{link} is a link that leads nowhere{target}: restore what it points to, or remove it"


def not_unicode(path: Path) -> str:
    """That a name cannot be kept, and what to do."""
    return f"the name of {path} is no valid Unicode, which tables and tracking stores cannot hold: rename it"
