"""The feature cache: content-addressed safetensors files, written whole or not at all.

A key is the fingerprint of everything that decides the values (images, weights, node, input size,
normalisation, augmentation), so an entry never needs to be invalidated, only pruned.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from anomaly_sweep.errors import CacheError
from anomaly_sweep.fingerprint import fingerprint

Arrays = dict[str, NDArray[np.float32]]
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Entry:
    """One file of the cache. ``about`` is what its key was made of."""

    path: Path
    about: Mapping[str, Any]
    bytes: int
    used: float  # seconds since the epoch


def key_of(about: Mapping[str, Any]) -> str:
    """The key of an entry, from what decides its values."""
    return fingerprint(dict(about))


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
            raise CacheError(
                f"{root}: the cache folder cannot be made ({error}); set runtime.cache_dir"
            ) from error

    def path_of(self, about: Mapping[str, Any]) -> Path:
        """Where the entry is, or would be."""
        key = key_of(about)
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def lock(self, about: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """A lock between processes, so that one computes what the others wait for."""
        return FileLock(self._locks / f"{key_of(about)}.lock")

    def get(self, about: Mapping[str, Any]) -> tuple[Arrays | None, str]:
        """The arrays and ""; or None and why a file that is there is no good ("" when there is none).

        A damaged file is removed, so that it is made again.
        """
        path = self.path_of(about)
        try:
            arrays = _read(path)
        except FileNotFoundError:
            return None, ""
        except CacheError as error:
            path.unlink(missing_ok=True)
            return None, str(error)
        os.utime(path)  # last use, for pruning
        return arrays, ""

    def has(self, about: Mapping[str, Any]) -> bool:
        """Whether an entry is there (not whether it is whole)."""
        return self.path_of(about).is_file()

    def put(self, about: Mapping[str, Any], arrays: Arrays) -> None:
        """Write an entry under a temporary name, then rename it.

        Raises
        ------
        CacheError
            If it cannot be written (disk full, no permission).
        """
        from safetensors.numpy import save

        path = self.path_of(about)
        metadata = {"about": json.dumps(dict(about), sort_keys=True), "digest": _digest(arrays)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as stream:
                stream.write(save(arrays, metadata=metadata))
            Path(stream.name).replace(path)
        except OSError as error:
            raise CacheError(
                f"{path}: cannot be written ({error}); free space or set runtime.cache_dir"
            ) from error

    def entries(self) -> Iterator[Entry]:
        """All entries, most recently used first. Files whose header cannot be read have an empty ``about``."""
        found = []
        for path in self.folder.glob(f"*/*{_SUFFIX}"):
            stat = path.stat()
            try:
                about = json.loads(_metadata(path)["about"])
            except (CacheError, KeyError, ValueError):
                about = {}
            found.append(Entry(path, about, stat.st_size, stat.st_mtime))
        return iter(sorted(found, key=lambda entry: -entry.used))

    def verify(self) -> Iterator[tuple[Entry, str]]:
        """Each entry and what is wrong with it ("" for nothing)."""
        for entry in self.entries():
            try:
                _read(entry.path)
                misplaced = entry.path.stem != key_of(entry.about)
                yield entry, "its name is not its content's key" if misplaced else ""
            except CacheError as error:
                yield entry, str(error)

    def prune(self, *, older_than: float | None = None, max_bytes: int | None = None) -> list[Entry]:
        """Remove entries unused for ``older_than`` seconds, then the longest unused beyond ``max_bytes``.

        With neither, everything goes. Left-over temporary files go too. Returns what was removed.
        """
        for stray in self.folder.glob("*/.new-*"):
            stray.unlink(missing_ok=True)
        now, kept, removed = time.time(), 0, []
        for entry in self.entries():
            old = older_than is not None and now - entry.used > older_than
            large = max_bytes is not None and kept + entry.bytes > max_bytes
            if old or large or (older_than is None and max_bytes is None):
                entry.path.unlink(missing_ok=True)
                removed.append(entry)
            else:
                kept += entry.bytes
        return removed


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stream:
            return stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CacheError(f"{path}: damaged ({error})") from error


def _read(path: Path) -> Arrays:
    """Arrays of a file whose bytes are those that were written."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        arrays: Arrays = load(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise CacheError(f"{path}: damaged ({error})") from error
    if _metadata(path).get("digest") != _digest(arrays):
        raise CacheError(f"{path}: damaged (its content is not what was written)")
    return arrays
