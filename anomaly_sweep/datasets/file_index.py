"""Content identity of a list of images, and the memory that makes it cheap to ask for.

The cache of features is keyed by what the images *are*, so every file must be hashed once; `FileIndex`
remembers the hashes by path, size, times of modification and of change, and inode, as git does. A copy that
keeps the modification time, or two files that changed places, differ in the last two. Where a file system
makes those up anew (some network and removable drives), files are read again: slower, never wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock

from anomaly_sweep.datasets.records import Category, ImageRecord
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.terminal import counted
from anomaly_sweep.unwritable import READ_ONLY, is_unwritable, say_once

T = TypeVar("T")

#: The file index's place in a cache folder.
INDEX_FILE = "files.sqlite"

_SCHEMA = """CREATE TABLE IF NOT EXISTS file_hashes (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID"""
# One parameter however many paths: SQLite's limit on the number of parameters does not apply.
_SELECT = """SELECT path, size, mtime_ns, ctime_ns, inode, digest FROM file_hashes
    WHERE path IN (SELECT value FROM json_each(?))"""
_UPSERT = "INSERT OR REPLACE INTO file_hashes VALUES (?, ?, ?, ?, ?, ?)"
_BUSY_SECONDS = 60.0
# A file changed again within the clock tick of its time stamp would look unchanged: young files are
# hashed, but not remembered.
_SETTLED_NS = 2_000_000_000


class _Stat(NamedTuple):
    """What tells without reading that a file is the one that was hashed."""

    size: int
    mtime_ns: int
    ctime_ns: int  # Windows: of creation
    inode: str  # text: up to 128 bits on some file systems, more than SQLite's integers have

    def settled(self, now_ns: int) -> bool:
        return now_ns - max(self.mtime_ns, self.ctime_ns) > _SETTLED_NS


def manifest_digest(records: Sequence[ImageRecord], index: FileIndex) -> str:
    """Identify a list of images by names and contents.

    Masks are not part of it: image-level results do not depend on them.

    Parameters
    ----------
    records
        Images; their order does not matter.
    index
        Memory of the content hashes.

    Returns
    -------
    str
        64 hexadecimal digits (BLAKE2b over relative path, size and content hash of each image).

    Raises
    ------
    DatasetError
        If an image is missing or cannot be read, or the index cannot be used.
    """
    return _digest({record.relative: record.path for record in records}, index)


def contents_digest(records: Sequence[ImageRecord], index: FileIndex) -> str:
    """Identify a list of images by their contents, in the order of their names, whatever these are."""
    paths = {record.relative: record.path for record in records}
    found = index.lookup([paths[name] for name in sorted(paths)])
    return hashlib.blake2b(json.dumps([digest for _, digest in found]).encode()).hexdigest()


def masks_digest(records: Sequence[ImageRecord], index: FileIndex) -> str:
    """Identify the masks of a list of images, as `manifest_digest` does the images themselves."""
    paths = {}
    for record in records:
        if len(record.masks) == 1:  # whatever it is called
            paths[record.relative] = record.masks[0]
        else:
            paths |= {f"{record.relative}/{mask.name}": mask for mask in record.masks}
    return _digest(paths, index)


def copied_files(category: Category, index: FileIndex) -> list[tuple[ImageRecord, ImageRecord]]:
    """Test images that are, byte by byte, copies of training images, each with the one it copies.

    `check_dataset` compares pixels, which finds more and takes longer.

    Raises
    ------
    DatasetError
        As `manifest_digest`.
    """
    train = index.lookup([record.path for record in category.train])
    test = index.lookup([record.path for record in category.test])
    known = dict(zip(train, category.train, strict=True))
    return [(record, known[of]) for record, of in zip(category.test, test, strict=True) if of in known]


def _digest(paths: Mapping[str, Path], index: FileIndex) -> str:
    ordered = sorted(paths)
    total = hashlib.blake2b(digest_size=32)
    for name, (size, digest) in zip(ordered, index.lookup([paths[n] for n in ordered]), strict=True):
        # JSON keeps the fields apart whatever characters a file name has.
        total.update(json.dumps([name, size, digest]).encode() + b"\n")
    return total.hexdigest()


class FileIndex:
    """Content hashes of files, remembered in one small SQLite file.

    Several processes on one machine may use the same file at once. A damaged file is deleted and rebuilt:
    it holds nothing that cannot be computed again.

    Parameters
    ----------
    path
        The SQLite file; it and its folder are created when first needed.
    reread
        Trust only what this object has read itself: every file is read once more, whatever was remembered.
    """

    def __init__(self, path: Path, *, reread: bool = False) -> None:
        self.path = path
        self._reread = reread
        self._read: dict[str, tuple[_Stat, str]] = {}

    def lookup(self, paths: Sequence[Path]) -> list[tuple[int, str]]:
        """Size and content hash of each file.

        Parameters
        ----------
        paths
            Files.

        Returns
        -------
        list of (int, str)
            Bytes and 64 hexadecimal digits (BLAKE2b-256), in the order of ``paths``.

        Raises
        ------
        DatasetError
            If a file is missing or cannot be read (the first such file is named), or the index cannot be
            used.
        """
        if not paths:
            return []
        keys = [_key(path) for path in paths]
        files = {key: (path, _stat(path)) for key, path in zip(keys, paths, strict=True)}
        known = dict(self._read) if self._reread else self._remembered(keys)
        known |= self._hashed({k: of for k, of in files.items() if known.get(k, (None,))[0] != of[1]})
        return [(known[key][0].size, known[key][1]) for key in keys]

    def verify(self, paths: Sequence[Path]) -> list[Path]:
        """Read files again and set right what is remembered of them.

        Parameters
        ----------
        paths
            Files.

        Returns
        -------
        list of Path
            Those whose content is not what it was, although size, times and inode are: no listing could
            tell, and features made of what they were may have been used since.

        Raises
        ------
        DatasetError
            As `lookup`.
        """
        keys = {_key(path): path for path in paths}
        known = self._remembered(list(keys))
        found = self._hashed({key: (path, _stat(path)) for key, path in keys.items() if key in known})
        return [
            keys[key]
            for key, (stat, digest) in found.items()
            if known[key][0] == stat and known[key][1] != digest
        ]

    def _hashed(self, files: Mapping[str, tuple[Path, _Stat]]) -> dict[str, tuple[_Stat, str]]:
        """Read files, and keep the hashes of those that have been still for a while."""
        digests = _hash_files([path for path, _ in files.values()])
        found = {key: (stat, digest) for (key, (_, stat)), digest in zip(files.items(), digests, strict=True)}
        now = time.time_ns()
        still = {k: v for k, v in found.items() if v[0].settled(now) and _stat(files[k][0]) == v[0]}
        self._read |= still
        rows = [(key, *stat, digest) for key, (stat, digest) in still.items()]
        if rows:
            self._with_database(lambda db: _insert(db, rows), None)
        return found

    def _remembered(self, keys: Sequence[str]) -> dict[str, tuple[_Stat, str]]:
        select = json.dumps(list(keys))
        rows: list[Any] = self._with_database(lambda db: db.execute(_SELECT, (select,)).fetchall(), [])
        return {path: (_Stat(*stat), digest) for path, *stat, digest in rows}

    def _with_database(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """The action's outcome; ``otherwise`` where the file cannot be written and the action needs that."""
        try:
            try:
                return self._run(action)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._discard_damaged()
                return self._run(action)
        except (sqlite3.Error, OSError) as error:
            if is_unwritable(error, self.path.parent):
                say_once(self.path.parent, error)
                return self._as_it_is(action, otherwise)
            raise DatasetError(
                f"cannot use the file index {self.path}: {error}; make its folder writable, "
                "choose another cache folder, or delete the file (it is only a memory of hashes)"
            ) from error

    def _as_it_is(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """On the file of a folder that cannot be written."""
        try:
            with closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?{READ_ONLY}", uri=True)
            ) as database:
                return action(database)
        except sqlite3.Error:
            return otherwise

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A connection per call: it may come from any thread, and survives a fork.
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
            return action(database)

    def _discard_damaged(self) -> None:
        with FileLock(f"{self.path}.lock"):
            try:  # another process may have rebuilt it meanwhile
                self._run(lambda db: db.execute("SELECT count(*) FROM file_hashes").fetchone())
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)


class Snapshot(FileIndex):
    """One moment's view of files: each is looked up once, however often it is asked for.

    Parameters
    ----------
    index
        Looks the files up.
    """

    def __init__(self, index: FileIndex) -> None:
        super().__init__(index.path)
        self._index = index
        self._found: dict[Path, tuple[int, str]] = {}

    def lookup(self, paths: Sequence[Path]) -> list[tuple[int, str]]:
        """As `FileIndex.lookup`, at the moment at which a file is first asked for."""
        new = [path for path in dict.fromkeys(paths) if path not in self._found]
        self._found.update(zip(new, self._index.lookup(new), strict=True))
        return [self._found[path] for path in paths]


def hash_file(path: Path) -> str:
    """BLAKE2b-256 of a file's content as 64 hexadecimal digits; `DatasetError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _hash_files(paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    # Hashing and reading release the interpreter lock.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(counted(pool.map(hash_file, paths), "reading files", len(paths)))


def _insert(database: sqlite3.Connection, rows: Sequence[tuple[str | int, ...]]) -> None:
    with database:
        database.executemany(_UPSERT, rows)


def _stat(path: Path) -> _Stat:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _Stat(status.st_size, status.st_mtime_ns, status.st_ctime_ns, str(status.st_ino))


def _key(path: Path) -> str:
    # SQLite stores valid Unicode only; file names on Linux need not be.
    return str(path.absolute()).encode("utf-8", "backslashreplace").decode()


def _unreadable(path: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"cannot read {path}: {error.strerror}; restore the file or remove it from the data set"
    )
