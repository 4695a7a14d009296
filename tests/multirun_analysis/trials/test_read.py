"""Reading trials back from MLflow: whole, partial, damaged, repeated and empty stores."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlflow.artifacts
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from anomaly_sweep.tracking import names
from anomaly_sweep.tracking import reader as reader_module
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials import runs as store_module
from multirun_analysis.trials.long_table import load_trials
from multirun_analysis.trials.read import collect, read_trials
from tests.support.trials import CATEGORIES, Store, make_rows

SMALL = {"layer": ("level7",), "pca_mode": ("none", "npca50")}
KEYS = ["category", *names.GROUPS]


def aucs(frame: pd.DataFrame) -> dict[tuple[str, ...], float]:
    return {tuple(row[key] for key in KEYS): row["image_auroc"] for _, row in frame.iterrows()}


def wanted(rows: list[dict[str, object]]) -> dict[tuple[object, ...], object]:
    return {tuple(row[key] for key in KEYS): row["image_auroc"] for row in rows}


@pytest.mark.parametrize("long_table", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_every_trial_is_read_once_wherever_it_lies(store: Store, long_table: bool, finished: bool) -> None:
    rows = make_rows(SMALL)
    _, children = store.add_sweep(rows, long_table=long_table, finished=finished)
    reading = collect(store.uri)
    frame = reading.trials
    assert tuple(frame.columns) == names.TRIAL_COLUMNS
    assert aucs(frame) == wanted(rows)
    assert set(frame["run_id"]) == set(children)
    assert frame["input_size"].dtype == "Int64"
    assert frame["image_auroc"].dtype == "float64"
    assert ["has not ended" in note for note in reading.notes] == ([] if finished else [True])


def test_the_long_table_spares_reading_the_children(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(SMALL)
    store.add_sweep(rows, tables=False)
    monkeypatch.setattr(store_module, "_rows_of_metrics", lambda run: pytest.fail("a child was read"))
    assert len(read_trials(store.uri)) == len(rows)


def test_pages_are_read_to_the_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PAGE", 2)
    rows = make_rows(SMALL | {"estimator": ("mvg", "knn1", "flow")})
    store.add_sweep(rows, long_table=False)
    assert aucs(read_trials(store.uri)) == wanted(rows)


def test_other_runs_and_deleted_runs_are_ignored(store: Store) -> None:
    rows = make_rows(SMALL)
    _, children = store.add_sweep(rows)
    store.client.create_run(store.experiment)
    store.client.delete_run(children[0])
    reading = collect(store.uri)
    assert set(reading.trials["run_id"]) == set(children[1:])
    assert any("deleted" in note for note in reading.notes)


def test_a_single_run_needs_no_parent(store: Store) -> None:
    rows = make_rows(SMALL | {"pca_mode": ("none",), "estimator": ("mvg",)})
    store.add_configuration(rows)
    assert aucs(read_trials(store.uri)) == wanted(rows)
    assert aucs(collect(store.uri, latest=True).trials) == wanted(rows)


def test_a_run_without_table_is_read_from_params_and_metrics(store: Store) -> None:
    rows = make_rows(SMALL, failed=lambda row: row["category"] == "screw")
    _, children = store.add_sweep(rows, long_table=False)
    table = store.folder / "artifacts" / children[0] / "artifacts" / names.PER_CLASS_TABLE
    table.write_text("{not json", encoding="utf-8")
    (store.folder / "artifacts" / children[1] / "artifacts" / names.PER_CLASS_TABLE).unlink()
    reading = collect(store.uri)
    for child in children[:2]:
        trials = reading.trials[reading.trials["run_id"] == child]
        assert set(trials["category"]) == set(CATEGORIES) - {"screw"}  # a failed trial has no metric
        assert (trials["status"] == "ok").all()
        assert trials["fingerprint"].isna().all()
        assert trials["n_train"].isna().all()
        assert (trials["input_size"] == 456).all()
    assert any("2 of 4 runs have no readable per_class.json" in note for note in reading.notes)
    whole = {key: value for key, value in wanted(rows).items() if value is not None}
    assert {key: v for key, v in aucs(reading.trials).items() if not pd.isna(v)} == whole


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]", ""])
def test_a_table_of_another_shape_is_not_trusted(store: Store, text: str) -> None:
    rows = make_rows(SMALL | {"pca_mode": ("none",), "estimator": ("mvg",)})
    child = store.add_configuration(rows)
    (store.folder / "artifacts" / child / "artifacts" / names.PER_CLASS_TABLE).write_text(text)
    assert aucs(read_trials(store.uri)) == wanted(rows)


def test_a_damaged_long_table_falls_back_to_the_children(store: Store) -> None:
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    (store.folder / "artifacts" / str(parent) / "artifacts" / names.LONG_TABLE).write_bytes(b"PAR1 no")
    assert aucs(read_trials(store.uri)) == wanted(rows)


def test_of_a_trial_recorded_twice_the_later_stands(store: Store) -> None:
    first = make_rows(SMALL)
    second = make_rows(SMALL | {"pca_mode": ("npca50",)}, fingerprint=None, image_auroc=0.25)
    store.add_sweep(second, "second", start=50_000)
    store.add_sweep(first, "first", start=1_000)
    reading = collect(store.uri)
    assert aucs(reading.trials) == wanted(first) | wanted(second)
    assert any(note.startswith(f"{len(second)} trials are recorded more than once") for note in reading.notes)
    assert aucs(read_trials(store.uri, sweep="first")) == wanted(first)


def test_one_trial_keeps_its_value_when_a_repetition_fails(store: Store) -> None:
    choices = SMALL | {"pca_mode": ("none",), "estimator": ("mvg",)}
    rows = make_rows(choices)
    again = [row | {"image_auroc": None, "status": "failed", "reason": "killed"} for row in rows]
    store.add_configuration(rows, start=1_000)
    store.add_configuration(again, start=9_000)
    assert aucs(read_trials(store.uri)) == wanted(rows)
    changed = [row | {"fingerprint": f"new{row['category']}"} for row in again]
    store.add_configuration(changed, start=20_000)
    assert read_trials(store.uri)["image_auroc"].isna().all()  # another setting: not the same trial


def test_a_resumed_sweep_may_list_runs_of_the_first_launch(store: Store) -> None:
    rows = make_rows(SMALL)
    _, early = store.add_sweep(rows[:6], "s", start=1_000, finished=False, long_table=False)
    parent, late = store.add_sweep(rows[6:], "s", start=5_000, long_table=False, finished=False)
    whole = pd.DataFrame([row | {"run_id": (early + late)[i // 3]} for i, row in enumerate(rows)])
    path = store.folder / names.LONG_TABLE
    whole.to_parquet(path)
    store.client.log_artifact(str(parent), str(path))
    store.client.set_terminated(str(parent))
    reading = collect(store.uri)
    assert aucs(reading.trials) == wanted(rows)
    assert reading.notes == []


def test_the_latest_sweep_is_the_one_started_last(store: Store) -> None:
    store.add_sweep(make_rows(SMALL), "new", start=9_000, finished=False, long_table=False)
    store.add_sweep(make_rows(SMALL), "old's", start=1_000)
    reading = collect(store.uri, latest=True)
    assert set(reading.trials["sweep"]) == {"new"}
    assert any("'new', the latest of 2" in note for note in reading.notes)
    assert set(read_trials(store.uri, sweep="old's")["sweep"]) == {"old's"}


def test_the_latest_sweep_of_a_task(store: Store) -> None:
    """A paper's tables are of its own task, whatever was run after."""
    for name, task, start in (("grid", "detection", 1_000), ("maps", "localization[sigma=2]", 9_000)):
        parent, _ = store.add_sweep(make_rows(SMALL), name, start=start)
        store.client.log_param(str(parent), "task", task)
    latest = {
        task: set(collect(store.uri, latest=True, task=task).trials["sweep"])
        for task in ("detection", "localization", "another", None)
    }
    assert latest == {"detection": {"grid"}, "localization": {"maps"}, "another": {"maps"}, None: {"maps"}}


def test_single_runs_that_the_latest_sweep_leaves_out_are_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_sweep(make_rows(SMALL), "new", start=5_000)
    assert not [note for note in collect(store.uri, latest=True).notes if "single run" in note]
    alone = make_rows(SMALL)[: len(CATEGORIES)]
    store.add_configuration(alone, "2026-01-01", start=1_000)
    said = "1 single run left out: a sweep is read by itself (--sweep all reads single runs too)"
    assert said in collect(store.uri, latest=True).notes
    store.add_configuration(alone, "2026-01-02", start=9_000)
    later = said.replace("1 single run", "2 single runs, 1 of them later than it,")
    reading = collect(store.uri, latest=True)
    assert later in reading.notes
    assert set(reading.trials["sweep"]) == {"new"}
    # a server that does not know the filter is asked for all runs
    plain = MlflowClient.search_runs

    def old(self: MlflowClient, ids: list[str], filter_string: str = "", **options: Any) -> Any:
        if "NULL" in filter_string:
            raise MlflowException("invalid filter")
        return plain(self, ids, filter_string=filter_string, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", old)
    assert later in collect(store.uri, latest=True).notes
    assert not [note for note in collect(store.uri).notes if "single run" in note]


def test_experiments_are_kept_apart(store: Store) -> None:
    store.add_sweep(make_rows(SMALL), "here")
    other = Store(store.folder, "other")
    other.add_sweep(make_rows(SMALL, dataset="mine", fingerprint=None), "there")
    assert set(read_trials(store.uri)["dataset"]) == {"mvtec_ad", "mine"}
    assert set(read_trials(store.uri, experiment="other")["dataset"]) == {"mine"}


def test_unknown_names_are_refused_with_those_there(store: Store) -> None:
    store.add_sweep(make_rows(SMALL), "first")
    with pytest.raises(AnalysisError, match=r"no experiment named 'x'.*anomaly_sweep"):
        read_trials(store.uri, experiment="x")
    with pytest.raises(AnalysisError, match="no sweep named 'x'; it has: first"):
        read_trials(store.uri, sweep="x")


def test_an_empty_database_says_so(store: Store) -> None:
    with pytest.raises(AnalysisError, match="holds no recorded trial"):
        read_trials(store.uri)


def test_no_database_is_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with pytest.raises(AnalysisError, match=r"there is no file .*none\.db"):
        read_trials(f"sqlite:///{path}")
    assert list(tmp_path.iterdir()) == []
    path.write_text("something else")
    with pytest.raises(AnalysisError, match="not an SQLite database"):
        read_trials(f"sqlite:///{path}")


@pytest.mark.parametrize(
    "uri", ["mlflow.db", "file:///tmp/x", "sqlite://", "nonsense://host", "./mlruns", "http://127.0.0.1:9"]
)
def test_a_wrong_uri_is_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    with pytest.raises(AnalysisError):
        read_trials(uri)
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


def test_reading_changes_nothing(store: Store) -> None:
    store.add_sweep(make_rows(SMALL))
    database = Path(store.folder / "mlflow.db")
    before = MlflowClient(store.uri).search_runs([store.experiment])
    read_trials(store.uri)
    after = MlflowClient(store.uri).search_runs([store.experiment])
    assert [run.to_dictionary() for run in before] == [run.to_dictionary() for run in after]
    assert database.is_file()


def test_artifacts_that_are_not_local_are_downloaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(SMALL | {"pca_mode": ("none",), "estimator": ("mvg",)})
    child = store.add_configuration(rows, tables=False)
    asked = []

    def download(run_id: str, artifact_path: str, dst_path: str, tracking_uri: str) -> str:
        asked.append((run_id, artifact_path, tracking_uri))
        path = Path(dst_path) / artifact_path
        path.write_text(json.dumps(rows), encoding="utf-8")
        return str(path)

    monkeypatch.setattr(reader_module, "local_artifacts", lambda uri: None)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    assert aucs(read_trials(store.uri)) == wanted(rows)
    assert asked == [(child, names.PER_CLASS_TABLE, store.uri)]


def test_a_sweeps_own_parquet_can_be_loaded(store: Store) -> None:
    rows = make_rows(SMALL)
    store.add_sweep(rows)
    assert aucs(load_trials(store.folder / names.LONG_TABLE)) == wanted(rows)
