"""Finished runs written into a local MLflow database, many in one transaction.

MLflow's public way is three calls and six commits a run, about 14 ms of its own work. These are its tables
instead, not its interface: so this is for SQLite only, and only while the database's revision and columns are
those of ``REVISION``. Whoever calls keeps the public way for everything else; a test holds both to the same
rows.
"""

from __future__ import annotations

import math
import posixpath
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Alembic revision of the database (MLflow 3.17).
REVISION = "dc11669786a5"
_COLUMNS = {
    "runs": (
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status"),
        *("start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
        "deleted_time",
    ),
    "params": ("key", "value", "run_uuid"),
    "tags": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
}
_BUSY_SECONDS = 30.0

_KEY = re.compile(r"[/\w.\- ]+")
_KEY_LENGTH = 250
_PARAM_LENGTH = 6000


@dataclass(frozen=True)
class FinishedRun:
    """A run as it is to stand in the database.

    Parameters
    ----------
    run_id : str
        32 hexadecimal digits, new.
    name, status, artifact_uri : str
    start, end : int
        When it began and ended, milliseconds since the epoch.
    tags, params : mapping of str to str
    metrics : mapping of str to float
    """

    run_id: str
    name: str
    status: str
    artifact_uri: str
    start: int
    end: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def is_ordinary(self) -> bool:
        """Whether MLflow would write it as it is: nothing to refuse, to shorten or to write differently."""
        return (
            bool(self.name)
            and all(map(_is_ordinary_key, [*self.params, *self.metrics]))
            and all(len(value) <= _PARAM_LENGTH for value in self.params.values())
            and all(map(math.isfinite, self.metrics.values()))
        )


def _is_ordinary_key(key: str) -> bool:
    return (
        _KEY.fullmatch(key) is not None
        and len(key) <= _KEY_LENGTH
        and posixpath.normpath(key) == key
        and not key.startswith(("..", "/"))
        and key != "."
    )


def is_known(path: Path) -> bool:
    """Whether a database file is laid out as this was written for.

    Raises
    ------
    sqlite3.Error
        If it cannot be read.
    """
    with closing(_open(path)) as db:
        return _is_known(db)


def write(path: Path, experiment: str, runs: Sequence[FinishedRun]) -> bool:
    """Write runs into an experiment: all of them, or none.

    Returns
    -------
    bool
        False, with nothing written, if the database is not as this was written for, or the experiment is not
        active.

    Raises
    ------
    sqlite3.Error
        If the file cannot be written, or stays locked by another process.
    """
    tables = _rows(experiment, runs)
    with closing(_open(path)) as db:
        db.execute("BEGIN IMMEDIATE")  # waits for another writer here, never half-way
        stage = db.execute("SELECT lifecycle_stage FROM experiments WHERE experiment_id = ?", (experiment,))
        if not _is_known(db) or stage.fetchone() != ("active",):
            return False
        for table, rows in tables.items():
            marks = ", ".join("?" * len(_COLUMNS[table]))
            db.executemany(f"INSERT INTO {table} ({', '.join(_COLUMNS[table])}) VALUES ({marks})", rows)
        db.execute("COMMIT")
    return True


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _is_known(db: sqlite3.Connection) -> bool:
    revisions = db.execute("SELECT version_num FROM alembic_version").fetchall()
    return revisions == [(REVISION,)] and all(
        {row[1] for row in db.execute(f"PRAGMA table_info({table})")} == set(columns)
        for table, columns in _COLUMNS.items()
    )


def _rows(experiment: str, runs: Iterable[FinishedRun]) -> dict[str, list[tuple[Any, ...]]]:
    """Table -> rows, as MLflow's own calls write them."""
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _COLUMNS}
    for run in runs:
        key, at = run.run_id, run.end
        about = (key, run.name, "UNKNOWN", "", "", "unknown", run.status, run.start, at, "", "active")
        rows["runs"].append((*about, run.artifact_uri, int(experiment), None))
        rows["tags"] += [(tag, value, key) for tag, value in run.tags.items()]
        rows["tags"].append(("mlflow.runName", run.name, key))
        rows["params"] += [(param, value, key) for param, value in run.params.items()]
        for metric, value in run.metrics.items():
            rows["metrics"].append((metric, value, at, key, 0, False))
            rows["latest_metrics"].append((metric, value, at, 0, False, key))
    return rows
