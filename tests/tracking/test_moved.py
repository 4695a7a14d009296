"""A store whose folder was renamed, moved or copied, or that lost its artifacts."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.errors import MissingArtifactError, TrackingError
from anomaly_sweep.tracking import moved, names
from anomaly_sweep.tracking.moved import relocation
from anomaly_sweep.tracking.writer import Recorder
from multirun_analysis.trials.read import collect
from tests.support.tracking import record, row, store


def filled(folder: Path) -> tuple[Recorder, str, str]:
    """A store with artifacts beside it, its sweep and one run."""
    recorder = Recorder(TrackingConf(uri=store(folder).uri))
    parent = recorder.start_sweep("s", "id", "", resume=True)
    return recorder, parent, record(recorder, [row("a", 0.5, sweep="s", dataset="d")], parent=parent)


def uris(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as db:
        runs = db.execute("SELECT artifact_uri FROM runs").fetchall()
        places = db.execute("SELECT artifact_location FROM experiments WHERE name = 'anomaly_sweep'")
        return [row[0] for row in [*runs, *places.fetchall()]]


def opened(folder: Path) -> Recorder:
    return Recorder(TrackingConf(uri=f"sqlite:///{folder}/mlflow.db"))


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of an earlier version"])
def test_a_moved_folder_is_followed(noted: bool, tmp_path: Path) -> None:
    recorder, parent, _ = filled(tmp_path / "a b")
    if not noted:
        with closing(sqlite3.connect(tmp_path / "a b" / "mlflow.db")) as db, db:
            db.execute("DELETE FROM experiment_tags WHERE key = ?", (names.TAG_STORE,))
    (tmp_path / "a b").rename(tmp_path / "now")
    trials = collect(f"sqlite:///{tmp_path}/now/mlflow.db").trials  # reads only, before anything is written
    assert trials["image_auroc"].tolist() == [0.5]
    assert trials["n_train"].tolist() == [3]
    again = opened(tmp_path / "now")
    assert all(uri.startswith((tmp_path / "now" / "mlartifacts").as_uri()) for uri in uris(tmp_path / "now"))
    assert [r["category"] for r in again.rows_of(parent)] == ["a"]
    record(again, [row("a", 0.5)], parent=parent, fingerprint="f2")
    assert not (tmp_path / "a b").exists()
    assert recorder.tracking.uri != again.tracking.uri


def test_a_copy_is_a_store_of_its_own(tmp_path: Path) -> None:
    _, parent, _ = filled(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    before, there = uris(tmp_path / "a"), sorted((tmp_path / "a").rglob("*"))
    record(opened(tmp_path / "b"), [row("a", 0.5)], parent=parent, fingerprint="f2")
    assert sorted((tmp_path / "a").rglob("*")) == there
    assert uris(tmp_path / "a") == before
    opened(tmp_path / "a")
    assert uris(tmp_path / "a") == before


def test_artifacts_elsewhere_stay_there(tmp_path: Path) -> None:
    conf = store(tmp_path / "a", artifacts=str(tmp_path / "elsewhere"))
    Recorder(conf)
    before = uris(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    opened(tmp_path / "b")
    assert uris(tmp_path / "b") == before


def test_a_link_to_the_folder_is_no_move(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    before = uris(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    opened(tmp_path / "link")
    assert uris(tmp_path / "a") == before


def test_where_artifacts_are_now(tmp_path: Path) -> None:
    here = tmp_path / "now" / "m.db"
    then = str(tmp_path / "then" / "m.db")
    location = (tmp_path / "then" / "mlartifacts").as_uri()
    assert relocation("s3://bucket", then, here) is None
    assert relocation("mlflow-artifacts:/1", None, here) is None
    assert relocation(location, str(here), here) is None
    # neither is there: what is written from now on belongs beside the database
    assert relocation(location, then, here) == (tmp_path / "now" / "mlartifacts").as_uri()
    assert relocation(location, None, here) is None
    (tmp_path / "then" / "mlartifacts").mkdir(parents=True)  # only the database was moved
    assert relocation(location, then, here) is None


def test_a_moved_store_of_another_layout_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    monkeypatch.setattr(moved, "PLACES", {"runs": {"artifact_place"}})
    with pytest.raises(TrackingError, match=r"moved.*a/mlartifacts.*tracking\.experiment"):
        opened(tmp_path / "b")


def test_a_run_that_lost_its_artifacts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder, parent, run_id = filled(tmp_path)
    whole = record(recorder, [row("b", 0.5)], parent=parent, fingerprint="f2")
    assert recorder.is_whole(run_id)
    shutil.rmtree(tmp_path / "mlartifacts" / run_id)
    assert not recorder.is_whole(run_id)
    assert recorder.is_whole(whole)
    with pytest.raises(MissingArtifactError, match=run_id):
        recorder.read_rows(run_id)
    assert [r["category"] for r in recorder.rows_of(parent)] == ["b"]
    assert "1 runs have lost their artifacts" in caplog.text


def test_what_a_user_removed_is_recorded_anew(tmp_path: Path) -> None:
    recorder, parent, run_id = filled(tmp_path)
    recorder.client.delete_run(run_id)
    assert recorder.recorded(parent) == {}
    recorder.client.delete_run(parent)
    assert recorder.start_sweep("s", "id", "", resume=True) != parent
    recorder.client.delete_experiment(recorder.experiment)
    with pytest.raises(TrackingError, match=r"is deleted; restore it"):
        opened(tmp_path)


def test_a_sweep_launched_again_is_the_latest_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(store(tmp_path))
    first = recorder.start_sweep("one", "id1", "", resume=True, jobs="j")
    second = recorder.start_sweep("two", "id2", "", resume=True, jobs="j")
    monkeypatch.setattr("anomaly_sweep.tracking.writer.timestamp", lambda: 1000)  # the clock went back
    assert recorder.start_sweep("three", "id1", "", resume=True, jobs="j") == first

    def launched(run_id: str) -> int:
        return int(MlflowClient(recorder.tracking.uri).get_run(run_id).data.tags[names.TAG_LAUNCHED])

    assert launched(first) > launched(second) > 1000


def test_sweeps_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    first = recorder.start_sweep("s", "id1", "", resume=True)
    second = recorder.start_sweep("s", "id2", "", resume=True)
    assert recorder.sweep_name(first) == "s"
    assert recorder.sweep_name(second) == f"s-{second[:6]}"
    assert recorder.client.get_run(second).info.run_name == f"s-{second[:6]}"


def test_changed_data_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(store(tmp_path))
    state = {"root": {"detection": {"a": "1", "b": "1"}}}
    first = recorder.start_sweep("s", "id1", "", resume=True, jobs="j", state=state)
    kept = tmp_path / "artifacts" / first / "artifacts" / names.DATA_STATE
    assert json.loads(kept.read_text()) == state
    recorder.start_sweep("s", "id1", "", resume=False, jobs="j", state=state)
    assert "changed" not in caplog.text
    now = {"root": {"detection": {"a": "1", "b": "2", "c": "1"}}}
    recorder.start_sweep("s", "id2", "", resume=True, jobs="j", state=now)
    assert "the data has changed since sweep s" in caplog.text
    assert "(root/b, root/c)" in caplog.text
