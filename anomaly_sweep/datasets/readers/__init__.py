"""A reader a layout: each a module here, with its `Reader` as ``READER``."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from anomaly_sweep.datasets.archive import archives_in, unpacked
from anomaly_sweep.datasets.readers.base import Counts, Reader, count_images
from anomaly_sweep.datasets.records import Category, Remark
from anomaly_sweep.errors import ConfigError, DatasetError

__all__ = [
    "FOLDER",
    "Counts",
    "Reader",
    "count_images",
    "list_categories",
    "open_root",
    "read_category",
    "reader_named",
    "reader_names",
    "root_remarks",
]

#: The reader of own folders in MVTec AD's layout.
FOLDER = "folder"
#: Modules here that other readers are made of.
_PARTS = frozenset({"base", "rows", "tree"})


def reader_names() -> list[str]:
    """Names of the readers that come with the package, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - _PARTS)


def reader_named(name: str, options: Mapping[str, Any] | None = None) -> Reader:
    """A reader by its name, or by the module of it (``my_package.my_reader``).

    Parameters
    ----------
    name
        One of `reader_names`, or a module that can be imported and has a ``READER``.
    options
        Arguments of its class, where they differ from the reader's own.

    Raises
    ------
    ConfigError
        If there is no such reader, or it has no such options.

    Examples
    --------
    >>> reader_named("btad").title
    'BTAD'
    """
    module = f"{__name__}.{name}" if name in reader_names() else name
    try:
        found: Reader = import_module(module).READER
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"dataset.reader={name}: there is no such reader ({error}); there are "
            f"{', '.join(reader_names())}; or name a module with a READER"
        ) from error
    if not options:
        return found
    try:
        return type(found)(**options)
    except TypeError as error:
        raise ConfigError(f"dataset.options: {error}; see the reader {name}") from error


def open_root(root: Path, reader: Reader) -> tuple[Path, list[str]]:
    """The folder of a data set, unpacked if it is an archive, and its categories.

    Raises
    ------
    DatasetError
        If there is no category, or the archive cannot be unpacked; archives that lie there are named.
    """
    root = unpacked(root)
    try:
        return root, reader.categories(root)
    except DatasetError as error:
        archives = archives_in(root)
        if not archives:
            raise
        more = f" (and {len(archives) - 1} more)" if archives[1:] else ""
        raise DatasetError(
            f"{error}. {archives[0]} is there, not unpacked{more}: give it as dataset.root to have it "
            "unpacked, or unpack it there"
        ) from error


def root_remarks(root: Path, reader: Reader) -> list[Remark]:
    """What a data set's root holds beside categories."""
    return [
        *reader.remarks(root),
        *(
            Remark(
                "archives", path, f"{path} is not read: if it is of this data set, unpack it", serious=False
            )
            for path in archives_in(root)
        ),
    ]


def list_categories(root: Path, *, reader: str = FOLDER) -> list[str]:
    """Names of the categories under a data set root.

    Parameters
    ----------
    root
        Data set root.
    reader
        Whose layout it has: a name of ``dataset=...``, or a module with a ``READER``.

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
    return reader_named(reader).categories(root)


def read_category(root: Path, name: str, *, dataset: str, reader: str = FOLDER) -> Category:
    """List one category's images and check that it can be used.

    Parameters
    ----------
    root
        Data set root.
    name
        Category, one of `list_categories`.
    dataset
        Name the data set goes by; stored in the result.
    reader
        Whose layout it has: a name of ``dataset=...``, or a module with a ``READER``.

    Returns
    -------
    Category
        At least two training images and at least one test image of each label. Images without a mask
        have no ``masks``: image-level work does not need them. What is not read is in ``remarks``.

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
    return reader_named(reader).read(root, name, dataset=dataset)
