"""The store of results that makes a sweep resumable."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from pathlib import Path

import pytest

from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import CacheError
from anomaly_sweep.sweep.record import results as results_module
from anomaly_sweep.sweep.record.results import ResultStore
from anomaly_sweep.tasks.base import TrialResult


def result(name: str, auc: float = 0.5) -> TrialResult:
    return TrialResult(name, "ok", auc, 3, 10, 5, 0.25, 0.125)


def test_what_is_put_is_got_to_the_last_bit(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    kept = [result("a", 1 / 3), TrialResult.failed("b", "why")]
    store.put(kept)
    assert ResultStore(tmp_path / "results.sqlite").get(["a", "b", "c"]) == {"a": kept[0], "b": kept[1]}
    assert store.get(["c"]) == {}


def test_a_later_result_replaces_an_earlier_one(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    store.put([TrialResult.failed("a", "why")])
    store.put([result("a")])
    assert store.get(["a"])["a"].ok


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    broken = TrialResult("b", "ok", object())  # type: ignore[arg-type]
    with pytest.raises(CacheError):
        store.put([result("a"), broken])
    assert store.get(["a"]) == {}


def test_many_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    ResultStore(path)
    writers = [
        threading.Thread(target=lambda i=i: [ResultStore(path).put([result(f"{i}-{j}")]) for j in range(20)])
        for i in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    names = [f"{i}-{j}" for i in range(4) for j in range(20)]
    assert len(ResultStore(path).get(names)) == 80


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    path.write_text("no database" * 100)
    with pytest.raises(CacheError, match=r"results\.sqlite"):
        ResultStore(path)


def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    ResultStore(tmp_path / "results.sqlite")
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_scores_are_kept_beside_the_results_and_go_with_them(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    scored = [
        dataclasses.replace(result(f"{i:04}"), scores=bytes([i % 256] * 8), labels=b"\1") for i in range(1200)
    ]
    store.put([*scored, result("bare")])
    assert store.scores([one.fingerprint for one in scored[::-1]] + ["bare", "none"]) == {
        one.fingerprint: (one.scores, one.labels, None) for one in scored
    }
    assert store.get(["0007"])["0007"].scores is None
    store.put([TrialResult.failed("0001", "why"), dataclasses.replace(scored[2], scores=b"later678")])
    assert store.scores(["0001", "0002"]) == {"0002": (b"later678", b"\1", None)}


def test_a_store_of_an_earlier_version_has_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    ResultStore(path).put([result("a")])
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE per_image")
    store = ResultStore(path)
    assert store.get(["a"])["a"].ok
    assert store.scores(["a"]) == {}


def test_results_are_looked_up_by_key(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    store.put([result(f"{i}") for i in range(3000)])
    with sqlite3.connect(store.path) as db:
        for table in ("results", "per_image"):
            query = f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE fingerprint IN {results_module._LISTED}"
            plan = " ".join(row[3] for row in db.execute(query, ("[]",)))
            assert f"SEARCH {table}" in plan
            assert f"SCAN {table}" not in plan
    assert set(store.get(str(i) for i in range(2500))) == {str(i) for i in range(2500)}


def records(*names: str) -> list[ImageRecord]:
    return [ImageRecord(Path("/data") / name, name, name.split("/")[2]) for name in names]


def test_the_names_of_the_images_are_kept_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.sqlite")
    first = records("c/test/good/0.png", "c/test/hole, deep/ü.png")
    second = records("d/test/good/0.png")
    scored = [dataclasses.replace(result(f"{i}"), scores=bytes(8), labels=b"\1") for i in range(4)]
    store.put(scored[:2], first)
    store.put(scored[2:3], second)
    store.put(scored[3:], first)
    store.put([result("bare")], first)
    found = store.scores("0123")
    expected = (("c/test/good/0.png", "good"), ("c/test/hole, deep/ü.png", "hole, deep"))
    assert [found[i][2] for i in "013"] == [expected] * 3
    assert found["2"][2] == (("d/test/good/0.png", "good"),)
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        assert db.execute("SELECT count(*) FROM images").fetchone() == (2,)
    store.put(scored[:1])  # without names: those of before are not its own
    assert store.scores("0")["0"][2] is None


def test_scores_of_an_earlier_version_have_no_names(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE per_image (fingerprint TEXT PRIMARY KEY, scores BLOB, labels BLOB)")
        db.execute("INSERT INTO per_image VALUES ('a', x'00', x'01')")
    store = ResultStore(path)
    assert store.scores("a") == {"a": (b"\0", b"\1", None)}
