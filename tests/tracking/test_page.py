"""A sweep's own page: what its parent run shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.content import numbers_of, used_data
from anomaly_sweep.tracking.page import Launch, SweepPage, varying
from anomaly_sweep.tracking.view import KIND_TAG, TRAINING, VIEW_TAG, saved_view, shown_of
from anomaly_sweep.tracking.writer import Recorder
from tests.support.tracking import record, row, store

LAUNCH = Launch("grid", "anomaly-sweep -m experiment=grid", 10.0, 20)


def rows_of(run_id: str, auc: float | None, level: int, **changes: str) -> list[dict[str, object]]:
    labels = {"backbone": "b", "layer": f"level{level}", "pca_mode": "none", "estimator": "knn5", **changes}
    about = {"dataset": "d", "root": "data", "data": "1", "weights": "w", "input_size": 64, "run_id": run_id}
    return [row("screw", auc, **labels, **about), row("tile", auc, **labels, **about)]


def test_what_a_page_shows() -> None:
    rows = rows_of("r1", 0.6, 1) + rows_of("r2", 0.8, 2) + rows_of("r3", None, 2, estimator="mvg")
    page = SweepPage("s", rows, LAUNCH)
    assert page.params["layer"] == "level1, level2"
    assert page.params["categories"] == "screw, tile"
    assert page.metrics == pytest.approx(
        {
            names.CONFIGURATIONS: 3,
            names.TRIALS: 6,
            names.FAILED_TRIALS: 2,
            names.BEST_AUC: 0.8,
            names.MEDIAN_AUC: 0.7,
            names.SECONDS: 10.0,
            names.TRIALS_PER_SECOND: 2.0,
        }
    )
    assert page.curves == [("auc_by_level/b/knn5", 1, 0.6), ("auc_by_level/b/knn5", 2, 0.8)]
    note = page.note("7")
    assert "[0.8000](#/experiments/7/runs/r2)" in note
    assert LAUNCH.command in note
    assert used_data(page.rows) == [("d", "data", {"screw": "1", "tile": "1"})]


def test_what_the_backbone_settles_is_no_column() -> None:
    one, two = rows_of("r1", 0.6, 1), rows_of("r2", 0.8, 2, backbone="c")
    settled = SweepPage("s", one + [row | {"weights": "v"} for row in two], LAUNCH).note("7")
    assert "| AUROC | backbone | layer |" in settled
    both = SweepPage("s", one + [row | {"weights": "v"} for row in rows_of("r2", 0.8, 2)], LAUNCH)
    assert "| AUROC | weights | layer |" in both.note("7")


def test_the_view_has_the_choices_beside_the_auroc() -> None:
    view = json.loads(saved_view(("backbone", "layer")))
    order = view["columnOrder"]
    assert order[1:4] == ["metrics.`auc/mean`", "params.`backbone`", "params.`layer`"]
    assert set(view["columnWidths"]) == set(order) == {"attributes.`Run Name`", *view["selectedColumns"]}


def test_a_launch_that_computed_nothing_leaves_the_earlier_figures() -> None:
    page = SweepPage("s", rows_of("r1", 0.6, 1), Launch("grid", "", 1.0, 0))
    assert not {names.SECONDS, names.TRIALS_PER_SECOND} & set(page.metrics)


def test_a_curve_over_rates() -> None:
    rows = rows_of("r1", 0.6, 1, pca_mode="npca10") + rows_of("r2", 0.8, 1, pca_mode="npca50")
    assert SweepPage("s", rows, LAUNCH).curves == [
        ("auc_by_rate/b/npca", 10, 0.6),
        ("auc_by_rate/b/npca", 50, 0.8),
    ]


def test_choices_as_numbers() -> None:
    assert numbers_of({"layer": "level3", "pca_mode": "npca29.5", "estimator": "knn10"}) == {
        "level": 3,
        "rate": 29.5,
        "k": 10,
    }
    assert numbers_of({"layer": "all", "pca_mode": "none", "estimator": "knn1[n_neighbors=3]"}) == {
        "rate": 100
    }


def test_what_varies() -> None:
    assert varying([{"input_size": "64"}, {"input_size": "64"}], ["input_size"]) == []
    assert varying([{"input_size": "64"}, {"input_size": "96"}], ["input_size"]) == ["input_size"]
    assert varying([{"input_size": "64, 96"}], ["input_size"]) == ["input_size"]


def test_the_page_is_on_the_parent_run(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    parent = recorder.start_sweep("s", "id", "", resume=True)
    rows = rows_of("r1", 0.6, 1) + rows_of("r2", 0.8, 2)
    for _ in range(2):  # launched again
        recorder.log_page(parent, SweepPage("s", rows, LAUNCH))
    client = MlflowClient(recorder.tracking.uri)
    run = client.get_run(parent)
    assert run.data.params["experiment"] == "grid"
    assert "torch" in run.data.params
    assert run.data.metrics[names.BEST_AUC] == 0.8
    assert [used.dataset.name for used in run.inputs.dataset_inputs] == ["d"]
    history = client.get_metric_history(parent, "auc_by_level/b/knn5")
    assert [(point.step, point.value) for point in history] == [(1, 0.6), (2, 0.8)]
    tags = client.get_experiment(recorder.experiment).tags
    assert tags[KIND_TAG] == TRAINING
    assert shown_of(tags[VIEW_TAG]) == ("layer",)  # what is the same everywhere is left out
    other = recorder.start_sweep("t", "id2", "", resume=True)
    larger = [{**one, "input_size": 96} for one in rows]
    recorder.log_page(other, SweepPage("t", larger, LAUNCH))
    recorder = Recorder(recorder.tracking)  # opened again, the view is kept
    assert "params.`input_size`" in client.get_experiment(recorder.experiment).tags[VIEW_TAG]


def test_a_run_lasts_as_long_as_its_trials_took(tmp_path: Path) -> None:
    recorder = Recorder(store(tmp_path))
    run_id = record(recorder, [row("a", 0.5, fit_seconds=1.5, score_seconds=0.25)])
    info = recorder.client.get_run(run_id).info
    assert info.end_time - info.start_time == 1750
