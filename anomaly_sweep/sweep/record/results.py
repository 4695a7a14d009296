"""Results on disk by fingerprint: what makes a sweep resumable."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from anomaly_sweep.errors import CacheError
from anomaly_sweep.tasks.base import PER_IMAGE, TrialResult

#: Its file in the cache folder.
RESULTS = "results.sqlite"
_COLUMNS = [field.name for field in fields(TrialResult) if field.name not in PER_IMAGE]
_VALUES = attrgetter(*_COLUMNS)
_BUSY_SECONDS = 60.0
#: The elements of one parameter: looked up by key, however many they are.
_LISTED = "(SELECT value FROM json_each(?))"


class ResultStore:
    """Trial results in one SQLite file (WAL), which several processes may use at once.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.

    Raises
    ------
    CacheError
        If the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        definitions = ", ".join(_COLUMNS[1:])
        with self._open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(
                f"CREATE TABLE IF NOT EXISTS results (fingerprint TEXT PRIMARY KEY, {definitions}, at REAL) "
                "WITHOUT ROWID"
            )
            there = {row[1] for row in db.execute("PRAGMA table_info(results)")}
            for column in set(_COLUMNS) - there:  # a store of an earlier version
                db.execute(f"ALTER TABLE results ADD COLUMN {column}")
            # By themselves, so that finding out what is known reads none of them.
            db.execute(
                "CREATE TABLE IF NOT EXISTS per_image "
                "(fingerprint TEXT PRIMARY KEY, scores BLOB, labels BLOB)"
            )

    def get(self, fingerprints: Iterable[str]) -> dict[str, TrialResult]:
        """Those results that are there, failed ones too, without what they hold for each image."""
        wanted = json.dumps(sorted(set(fingerprints)))
        with self._open() as db:
            rows = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM results WHERE fingerprint IN {_LISTED}", (wanted,)
            ).fetchall()
        return {row[0]: TrialResult(*row) for row in rows}

    def scores(self, fingerprints: Iterable[str]) -> dict[str, tuple[bytes, bytes]]:
        """The scores and labels of those results that have them (see :class:`TrialResult`)."""
        wanted = json.dumps(sorted(set(fingerprints)))
        with self._open() as db:
            rows = db.execute(
                f"SELECT fingerprint, scores, labels FROM per_image WHERE fingerprint IN {_LISTED}", (wanted,)
            ).fetchall()
        return {print_: (scores, labels) for print_, scores, labels in rows}

    def put(self, results: Sequence[TrialResult]) -> None:
        """Keep results, replacing earlier ones of the same fingerprints; all of them or none."""
        now = time.time()
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        with self._open() as db:
            db.executemany(
                f"INSERT OR REPLACE INTO results ({', '.join(_COLUMNS)}, at) VALUES ({marks})",
                [(*_VALUES(result), now) for result in results],
            )
            db.executemany(
                "DELETE FROM per_image WHERE fingerprint = ?",
                [(result.fingerprint,) for result in results if result.scores is None],
            )
            db.executemany(
                "INSERT OR REPLACE INTO per_image VALUES (?, ?, ?)",
                [(r.fingerprint, r.scores, r.labels) for r in results if r.scores is not None],
            )

    def _open(self) -> _Session:
        return _Session(self.path)


class _Session:
    """A connection for one transaction, closed afterwards; errors name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        except sqlite3.Error as error:
            raise self._told(error) from error
        return self._db

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with closing(self._db):
            try:
                if error is None:
                    self._db.commit()
            except sqlite3.Error as failed:
                raise self._told(failed) from failed
        if isinstance(error, sqlite3.Error):
            raise self._told(error) from error

    def _told(self, error: Exception) -> CacheError:
        return CacheError(
            f"{self.path}: the result store cannot be used ({error}); free the file, or set runtime.cache_dir"
        )
