"""Where a sweep keeps what it need not compute again."""

from __future__ import annotations

import getpass
import tempfile
from functools import cache
from pathlib import Path

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.datasets import INDEX_FILE, FileIndex
from anomaly_sweep.errors import CacheError


def cache_folder(runtime: RuntimeConf) -> Path:
    """The cache folder, made if it is not there.

    Raises
    ------
    CacheError
        If it cannot be made.
    """
    folder = Path(runtime.cache_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"runtime.cache_dir={folder} cannot be made ({error})") from error
    return folder


def machine_folder() -> Path:
    """A folder of this machine alone, for what is remembered of its files."""
    folder = Path(tempfile.gettempdir()) / f"anomaly_sweep-{getpass.getuser()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_index(runtime: RuntimeConf) -> FileIndex:
    """The memory of the images' hashes; with ``resume=false`` every file is read once more in this process.

    Raises
    ------
    CacheError
        If the cache folder cannot be made.
    """
    return _file_index((cache_folder(runtime) / INDEX_FILE).absolute(), reread=not runtime.resume)


@cache  # a launch asks several times, and a search for each of its batches
def _file_index(path: Path, *, reread: bool) -> FileIndex:
    return FileIndex(path, reread=reread)
