"""Running a sweep: results, records, resume, failures."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from anomaly_sweep.config import LayerConf, RuntimeConf, TrackingConf
from anomaly_sweep.datasets import FileIndex, read_category
from anomaly_sweep.errors import AnomalySweepError, ConfigError, DatasetError, TrackingError
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.features.pooled import features_of
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.planner import DATA_DIGITS
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.run import local as local_module
from anomaly_sweep.sweep.run.configurations import describe_configurations, run_configurations
from anomaly_sweep.tasks.base import ShardWork, TrialResult
from anomaly_sweep.tasks.detection.task import Detection
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.writer import Recorder
from multirun_analysis import read_trials
from tests.support.sweeps import FLOW, KNN1, MVG, configuration, grid, runtime, tracking

ALONE = Parent("alone")


def aucs(outcomes: list[Outcome]) -> list[list[float | None]]:
    return [[row["image_auroc"] for row in outcome.rows] for outcome in outcomes]


def runs_of(conf: TrackingConf) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(conf.uri)
    experiment = client.get_experiment_by_name(conf.experiment)
    return list(client.search_runs([experiment.experiment_id]))


def test_a_configuration_equals_scikit_learn_on_its_features(tiny_dataset: Path, tmp_path: Path) -> None:
    (outcome,) = run_configurations(
        [configuration(tiny_dataset)], tracking(tmp_path), runtime(tmp_path), ALONE
    )
    for row in outcome.rows:
        category = read_category(tiny_dataset, row["category"], dataset="tiny")
        chosen = outcome.configuration
        shard = Shard.of(category, chosen.backbone, 64, chosen.augmentation, FileIndex(tmp_path / "index"))
        features = features_of(shard, ["level2"], cache_at(str(tmp_path / "cache")))
        train, test = (f["level2"]["avg"].astype(np.float64) for f in (features.train, features.test))
        rank = len(train) - 1
        pca = PCA(n_components=rank).fit(train)
        kept = slice(rank - round(0.5 * rank), rank)
        model = LedoitWolf().fit(pca.transform(train)[:, kept])
        expected = roc_auc_score(category.test_labels, model.mahalanobis(pca.transform(test)[:, kept]))
        assert row["image_auroc"] == pytest.approx(expected, abs=1e-9)
        assert (row["n_train"], row["n_test"], row["n_features"]) == (6, 10, round(0.5 * rank))


def test_a_run_says_everything_about_its_configuration(tiny_dataset: Path, tmp_path: Path) -> None:
    conf = tracking(tmp_path)
    (outcome,) = run_configurations([configuration(tiny_dataset)], conf, runtime(tmp_path), ALONE)
    (run,) = runs_of(conf)
    assert run.info.run_id == outcome.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "backbone": "resnet18",
        "layer": "level2",
        "pooling": "avg",
        "augmentation": "none",
        "pca_mode": "npca50",
        "estimator": "mvg",
        "task": "detection",
        "dataset": "tiny",
        "root": str(tiny_dataset),
        "data": fingerprint({row["category"]: row["data"] for row in outcome.rows})[:DATA_DIGITS],
        "weights": "random:seed0",
        "input_size": "64",
        "level": "2",
        "rate": "50",
    }
    rows = {row["category"]: row["image_auroc"] for row in outcome.rows}
    assert run.data.metrics["auc/washer"] == rows["washer"]
    assert run.data.metrics["auc/linen"] == rows["linen"]
    assert run.data.metrics["auc/mean"] == pytest.approx(np.mean(list(rows.values())))
    assert run.data.metrics["failed_trials"] == 0
    first = next(row for row in outcome.rows if row["category"] == "washer")
    for column, prefix in (("image_ap", "ap"), ("image_f1max", "f1max"), ("image_fpr95", "fpr95")):
        assert run.data.metrics[f"{prefix}/washer"] == first[column]
        assert run.data.metrics[f"{prefix}/mean"] == pytest.approx(
            np.mean([row[column] for row in outcome.rows])
        )
    tags = run.data.tags
    assert "random weights" in tags[names.TAG_WARNING]
    assert "random weights" in tags[names.TAG_NOTE]
    shown = ("image_auroc", "image_ap", "image_f1max", "image_fpr95")
    figures = " | ".join(f"{first[column]:.4f}" for column in shown)
    assert f"| washer | {figures} | 6 | 10 |" in tags[names.TAG_NOTE]
    assert "torch==" in tags[names.TAG_VERSIONS]
    assert tags[names.TAG_FINGERPRINT]
    table = json.loads(
        (tmp_path / "artifacts" / run.info.run_id / "artifacts" / names.PER_CLASS_TABLE).read_text()
    )
    assert [set(row) for row in table] == [set(names.TRIAL_COLUMNS)] * 2
    assert {row["category"]: row["image_auroc"] for row in table} == rows


def test_the_database_is_in_wal_mode(tiny_dataset: Path, tmp_path: Path) -> None:
    run_configurations([configuration(tiny_dataset)], tracking(tmp_path), runtime(tmp_path), ALONE)
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_order_and_company_change_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = grid(tiny_dataset, ["level1", "level2"], [0.4, 1.0], [MVG, KNN1, FLOW])
    together = run_configurations(chosen, tracking(tmp_path), runtime(tmp_path), ALONE)
    reversed_ = run_configurations(
        chosen[::-1], tracking(tmp_path), runtime(tmp_path, resume=False, batch_size=1), ALONE
    )
    np.testing.assert_allclose(
        np.array(aucs(together), float), np.array(aucs(reversed_[::-1]), float), atol=5e-3
    )
    closed = [i for i, c in enumerate(chosen) if c.estimator["name"] != "flow"]
    for i in closed:
        (alone,) = run_configurations([chosen[i]], tracking(tmp_path), runtime(tmp_path, resume=False), ALONE)
        assert aucs([alone]) == [aucs(together)[i]]


def test_two_processes_give_what_one_gives(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "_SMALL", 0)
    chosen = grid(tiny_dataset, ["level1", "level2"], [0.5], [MVG, KNN1])
    one = run_configurations(chosen, tracking(tmp_path), runtime(tmp_path / "a"), ALONE)
    two = run_configurations(chosen, tracking(tmp_path), runtime(tmp_path / "b", workers=2), ALONE)
    assert aucs(one) == aucs(two)


def test_resume_computes_only_what_is_missing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tracking(tmp_path)
    parent = Parent("sweep", Recorder(conf).start_sweep("sweep", "identity", "", resume=True))
    chosen = grid(tiny_dataset, ["level1"], [0.5], [MVG, KNN1])
    first = run_configurations(chosen, conf, runtime(tmp_path), parent)
    computed: list[int] = []
    real = Detection.run
    monkeypatch.setattr(
        Detection,
        "run",
        lambda self, work, *args, **kw: computed.append(len(work.trials)) or real(self, work, *args, **kw),
    )
    again = run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == []
    assert aucs(again) == aucs(first)
    assert [o.run_id for o in again] == [o.run_id for o in first]
    assert len(runs_of(conf)) == 1 + len(chosen)
    more = grid(tiny_dataset, ["level1"], [0.5, 0.3], [MVG])
    run_configurations(more, conf, runtime(tmp_path), parent)
    assert computed == [1, 1]  # the new rate on each of the two categories
    run_configurations(chosen, conf, runtime(tmp_path, resume=False), parent)
    assert computed == [1, 1, 2, 2]


def test_changed_images_are_new_work(tiny_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for category in ("washer", "linen"):
        shutil.copytree(tiny_dataset / category, root / category)
    (before,) = run_configurations([configuration(root)], tracking(tmp_path), runtime(tmp_path), ALONE)
    trained = sorted((root / "washer/train/good").iterdir())
    shutil.copy(trained[0], trained[1])
    (after,) = run_configurations([configuration(root)], tracking(tmp_path), runtime(tmp_path), ALONE)
    same = {row["category"]: row["fingerprint"] for row in before.rows}
    changed = {row["category"]: row["fingerprint"] for row in after.rows}
    assert same["linen"] == changed["linen"]
    assert same["washer"] != changed["washer"]


def test_a_corrupt_image_is_a_hole_with_a_reason_and_resume_fills_it(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    for category in ("washer", "linen"):
        shutil.copytree(tiny_dataset / category, root / category)
    broken = sorted((root / "washer/test/good").iterdir())[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    conf = tracking(tmp_path)
    parent = Parent("sweep", Recorder(conf).start_sweep("sweep", "identity", "", resume=True))
    (outcome,) = run_configurations([configuration(root)], conf, runtime(tmp_path), parent)
    assert outcome.mean_auc is None
    (failure,) = outcome.failures
    assert failure.startswith("washer: ")
    assert str(broken) in failure
    (child,) = [run for run in runs_of(conf) if run.data.tags[names.TAG_KIND] == names.KIND_CONFIGURATION]
    assert child.info.status == "FAILED"
    assert "auc/mean" not in child.data.metrics
    assert "auc/linen" in child.data.metrics
    assert child.data.metrics["failed_trials"] == 1
    broken.write_bytes(whole)
    (repaired,) = run_configurations([configuration(root)], conf, runtime(tmp_path), parent)
    assert repaired.mean_auc is not None
    children = [run for run in runs_of(conf) if run.data.tags[names.TAG_KIND] == names.KIND_CONFIGURATION]
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]  # other images, other trial


def test_too_many_neighbours_fail_alone(tiny_dataset: Path, tmp_path: Path) -> None:
    far = {**KNN1, "name": "knn7", "k": 7}
    good, bad = run_configurations(
        grid(tiny_dataset, ["level1"], [0.5], [KNN1, far]), tracking(tmp_path), runtime(tmp_path), ALONE
    )
    assert good.mean_auc is not None
    assert all("estimator.k=7" in reason and "6" in reason for reason in bad.failures)
    assert len(bad.failures) == 2


def test_stop_at_the_first_failure(tiny_dataset: Path, tmp_path: Path) -> None:
    far = {**KNN1, "name": "knn7", "k": 7}
    outcomes = run_configurations(
        grid(tiny_dataset, ["level1"], [0.5], [far, KNN1]),
        tracking(tmp_path),
        runtime(tmp_path, on_error="stop"),
        ALONE,
    )
    reasons = [reason for outcome in outcomes for reason in outcome.failures]
    assert sum("not run" in reason for reason in reasons) == 2  # both configurations on the second category


def test_a_cell_of_a_notebook_that_is_run_again_records_nothing_twice(
    tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf, work = tracking(tmp_path), runtime(tmp_path)
    chosen = grid(tiny_dataset, ["level1"], [0.5], [KNN1, MVG])
    first = run_configurations(chosen[:1], conf, work)
    again = run_configurations(chosen, conf, work)
    assert again[0] == dataclasses.replace(first[0], computed=frozenset())
    assert len(runs_of(conf)) == 2
    trials = read_trials(conf.uri)
    assert set(trials["run_id"]) == {outcome.run_id for outcome in again}
    assert not any(record.levelname == "WARNING" for record in caplog.records)
    run_configurations(chosen, conf, work, ALONE)  # another name has runs of its own
    run_configurations(chosen[:1], conf, runtime(tmp_path, resume=False))
    assert len(runs_of(conf)) == 5


def test_a_failed_run_by_itself_is_replaced(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, work = tracking(tmp_path), runtime(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Detection, "run", _failing)
        (failed,) = run_configurations([configuration(tiny_dataset)], conf, work)
    assert failed.mean_auc is None
    (whole,) = run_configurations([configuration(tiny_dataset)], conf, work)
    assert whole.mean_auc is not None
    assert whole.run_id != failed.run_id
    assert [run.info.run_id for run in runs_of(conf)] == [whole.run_id]


def _failing(_: Detection, work: ShardWork, *_args: object, **_settings: object) -> list[TrialResult]:
    return [TrialResult.failed(trial_id, "broken") for trial_id in work.trials]


def test_what_is_wrong_everywhere_is_told_before_work(tiny_dataset: Path, tmp_path: Path) -> None:
    where = tracking(tmp_path), runtime(tmp_path), ALONE
    with pytest.raises(DatasetError, match="nowhere"):
        run_configurations([configuration(tmp_path / "nowhere")], *where)
    with pytest.raises(ConfigError, match=r"estimator\.shrink.*shrinkage"):
        run_configurations([configuration(tiny_dataset, estimator={**MVG, "shrink": "oas"})], *where)
    unreachable = configuration(tiny_dataset)
    unreachable.backbone.weights = str(tmp_path / "none.safetensors")
    with pytest.raises(AnomalySweepError, match=r"none\.safetensors"):
        run_configurations([unreachable], *where)
    deep = LayerConf(name="level7", levels=["level7"])
    with pytest.raises(ConfigError, match="level1, level2, level3, level4, level5"):
        run_configurations([configuration(tiny_dataset, layer=deep)], *where)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_written_is_told_before_work(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        run_configurations([configuration(tiny_dataset)], tracking(tmp_path), runtime(tmp_path), ALONE)
    assert not list((tmp_path / "cache").glob("features/*/*"))


def test_a_worker_that_dies_fails_its_trials_only(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_estimator.py").write_text(
        "import os\n"
        "class Deadly:\n"
        "    def fit(self, X):\n"
        "        os._exit(9) if len(X[0]) == 2 else None\n"
        "        return self\n"
        "    def score_samples(self, X):\n"
        "        return X[:, 0]\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(local_module, "_SMALL", 0)
    deadly = {"name": "deadly", "_target_": "deadly_estimator.Deadly"}
    outcomes = run_configurations(
        grid(tiny_dataset, ["level1"], [0.5], [deadly]),
        tracking(tmp_path),
        runtime(tmp_path, workers=2),
        ALONE,
    )
    assert len(outcomes[0].failures) == 2
    assert all("lost twice: the worker process died" in reason for reason in outcomes[0].failures)


def test_the_plan_in_words(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = grid(tiny_dataset, ["level1", "level2"], [0.5], [MVG, FLOW])
    text = describe_configurations(chosen, runtime(tmp_path))
    assert "configurations      4" in text
    assert "to compute        8: 4 closed form, 4 flows" in text
    assert "2 to make (32 images" in text
    run_configurations(chosen, tracking(tmp_path), runtime(tmp_path), ALONE)
    assert "known             8" in describe_configurations(chosen, runtime(tmp_path))


def _workers_in_a_pool(runtime_conf: RuntimeConf) -> int:
    return local_module.worker_count(runtime_conf)


def test_a_launchers_worker_starts_no_processes_of_its_own() -> None:
    from joblib import Parallel, delayed

    conf = RuntimeConf(device="cpu", workers=2)
    assert local_module.worker_count(conf) == 2
    assert Parallel(n_jobs=2, backend="loky")(delayed(_workers_in_a_pool)(conf) for _ in range(2)) == [1, 1]
