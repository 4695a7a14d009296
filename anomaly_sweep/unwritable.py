"""Folders that cannot be written, or are full: what is there is read, what is computed is not kept."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import sqlite3
from pathlib import Path

log = logging.getLogger(__name__)

_NUMBERS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
#: What SQLite says of a full disk (on some file systems as an error of its shared memory), or of one that is
#: read-only.
_FULL = ("disk is full", "disk I/O error", "readonly database")
_UNOPENED = "unable to open database file"
#: Options of a SQLite URI: in WAL mode a file cannot be read otherwise where nothing can be made beside it.
READ_ONLY = "mode=ro&immutable=1"

_said: set[Path] = set()


def is_unwritable(error: BaseException, folder: Path) -> bool:
    """Whether an error says that something in a folder cannot be written."""
    if isinstance(error, sqlite3.OperationalError):
        told = str(error)
        return any(sign in told for sign in _FULL) or (
            _UNOPENED in told and folder.is_dir() and not os.access(folder, os.W_OK)
        )
    return isinstance(error, OSError) and error.errno in _NUMBERS


def say_once(folder: Path, error: BaseException) -> None:
    """Say that a folder's contents are read and nothing is kept there: once, and not for each worker."""
    if folder not in _said and multiprocessing.parent_process() is None:
        _said.add(folder)
        log.warning(
            "%s cannot be written (%s): what is there is used, and what is computed is not kept there",
            folder,
            getattr(error, "strerror", None) or error,
        )
