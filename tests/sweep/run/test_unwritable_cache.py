"""A cache that is full or may only be read: hits are used, misses computed, and nothing untrue is said."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_sweep import unwritable
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import CacheError, TrackingError
from anomaly_sweep.features.cache import store as cache_module
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.sweep.record import results as results_module
from anomaly_sweep.sweep.record.recording import Parent
from anomaly_sweep.sweep.record.results import ResultStore, storage_notice
from anomaly_sweep.sweep.run.configurations import run_configurations
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tracking.writer import Recorder
from tests.support.sweeps import KNN1, MVG, grid, runtime, tracking

FULL = OSError(errno.ENOSPC, "No space left on device")
ABOUT = {"what": "x"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    unwritable._said.clear()
    results_module._unwritten.clear()
    yield
    unwritable._said.clear()
    results_module._unwritten.clear()


def refuse(*_given: Any, **_named: Any) -> Any:
    raise FULL


def no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""

    def full(self: ResultStore, *_: Any) -> None:
        try:
            raise sqlite3.OperationalError("database or disk is full")
        except sqlite3.Error as error:
            raise CacheError(f"{self.path}") from error

    monkeypatch.setattr(ResultStore, "_write", full)


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that may only be read: SQLite opens nothing there unless it is told so."""
    connect = sqlite3.connect

    def connected(place: Any, *given: Any, **named: Any) -> sqlite3.Connection:
        if not named.get("uri"):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return connect(place, *given, **named)

    monkeypatch.setattr(sqlite3, "connect", connected)
    monkeypatch.setattr(cache_module.tempfile, "NamedTemporaryFile", refuse)


def test_features_that_cannot_be_kept_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(tmp_path)
    monkeypatch.setattr(cache_module.tempfile, "NamedTemporaryFile", refuse)
    for _ in range(3):
        cache.put(ABOUT, {"x": np.ones(3, np.float32)})
    assert cache.get(ABOUT) == (None, "")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{tmp_path} cannot be written (No space left on device)" in caplog.text


def test_no_lock_is_no_reason_not_to_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path)
    monkeypatch.setattr(cache_module, "FileLock", refuse)
    with cache.lock(ABOUT):
        pass
    monkeypatch.setattr(Path, "mkdir", refuse)
    FeatureCache(tmp_path)
    with pytest.raises(CacheError, match=r"runtime\.cache_dir"):
        FeatureCache(tmp_path / "none")


def test_hits_of_a_read_only_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"1")
    index, results = FileIndex(tmp_path / "files.sqlite"), ResultStore(tmp_path / "results.sqlite")
    expected = index.lookup([image])
    kept = TrialResult("a", "ok", 0.5, scores=b"12345678", labels=b"1")
    results.put([kept])
    for name in ("files.sqlite", "results.sqlite"):
        with sqlite3.connect(tmp_path / name) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    read_only(monkeypatch)
    assert FileIndex(tmp_path / "files.sqlite").lookup([image]) == expected
    again = ResultStore(tmp_path / "results.sqlite")
    assert again.get(["a", "b"]) == {"a": kept}
    assert again.scores(["a"]) == {"a": (b"12345678", b"1", None)}
    again.put([TrialResult("b", "ok", 0.25)])
    assert again.get(["a", "b"])["b"].image_auroc == 0.25
    nothing = ResultStore(tmp_path / "none.sqlite")
    assert nothing.get(["a"]) == {}
    assert nothing.scores(["a"]) == {}
    assert FileIndex(tmp_path / "none").lookup([image]) == expected


def test_results_that_cannot_be_kept_are_kept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.sqlite"
    store = ResultStore(path)
    with monkeypatch.context() as patched:
        no_results(patched)
        store.put([TrialResult("a", "ok", 0.5)])
        store.put([TrialResult("b", "ok", 0.25)])
        assert storage_notice(path).startswith("2 results could not be kept either")
        assert set(ResultStore(path).get(["a", "b"])) == {"a", "b"}  # in this process
    assert storage_notice(path).startswith("All results are kept")
    assert not results_module._unwritten[path]
    assert set(ResultStore(path).get(["a", "b"])) == {"a", "b"}


def test_another_error_is_raised_and_holds_up_nothing(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    with pytest.raises(CacheError):
        store.put([TrialResult("b", "ok", object())])  # type: ignore[arg-type]
    store.put([TrialResult("a", "ok", 0.5)])
    assert set(store.get(["a", "b"])) == {"a"}


def test_a_sweep_on_a_full_cache(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen, conf = grid(tiny_dataset, ["level1"], [0.5], [MVG, KNN1]), tracking(tmp_path)
    expected = [one.mean_auc for one in run_configurations(chosen, conf, runtime(tmp_path), Parent("x"))]
    small = runtime(tmp_path, cache_dir=str(tmp_path / "small"))
    monkeypatch.setattr(cache_module.tempfile, "NamedTemporaryFile", refuse)
    no_results(monkeypatch)
    outcomes = run_configurations(chosen, conf, small, Parent("y"))
    assert [one.mean_auc for one in outcomes] == expected
    assert None not in expected
    assert caplog.text.count("cannot be written") == 1

    def away(*_: Any) -> Iterator[tuple[int, str]]:
        raise TrackingError("gone")
        yield

    monkeypatch.setattr(Recorder, "record", away)
    with pytest.raises(TrackingError, match=r"gone\. 4 results could not be kept either .*anew"):
        run_configurations(chosen, conf, small, Parent("z"))
