"""MLflow's SQLite file: made whole or not at all, and in WAL mode."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

from anomaly_sweep.errors import TrackingError

_PREFIX = "sqlite:///"
_BUSY_SECONDS = 30.0


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI, else None (also for a database in memory, or one with options)."""
    name = uri.removeprefix(_PREFIX)
    return (
        Path(name) if uri.startswith(_PREFIX) and name not in ("", ":memory:") and "?" not in name else None
    )


def whole_uri(uri: str) -> str:
    """A URI whose SQLite file does not depend on the working folder.

    MLflow keeps a store open by its URI: the same relative one would go on in an earlier folder's file.
    """
    path = sqlite_path(uri)
    return uri if path is None else f"{_PREFIX}{path.absolute().as_posix()}"


def prepare(path: Path) -> None:
    """Make the file if it is not there, put it in WAL mode (kept in the file) and see that it can be written.

    MLflow makes a new file's tables in many steps, without a lock: a process killed meanwhile would leave a
    file that no MLflow can use, and two sweeps could both begin. So they are made elsewhere under a lock, and
    the file is renamed when it is whole.

    Raises
    ------
    TrackingError
        If the file cannot be made or written, or is not a database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists() or (path.is_file() and path.stat().st_size == 0):
                _make(path)
            with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("BEGIN IMMEDIATE")  # fails here, before long work, if the file cannot be written
                db.rollback()
    except (OSError, sqlite3.Error, _MakingError) as error:
        raise TrackingError(
            f"the tracking store {_PREFIX}{path} cannot be written ({error}); free the file, check its "
            "permissions, or set tracking.uri"
        ) from error


class _MakingError(Exception):
    """MLflow could not make its tables."""


def _make(path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for left in path.parent.glob(f"{path.name}.new-*"):  # of a process that was killed: we hold the lock
        left.unlink(missing_ok=True)
    # A name of its own each time: MLflow remembers which files it has made.
    making = path.with_name(f"{path.name}.new-{uuid.uuid4().hex}")
    whole = making.with_name(f"{making.name}-whole")
    try:
        with _unsynced(making):
            MlflowClient(f"{_PREFIX}{making}").search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        raise _MakingError(str(error).strip().splitlines()[0]) from error
    try:
        shutil.copyfile(making, whole)  # MLflow may keep its own open
        with whole.open("rb+") as file:
            os.fsync(file.fileno())
        whole.replace(path)
    finally:
        for left in (making, whole):
            left.unlink(missing_ok=True)


@contextmanager
def _unsynced(making: Path) -> Iterator[None]:
    """Let nothing wait for the disk in a file that is thrown away unless it becomes whole.

    MLflow's migrations commit some hundred times; on a busy disk that is most of their time.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        if any(name.endswith(making.name) for *_, name in connection.execute("PRAGMA database_list")):
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "connect", on_connect)
