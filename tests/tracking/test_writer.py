"""What is written to MLflow, and what is told when it cannot be."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking import sqlite as sqlite_module
from anomaly_sweep.tracking import store as client_module
from anomaly_sweep.tracking.content import mean_auc, per_class_note
from anomaly_sweep.tracking.view import KIND_TAG, TRAINING, VIEW_TAG, runs_page, saved_view
from anomaly_sweep.tracking.writer import Recorder
from tests.support.tracking import conf, configuration_run, record, row, store


def test_the_mean_needs_every_category() -> None:
    assert mean_auc([row("a", 0.25), row("b", 0.75)]) == 0.5
    assert mean_auc([row("a", 0.25), row("b", None)]) is None
    assert mean_auc([]) is None


def test_the_note_is_a_table_that_markdown_cannot_break() -> None:
    note = per_class_note([row("b", None, "a | b\nc"), row("a", 0.5)], "head")
    lines = note.splitlines()
    assert lines[4:6] == ["| a | 0.5000 | 3 | 5 |  |", "| b | - | 3 | 5 | a \\| b c |"]
    assert "a mean needs every category" in lines[6]


def test_recorded_runs_are_found_by_fingerprint(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    parent = recorder.start_sweep("s", "id", "note", resume=True)
    run = record(recorder, [row("a", 0.5)], parent=parent)
    failed = record(recorder, [row("a", None, "why")], parent=parent, fingerprint="f2")
    assert recorder.recorded(parent) == {"f1": (run, "FINISHED"), "f2": (failed, "FAILED")}
    assert [r["category"] for r in recorder.read_rows(run)] == ["a"]
    assert recorder.read_rows(run)[0]["run_id"] == run
    recorder.drop(failed)
    assert set(recorder.recorded(parent)) == {"f1"}


def test_what_a_killed_process_left_is_taken_back(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    parent = recorder.start_sweep("s", "id", "note", resume=True)
    whole = record(recorder, [row("a", 0.5)], parent=parent)
    half = recorder.client.create_run(
        recorder.experiment, tags={names.TAG_PARENT: parent, names.TAG_FINGERPRINT: "f9"}
    )
    assert set(recorder.recorded(parent)) == {"f1"}
    recorder.drop_unfinished(parent)
    client = MlflowClient(store(tmp_path).uri)
    assert client.get_run(half.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(whole).info.lifecycle_stage == "active"


@pytest.mark.parametrize("answers", [True, False], ids=["at once", "when the store answers again"])
@pytest.mark.parametrize("call", ["log_batch", "set_terminated"])
def test_a_run_that_cannot_be_written_whole_is_taken_back(
    answers: bool, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(store(tmp_path))
    client = MlflowClient(recorder.tracking.uri)
    parent = recorder.start_sweep("s", "id", "note", resume=True)
    terminate = MlflowClient.set_terminated

    def refused(*given: object, **_: object) -> None:
        if call == "set_terminated":  # it is done, but the answer is lost
            terminate(client, *given)
        raise MlflowException("no")

    with monkeypatch.context() as patched:
        patched.setattr(recorder.client, call, refused)
        if not answers:
            patched.setattr(recorder.client, "delete_run", refused)
        with pytest.raises(TrackingError, match=r"mlflow\.db cannot be used \(no\)"):
            record(recorder, [row("a", 0.5)], parent=parent)
    assert len(client.search_runs([recorder.experiment])) == (1 if answers else 2)
    run_id = record(recorder, [row("a", 0.5)], parent=parent)
    assert {run.info.run_id for run in client.search_runs([recorder.experiment])} == {parent, run_id}


def test_artifacts_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    (tmp_path / "artifacts").write_text("in the way")
    with pytest.raises(TrackingError, match=r"artifacts cannot be written.*tracking\.artifacts"):
        record(recorder, [row("a", 0.5)])
    assert not recorder.client.search_runs([recorder.experiment])


def test_a_tag_fits_every_database(tmp_path: Path) -> None:
    run = configuration_run([row("a", None, "why " * 3000)], labels={"backbone": "b" * 300})
    assert len(run.tags[names.TAG_NOTE]) == 8000
    assert len(run.name) == 250


def test_a_sweep_is_resumed_by_identity(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    first = recorder.start_sweep("one", "id", "", resume=True)
    recorder.finish(first, failed=True)
    assert recorder.start_sweep("two", "id", "", resume=True) == first
    assert recorder.sweep_name(first) == "one"
    assert recorder.start_sweep("two", "other", "", resume=True) != first
    assert recorder.start_sweep("two", "id", "", resume=False) != first


def test_the_long_table_is_parquet_on_the_parent(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    parent = recorder.start_sweep("s", "id", "", resume=True)
    recorder.log_long_table(parent, [row("a", 0.5), row("b", None, "why")])
    path = tmp_path / "artifacts" / parent / "artifacts" / names.LONG_TABLE
    frame = pd.read_parquet(path)
    assert tuple(frame.columns) == names.TRIAL_COLUMNS
    assert frame["image_auroc"].isna().tolist() == [False, True]


def test_the_runs_table_has_a_saved_view(tmp_path: Path) -> None:
    recorder = Recorder(conf(tmp_path))
    view = json.loads(recorder.client.get_experiment(recorder.experiment).tags[VIEW_TAG])
    assert "metrics.`auc/mean`" in view["selectedColumns"]
    assert all(f"params.`{group}`" in view["selectedColumns"] for group in names.GROUPS)
    assert "/#/experiments/7/runs?workflowType=machine_learning" in runs_page("http://h", "7")


def test_a_locked_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "_BUSY_SECONDS", 0.2)
    holder = sqlite3.connect(tmp_path / "mlflow.db")
    holder.execute("CREATE TABLE t (x)")
    holder.commit()
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TrackingError, match=r"mlflow\.db.*locked"):
        Recorder(conf(tmp_path))
    holder.close()


def test_a_store_of_an_older_mlflow(tmp_path: Path) -> None:
    """It is left as it is, and how to bring it up to date is told."""
    recorder = Recorder(store(tmp_path))
    database = Path(recorder.tracking.uri.removeprefix("sqlite:///"))
    older = tmp_path / "older.db"
    with closing(sqlite3.connect(database)) as now, closing(sqlite3.connect(older)) as then:
        now.backup(then)
        then.execute("UPDATE alembic_version SET version_num = 'bd07f7e963c5'")
        then.commit()
    before = older.read_bytes()
    with pytest.raises(TrackingError, match=r"older MLflow.*mlflow db upgrade sqlite:///.*older\.db"):
        Recorder(conf(tmp_path, uri=f"sqlite:///{older}"))
    assert older.read_bytes() == before


def test_an_experiment_of_an_older_kind(tmp_path: Path) -> None:
    """One without our tags, or with an earlier view, is kept with its runs and gets what it lacks."""
    recorder = Recorder(store(tmp_path))
    run_id = record(recorder, [row("a", 0.5)])
    recorder.client.delete_experiment_tag(recorder.experiment, KIND_TAG)
    recorder.client.set_experiment_tag(
        recorder.experiment, VIEW_TAG, '{"selectedColumns": ["params.`layer`"]}'
    )
    again = Recorder(recorder.tracking)
    tags = again.client.get_experiment(again.experiment).tags
    assert again.experiment == recorder.experiment
    assert tags[KIND_TAG] == TRAINING
    assert tags[VIEW_TAG] == saved_view(("layer",))
    assert again.client.get_run(run_id).data.metrics[names.AUC_MEAN] == 0.5


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to look at" * 20)
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        Recorder(conf(tmp_path))


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(client_module, "_TRIES", 1)
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        Recorder(conf(tmp_path, uri="http://127.0.0.1:9"))


def test_a_server_is_given_up_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow tries seven times with doubling waits, by itself; that must not happen six times over."""
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    tried: list[int] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)

    def hang_up() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                connection, _ = server.accept()
                tried.append(1)
                connection.close()

    done = threading.Event()
    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        with pytest.raises(TrackingError, match="127"):
            Recorder(conf(tmp_path, uri=f"http://127.0.0.1:{server.getsockname()[1]}"))
    finally:
        done.set()
        thread.join()
        server.close()
    assert len(tried) == 4


def test_an_experiment_that_another_process_makes_in_this_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Recorder(store(tmp_path))
    look = MlflowClient.get_experiment_by_name
    looks: list[str] = []

    def not_at_first(self: MlflowClient, name: str) -> object:
        looks.append(name)
        return look(self, name) if len(looks) > 1 else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", not_at_first)
    assert Recorder(store(tmp_path)).experiment == there.experiment


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///x.db?timeout=5", "http://x"])
def test_what_is_no_plain_sqlite_file(uri: str) -> None:
    assert sqlite_module.sqlite_path(uri) is None


def test_a_busy_store_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module.time, "sleep", lambda _seconds: None)
    calls: list[int] = []

    def busy_twice() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise sqlite3.OperationalError("database is locked")
        return "done"

    assert client_module.retrying(busy_twice, "sqlite:///x") == "done"
    with pytest.raises(TrackingError, match="no such column"):
        client_module.retrying(lambda: (_ for _ in ()).throw(sqlite3.OperationalError("no such column")), "u")


def test_a_deleted_experiment_is_told(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    recorder.client.delete_experiment(recorder.experiment)
    with pytest.raises(TrackingError, match="restore"):
        Recorder(store(tmp_path))


def test_a_new_database_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_module.shutil, "copyfile", killed)
        with pytest.raises(Killed):
            Recorder(conf(tmp_path))
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db.new-1").write_text("half")
    Recorder(conf(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} <= {
        "mlflow.db",
        "mlflow.db-shm",
        "mlflow.db-wal",
        "mlflow.db.lock",
        "artifacts",
    }


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
        configuration_run([row(category, 0.5)], fingerprint=category) for category in ("a", "b", "(", "c")
    ]
    found: list[tuple[int, str]] = []
    with pytest.raises(TrackingError, match="Invalid value"):
        found.extend(recorder.record(runs))
    assert [position for position, _ in found] == [0, 1]
    there = {run.info.run_id for run in recorder.client.search_runs([recorder.experiment])}
    assert {run_id for _, run_id in found} == there


def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    thread = threading.Timer(0.5, lambda: holder.execute("ROLLBACK"))
    thread.start()
    record(recorder, [row("a", 0.5)])
    assert time.monotonic() - begun > 0.4
    thread.join()
    holder.close()


def test_a_run_shows_its_data(tmp_path: Path) -> None:
    """One data set for the runs of a sweep, told apart from the same one in another state."""
    recorder = Recorder(store(tmp_path))
    state = {"dataset": "screws", "root": "data/screws"}
    run_ids = [
        record(recorder, [row("a", 0.5, data=digest, **state)], fingerprint=f"f{number}")
        for number, digest in enumerate(("1", "1", "2"))
    ]
    (first, second, third) = (
        recorder.client.get_run(run_id).inputs.dataset_inputs[0].dataset for run_id in run_ids
    )
    assert (first.name, first.source) == ("screws", '{"uri": "data/screws"}')
    assert first.digest == second.digest != third.digest
