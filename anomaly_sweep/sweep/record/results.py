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

from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import CacheError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.base import PER_IMAGE, TrialResult
from anomaly_sweep.tracking.scores import ImageNames

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
                "(fingerprint TEXT PRIMARY KEY, scores BLOB, labels BLOB, images TEXT)"
            )
            if "images" not in {row[1] for row in db.execute("PRAGMA table_info(per_image)")}:
                db.execute("ALTER TABLE per_image ADD COLUMN images TEXT")
            # The names of a category's images once, whatever the number of its trials.
            db.execute("CREATE TABLE IF NOT EXISTS images (digest TEXT PRIMARY KEY, names TEXT)")

    def get(self, fingerprints: Iterable[str]) -> dict[str, TrialResult]:
        """Those results that are there, failed ones too, without what they hold for each image."""
        wanted = json.dumps(sorted(set(fingerprints)))
        with self._open() as db:
            rows = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM results WHERE fingerprint IN {_LISTED}", (wanted,)
            ).fetchall()
        return {row[0]: TrialResult(*row) for row in rows}

    def scores(self, fingerprints: Iterable[str]) -> dict[str, tuple[bytes, bytes, ImageNames | None]]:
        """The scores and labels of those results that have them (see :class:`TrialResult`), and of what."""
        wanted = json.dumps(sorted(set(fingerprints)))
        with self._open() as db:
            rows = db.execute(
                f"SELECT fingerprint, scores, labels, images FROM per_image WHERE fingerprint IN {_LISTED}",
                (wanted,),
            ).fetchall()
            digests = json.dumps(sorted({row[3] for row in rows if row[3] is not None}))
            kept = db.execute(f"SELECT digest, names FROM images WHERE digest IN {_LISTED}", (digests,))
            names = {digest: tuple((path, kind) for path, kind in json.loads(said)) for digest, said in kept}
        return {print_: (scores, labels, names.get(digest)) for print_, scores, labels, digest in rows}

    def put(self, results: Sequence[TrialResult], images: Sequence[ImageRecord] = ()) -> None:
        """Keep results, replacing earlier ones of the same fingerprints; all of them or none.

        ``images`` are the test images that all of them are of.
        """
        now = time.time()
        names = json.dumps([[record.relative, record.defect] for record in images])
        digest = fingerprint(names) if images else None
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
                "INSERT OR REPLACE INTO per_image (fingerprint, scores, labels, images) VALUES (?, ?, ?, ?)",
                [(r.fingerprint, r.scores, r.labels, digest) for r in results if r.scores is not None],
            )
            if images:
                db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (digest, names))

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
