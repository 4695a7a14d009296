"""Runs written in one transaction are the runs that MLflow's public calls write."""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking import bulk, names
from anomaly_sweep.tracking import store as client_module
from anomaly_sweep.tracking import writer as recorder_module
from anomaly_sweep.tracking.content import ConfigurationRun
from anomaly_sweep.tracking.writer import Recorder
from tests.support.tracking import configuration_run, public_calls, record, row, store

TIMES = {"start_time", "end_time", "deleted_time", "timestamp", "creation_time", "last_update_time"}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each transaction took."""
    taken: list[int] = []
    write = bulk.write

    def counted(path: Path, experiment: str, runs: list[bulk.FinishedRun]) -> bool:
        done = write(path, experiment, runs)
        taken.append(len(runs) if done else 0)
        return done

    monkeypatch.setattr(bulk, "write", counted)
    return taken


def various(parent: str, replaced: str) -> list[ConfigurationRun]:
    """Runs of every kind."""
    pixels = {
        "pixel_auroc": 0.75,
        "aupro": 0.5,
        "aupro_mvtec": 0.375,
        "map_seconds": 0.25,
        "backbone_seconds": 1.5,
    }
    rows: list[list[dict[str, Any]]] = [
        [row("a", 0.5, fit_seconds=0.125), row("b", 1.0)],
        [row("a", None, "it | broke\nhere"), row("b", 1.0)],
        [row("métal_nut", 0.1 + 0.2, **pixels), row("b c", 0.0, **pixels)],
        [row("a", 0.25)],
    ]
    changes: list[dict[str, Any]] = [
        {"labels": {group: f"{group}-1" for group in names.GROUPS}},
        {"warning": "random weights"},
        {"labels": {"backbone": "wrn", "localizer": "ridge"}, "config": {"deep": {"er": [1, None]}}},
        {"replaces": replaced},
    ]
    return [
        configuration_run(own, parent=parent, fingerprint=f"f{index}", **changed)
        for index, (own, changed) in enumerate(zip(rows, changes, strict=True))
    ]


def filled(folder: Path) -> tuple[Recorder, list[str]]:
    """A store with runs of every kind, and their ids in order."""
    recorder = Recorder(store(folder))
    parent = recorder.start_sweep("s", "id", "note", resume=True)
    replaced = record(recorder, [row("a", None, "why")], parent=parent, fingerprint="f3")
    ids = dict(recorder.record(various(parent, replaced)))
    return recorder, [parent, replaced, *(ids[position] for position in range(len(ids)))]


def contents(folder: Path, ids: list[str]) -> dict[str, list[list[Any]]]:
    """Every row of every table, but for times, folders and ids."""
    tables: dict[str, list[list[Any]]] = {}
    with closing(sqlite3.connect(folder / "mlflow.db")) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = db.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in rows.description]
            tables[table] = sorted(
                ([_plain(name, cell, folder, ids) for name, cell in zip(columns, line, strict=True)])
                for line in rows
            )
    return tables


def _plain(column: str, cell: Any, folder: Path, ids: list[str]) -> tuple[str, str]:
    if column in TIMES:
        return column, str(cell is None)
    text = re.sub(r"^'\d{13}'$", "TIME", repr(cell).replace(str(folder), "FOLDER"))
    for number, run_id in enumerate(ids):
        text = text.replace(run_id, f"RUN{number}")
    return column, text


def files(folder: Path, ids: list[str]) -> dict[str, str]:
    """Every artifact."""
    found = {}
    for path in sorted((folder / "artifacts").rglob("*.json")):
        name, text = str(path.relative_to(folder)), path.read_text()
        for number, run_id in enumerate(ids):
            name, text = name.replace(run_id, f"RUN{number}"), text.replace(run_id, f"RUN{number}")
        found[name] = text
    return found


def test_both_ways_write_the_same(tmp_path: Path, written: list[int]) -> None:
    recorder, ids = filled(tmp_path / "one")
    assert written == [1, 4]
    assert [recorder.client.get_run(run_id).info.lifecycle_stage for run_id in ids[:2]] == [
        "active",
        "deleted",
    ]
    with public_calls():
        _, public_ids = filled(tmp_path / "other")
    assert written == [1, 4]
    whole, public = contents(tmp_path / "one", ids), contents(tmp_path / "other", public_ids)
    assert whole.keys() == public.keys()
    for table, rows in public.items():
        assert whole[table] == rows, table
    assert len(whole["runs"]) == 6
    assert files(tmp_path / "one", ids) == files(tmp_path / "other", public_ids)
    assert len(files(tmp_path / "one", ids)) == 2 * 5


def test_both_ways_read_the_same(tmp_path: Path) -> None:
    recorder, ids = filled(tmp_path / "one")
    with public_calls():
        public, public_ids = filled(tmp_path / "other")
    queries: list[tuple[str, list[str]]] = [
        ("metrics.`auc/mean` > 0.2", ["metrics.`auc/mean` DESC"]),
        ("metrics.failed_trials = 1", ["attributes.run_name", "metrics.`auc/b` DESC"]),
        ("params.estimator = 'estimator-1'", ["params.layer"]),
        (f"tags.`{names.TAG_PARENT}` = '{{parent}}'", ["metrics.`auc/mean`", "metrics.`auc/b`"]),
        ("attributes.status = 'FAILED'", ["tags.`mlflow.runName`"]),
        ("attributes.run_name LIKE 'wrn%'", ["params.localizer"]),
        ("", ["metrics.`auc/métal_nut` DESC", "params.localizer", "metrics.`auc/a`", "metrics.`auc/b`"]),
    ]
    for query, order in queries:
        found = []
        for own, its in ((recorder, ids), (public, public_ids)):
            client = MlflowClient(own.tracking.uri)
            runs = client.search_runs([own.experiment], query.format(parent=its[0]), order_by=order)
            found.append([its.index(run.info.run_id) for run in runs])
        assert found[0] == found[1], query
        assert found[0], query
    for run_id, public_id in zip(ids, public_ids, strict=True):
        one, other = recorder.client.get_run(run_id), public.client.get_run(public_id)
        assert one.data.metrics == other.data.metrics
        assert one.data.params == other.data.params
        assert {*one.data.tags} == {*other.data.tags}
        assert (one.info.status, one.info.run_name) == (other.info.status, other.info.run_name)
        assert one.info.start_time <= one.info.end_time if one.info.end_time else True
        for key in one.data.metrics:
            one_of, other_of = (
                [(point.value, point.step) for point in own.client.get_metric_history(its, key)]
                for own, its in ((recorder, run_id), (public, public_id))
            )
            assert one_of == other_of


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, Recorder]:
    return (
        Recorder(store(tmp_path_factory.mktemp("whole"))),
        Recorder(store(tmp_path_factory.mktemp("public"))),
    )


def told(recorder: Recorder, run: dict[str, Any]) -> tuple[Any, ...]:
    """What becomes of a run: its data, or the refusal."""
    try:
        run_id = record(recorder, **run)
    except TrackingError as error:
        return ("refused", str(error).replace(recorder.tracking.uri, "URI"))
    data = recorder.client.get_run(run_id).data
    metrics = {key: repr(value) for key, value in data.metrics.items()}
    return (data.params, metrics, data.tags)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
keys = st.one_of(
    text,
    st.text("a./ -_\n:", min_size=1, max_size=6),
    st.sampled_from(["a", "../a", "/a", ".", "a//b", "a\n", "é", "a:b"]),
)
PLAIN: dict[str, Any] = {"labels": {}, "category": "a", "auc": 0.5, "seconds": 1.0, "warning": None}


@given(
    labels=st.dictionaries(keys, text, max_size=2),
    category=keys,
    auc=st.floats(),
    seconds=st.floats(allow_nan=False),
    warning=st.one_of(st.none(), text),
)
@example(**{**PLAIN, "labels": {"k": "v" * 6000, "l" * 250: "v"}})
@example(**{**PLAIN, "labels": {"k": "v" * 6001}})
@example(**{**PLAIN, "labels": {"k" * 251: "v"}})
@example(**{**PLAIN, "category": "a" * 247})
@example(**{**PLAIN, "warning": "w" * 8001})
@example(**{**PLAIN, "labels": {f"k{number}": "v" for number in range(99)}})
@example(**{**PLAIN, "auc": math.nan})
@example(**{**PLAIN, "auc": math.inf})
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_out_of_the_ordinary_is_shortened_or_refused_alike(
    both: tuple[Recorder, Recorder],
    labels: dict[str, str],
    category: str,
    auc: float,
    seconds: float,
    warning: str | None,
) -> None:
    run = {"labels": {"estimator": "knn", **labels}, "warning": warning}
    rows = [row(category, auc, fit_seconds=seconds)]
    whole = told(both[0], {**run, "rows": rows})
    with public_calls():
        assert whole == told(both[1], {**run, "rows": rows})


def test_another_layout_is_left_to_the_public_calls(tmp_path: Path, written: list[int]) -> None:
    recorder = Recorder(store(tmp_path))
    path = tmp_path / "mlflow.db"
    assert bulk.is_known(path)
    more = {**bulk._COLUMNS, "params": (*bulk._COLUMNS["params"], "new")}
    with mock.patch.object(bulk, "_COLUMNS", more):
        assert not bulk.is_known(path)
        run_id = record(recorder, [row("a", 0.5)])
    assert written == []
    assert recorder.client.get_run(run_id).data.metrics["auc/mean"] == 0.5
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE alembic_version SET version_num = 'later'")
        db.commit()
    assert not bulk.is_known(path)


def test_a_layout_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(store(tmp_path))
    monkeypatch.setattr(bulk, "is_known", lambda _path: True)
    with public_calls():
        run_id = record(recorder, [row("a", 0.5)])
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [run_id]
    assert recorder.recorded("none") == {}
    assert recorder.client.get_run(run_id).info.status == "FINISHED"


def test_artifacts_elsewhere_are_left_to_the_public_calls(
    tmp_path: Path, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(store(tmp_path, artifacts="mlflow-artifacts:/x"))
    logged: list[str] = []
    monkeypatch.setattr(recorder.client, "log_text", lambda _run, _text, name: logged.append(name))
    record(recorder, [row("a", 0.5)])
    assert written == []
    assert logged == [names.PER_CLASS_TABLE, "config.json"]


def test_a_failed_transaction_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(store(tmp_path))
    rows = bulk._rows

    def twice(experiment: str, runs: list[bulk.FinishedRun]) -> dict[str, list[tuple[Any, ...]]]:
        found = rows(experiment, runs)
        found["latest_metrics"] *= 2
        return found

    runs = [configuration_run([row("a", 0.5)], fingerprint=f"f{index}") for index in range(3)]
    with monkeypatch.context() as patched:
        patched.setattr(bulk, "_rows", twice)
        with pytest.raises(TrackingError, match="UNIQUE"):
            list(recorder.record(runs))
    assert recorder.client.search_runs([recorder.experiment]) == []
    assert list((tmp_path / "artifacts").iterdir()) == []
    assert len(list(recorder.record(runs))) == 3
    assert len(recorder.client.search_runs([recorder.experiment])) == 3


def test_a_deleted_experiment_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    recorder.client.delete_experiment(recorder.experiment)
    with pytest.raises(TrackingError, match="must be in the 'active' state"):
        record(recorder, [row("a", 0.5)])
    assert not list((tmp_path / "artifacts").glob("*"))


def test_what_is_written_is_told_before_what_fails(tmp_path: Path) -> None:
    """A configuration that is refused must not make others be recorded twice."""
    recorder = Recorder(store(tmp_path))
    runs = [
        configuration_run([row(category, 0.5)], fingerprint=category)
        for category in ("a", "b", "(", "c", "d", "e")
    ]
    found: list[tuple[int, str]] = []
    with mock.patch.object(recorder_module, "_BATCH", 4), pytest.raises(TrackingError, match="Invalid value"):
        found.extend(recorder.record(runs))
    assert [position for position, _ in found] == [0, 1, 3]
    there = {run.info.run_id for run in recorder.client.search_runs([recorder.experiment])}
    assert {run_id for _, run_id in found} == there


def test_batches_are_bounded(tmp_path: Path, written: list[int]) -> None:
    recorder = Recorder(store(tmp_path))
    asked: list[int] = []

    def runs() -> Iterator[ConfigurationRun]:
        for index in range(7):
            asked.append(index)
            yield configuration_run([row("a", index / 7)], fingerprint=f"f{index}")

    with mock.patch.object(recorder_module, "_BATCH", 3):
        recorded = recorder.record(runs())
        position, run_id = next(recorded)
        assert (position, asked, written) == (0, [0, 1, 2], [3])
        assert recorder.client.get_run(run_id).info.status == "FINISHED"
        assert [position for position, _ in recorded] == [1, 2, 3, 4, 5, 6]
    assert written == [3, 3, 1]


def test_another_writer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(store(tmp_path))
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    thread = threading.Timer(0.5, lambda: holder.execute("ROLLBACK"))
    thread.start()
    record(recorder, [row("a", 0.5)])
    assert time.monotonic() - begun > 0.4
    thread.join()
    monkeypatch.setattr(bulk, "_BUSY_SECONDS", 0.05)
    monkeypatch.setattr(client_module.time, "sleep", lambda _seconds: None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TrackingError, match="locked"):
        record(recorder, [row("a", 0.5)], fingerprint="f2")
    holder.close()
    assert len(list((tmp_path / "artifacts").iterdir())) == 1
