"""Results on disk by fingerprint: what makes a sweep resumable."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import CacheError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.base import PER_IMAGE, TrialResult
from anomaly_sweep.tracking.scores import ImageNames
from anomaly_sweep.unwritable import READ_ONLY, is_unwritable, say_once

#: Its file in the cache folder.
RESULTS = "results.sqlite"
_COLUMNS = [field.name for field in fields(TrialResult) if field.name not in PER_IMAGE]
_VALUES = attrgetter(*_COLUMNS)
_BUSY_SECONDS = 60.0
#: The elements of one parameter: looked up by key, however many they are.
_LISTED = "(SELECT value FROM json_each(?))"

T = TypeVar("T")


class _Batch(NamedTuple):
    results: Sequence[TrialResult]
    images: Sequence[ImageRecord]


#: Store -> results that could not be written.
_unwritten: dict[Path, list[_Batch]] = {}
_exchange = threading.Lock()


class ResultStore:
    """Trial results in one SQLite file (WAL), which several processes may use at once.

    Where the file cannot be written (a folder that is full, or read-only) what is there is read, and what is
    put is known in this process only.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.

    Raises
    ------
    CacheError
        If the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten = _unwritten.setdefault(path.absolute(), [])
        try:
            self._make()
        except CacheError as error:
            self._report(error)

    def _make(self) -> None:
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
        wanted = set(fingerprints)
        listed = json.dumps(sorted(wanted))

        def select(db: sqlite3.Connection) -> dict[str, TrialResult]:
            query = f"SELECT {', '.join(_COLUMNS)} FROM results WHERE fingerprint IN {_LISTED}"
            return {row[0]: TrialResult(*row) for row in db.execute(query, (listed,))}

        unwritten = (result for batch in self._unwritten for result in batch.results)
        return self._read(select) | {one.fingerprint: one for one in unwritten if one.fingerprint in wanted}

    def scores(self, fingerprints: Iterable[str]) -> dict[str, tuple[bytes, bytes, ImageNames | None]]:
        """The scores and labels of those results that have them (see :class:`TrialResult`), and of what."""
        wanted = set(fingerprints)
        listed = json.dumps(sorted(wanted))

        def select(db: sqlite3.Connection) -> dict[str, tuple[bytes, bytes, ImageNames | None]]:
            rows = db.execute(
                f"SELECT fingerprint, scores, labels, images FROM per_image WHERE fingerprint IN {_LISTED}",
                (listed,),
            ).fetchall()
            digests = json.dumps(sorted({row[3] for row in rows if row[3] is not None}))
            kept = db.execute(f"SELECT digest, names FROM images WHERE digest IN {_LISTED}", (digests,))
            names = {
                digest: tuple((path, kind) for path, kind in json.loads(image_names))
                for digest, image_names in kept
            }
            return {
                trial_id: (scores, labels, names.get(digest)) for trial_id, scores, labels, digest in rows
            }

        found = self._read(select)
        for batch in self._unwritten:
            of = tuple((record.relative, record.defect) for record in batch.images) or None
            for one in batch.results:
                if one.fingerprint in wanted and one.scores is not None and one.labels is not None:
                    found[one.fingerprint] = (one.scores, one.labels, of)
        return found

    def put(self, results: Sequence[TrialResult], images: Sequence[ImageRecord] = ()) -> None:
        """Keep results, replacing earlier ones of the same fingerprints; all of them or none.

        ``images`` are the test images that all of them are of. Those that could not be written are tried
        again with the next.
        """
        with _exchange:
            waiting = [*self._unwritten, _Batch(results, images)]
            self._unwritten.clear()
        while waiting:
            batch = waiting.pop(0)
            try:
                self._write(*batch)
            except CacheError as error:
                unwritable = is_unwritable(error.__cause__ or error, self.path.parent)
                with _exchange:
                    self._unwritten.extend([batch, *waiting] if unwritable else waiting)
                self._report(error)
                return

    def unwritten(self) -> int:
        """How many results only this process knows, after another try to write them."""
        if self._unwritten:
            self.put([])
        return sum(len(batch.results) for batch in self._unwritten)

    def _read(self, select: Callable[[sqlite3.Connection], dict[str, T]]) -> dict[str, T]:
        try:
            with self._open() as db:
                return select(db)
        except CacheError as error:
            self._report(error)
        try:
            place = f"{self.path.absolute().as_uri()}?{READ_ONLY}"
            with closing(sqlite3.connect(place, uri=True)) as db:
                return select(db)
        except sqlite3.Error:  # there is none, or not all of it
            return {}

    def _report(self, error: CacheError) -> None:
        """Say that the file cannot be written; raise any other error again."""
        cause = error.__cause__ or error
        if not is_unwritable(cause, self.path.parent):
            raise error
        say_once(self.path.parent, cause)

    def _write(self, results: Sequence[TrialResult], images: Sequence[ImageRecord]) -> None:
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


def storage_notice(path: Path) -> str:
    """Whether everything that was computed is kept, for a user whose tracking store is away."""
    unwritten = ResultStore(path).unwritten()
    if not unwritten:
        return "All results are kept: launching the same sweep again records what is missing"
    return (
        f"{unwritten} results could not be kept either ({path.parent} cannot be written): launching the same "
        "sweep again computes them anew, and records what is missing"
    )


class _Session:
    """A connection for one transaction, closed afterwards; errors name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        except sqlite3.Error as error:
            raise self._cache_error(error) from error
        return self._db

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with closing(self._db):
            try:
                if error is None:
                    self._db.commit()
            except sqlite3.Error as failed:
                raise self._cache_error(failed) from failed
        if isinstance(error, sqlite3.Error):
            raise self._cache_error(error) from error

    def _cache_error(self, error: Exception) -> CacheError:
        return CacheError(
            f"{self.path}: the result store cannot be used ({error}); free the file, or set runtime.cache_dir"
        )
