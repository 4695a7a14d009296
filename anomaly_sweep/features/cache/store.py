"""The feature cache: content-addressed safetensors files, written whole or not at all.

A key is the fingerprint of everything that decides the values (images, weights, node, input size,
normalisation, augmentation), so an entry never needs to be invalidated, only pruned.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from anomaly_sweep.errors import CacheError
from anomaly_sweep.features.cache.entry import Arrays, Damaged, read, read_description, to_bytes
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.unwritable import is_unwritable, say_once

log = logging.getLogger(__name__)

_SUFFIX = ".safetensors"
_TEMPORARY = ".new-"
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class Entry:
    """One file of the cache. ``description`` is what its key was made of."""

    path: Path
    description: Mapping[str, Any]
    bytes: int
    used: float  # seconds since the epoch


def key_of(description: Mapping[str, Any]) -> str:
    """The key of an entry, from what decides its values."""
    return fingerprint(dict(description))


class FeatureCache:
    """Arrays by what they were made of, in ``<root>/features``.

    Parameters
    ----------
    root : Path
        The cache folder; made when it is not there.

    Raises
    ------
    CacheError
        If the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "features"
        self._locks = root / "locks"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if root.is_dir() and is_unwritable(error, root):
                say_once(root, error)
                return
            raise CacheError(
                f"{root}: the cache folder cannot be made ({error}); set runtime.cache_dir"
            ) from error

    def path_of(self, description: Mapping[str, Any]) -> Path:
        """Where the entry is, or would be."""
        key = key_of(description)
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    @contextmanager
    def lock(self, description: Mapping[str, Any]) -> Iterator[None]:
        """A lock between processes, so that one computes what the others wait for.

        None where the folder cannot be written: then each computes for itself.
        """
        with ExitStack() as held:
            try:
                held.enter_context(FileLock(self._locks / f"{key_of(description)}.lock"))
            except OSError as error:
                if not is_unwritable(error, self.folder.parent):
                    raise
                say_once(self.folder.parent, error)
            yield

    def get(self, description: Mapping[str, Any]) -> tuple[Arrays | None, str]:
        """The arrays and ""; or None and why a file that is there is no good ("" when there is none).

        A damaged file is removed, so that it is made again.

        Raises
        ------
        CacheError
            If a file is there but cannot be opened (no permission): it may be whole.
        """
        path = self.path_of(description)
        try:
            arrays = read(path)
        except FileNotFoundError:
            return None, ""
        except Damaged as error:
            try:
                _remove(path)
            except CacheError as failed:
                if not is_unwritable(failed.__cause__ or failed, self.folder.parent):
                    raise
            return None, str(error)
        with suppress(OSError):  # a cache that can only be read still serves
            os.utime(path)  # last use, for pruning
        return arrays, ""

    def find(self, description: Mapping[str, Any]) -> Arrays | None:
        """The arrays, or None where they are to be made; that a file was damaged is logged."""
        arrays, damage = self.get(description)
        if damage:
            log.warning("cache entry rebuilt: %s", damage)
        return arrays

    def has(self, description: Mapping[str, Any]) -> bool:
        """Whether an entry is there (not whether it is whole)."""
        return self.path_of(description).is_file()

    def put(self, description: Mapping[str, Any], arrays: Arrays) -> None:
        """Write an entry under a temporary name, then rename it.

        A folder that is full or may not be written is told, once, and the entry is not kept.

        Raises
        ------
        CacheError
            If it cannot be written for another reason.
        """
        path = self.path_of(description)
        temporary: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_TEMPORARY, delete=False) as stream:
                temporary = Path(stream.name)
                stream.write(to_bytes(description, arrays))
            temporary.replace(path)
            temporary = None
        except OSError as error:
            if is_unwritable(error, self.folder.parent):
                say_once(self.folder.parent, error)
                return
            raise CacheError(
                f"{path}: cannot be written ({error}); free space or set runtime.cache_dir"
            ) from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def discard(self, described: Iterable[Mapping[str, Any]]) -> None:
        """Remove entries that others have taken the place of, as far as they can be."""
        for one in described:
            with suppress(OSError):
                self.path_of(one).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All entries, most recently used first; ``description`` is empty where a header cannot be read."""
        found = []
        for path in self.folder.glob(f"*/*{_SUFFIX}"):
            try:
                stat = path.stat()
                found.append(Entry(path, read_description(path), stat.st_size, stat.st_mtime))
            except FileNotFoundError:  # another process has removed it
                continue
        return iter(sorted(found, key=lambda entry: -entry.used))

    def verify(self) -> Iterator[tuple[Entry, str]]:
        """Each entry and what is wrong with it ("" for nothing)."""
        for entry in self.entries():
            try:
                read(entry.path)
            except FileNotFoundError:
                continue
            except CacheError as error:
                yield entry, str(error)
                continue
            misplaced = entry.path.stem != key_of(entry.description)
            yield entry, f"{entry.path}: its name is not its content's key" if misplaced else ""

    def prunable(self, *, older_than: float | None = None, max_bytes: int | None = None) -> list[Entry]:
        """Entries unused for ``older_than`` seconds, and the longest unused beyond ``max_bytes`` in all.

        With neither, everything.
        """
        now, total, found = time.time(), 0, []
        for entry in self.entries():
            total += entry.bytes
            old = older_than is not None and now - entry.used > older_than
            beyond = max_bytes is not None and total > max_bytes
            if old or beyond or (older_than is None and max_bytes is None):
                found.append(entry)
        return found

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove entries, and what interrupted writes left behind.

        Raises
        ------
        CacheError
            If a file cannot be removed.
        """
        for entry in entries:
            _remove(entry.path)
        for stray in self.folder.glob(f"*/{_TEMPORARY}*"):
            with suppress(FileNotFoundError):
                if time.time() - stray.stat().st_mtime > _ABANDONED_SECONDS:  # else it is being written
                    _remove(stray)

    def prune(self, *, older_than: float | None = None, max_bytes: int | None = None) -> list[Entry]:
        """Remove what is `prunable`; returns it.

        Raises
        ------
        CacheError
            If a file cannot be removed.
        """
        removed = self.prunable(older_than=older_than, max_bytes=max_bytes)
        self.remove(removed)
        return removed


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"{path}: cannot be removed ({error.strerror}); make its folder writable") from error


def cache_at(folder: str) -> FeatureCache:
    """The feature cache in a cache folder."""
    return FeatureCache(Path(folder))
