"""The scores of every test image: kept with the results, recorded on a run, and what the AUROC is of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow.artifacts import download_artifacts
from omegaconf import OmegaConf
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.datasets import read_category
from anomaly_sweep.launch import session
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.record.results import RESULTS
from anomaly_sweep.sweep.run.configurations import run_configurations
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.scores import ImageScores, write_scores
from anomaly_sweep.tracking.writer import Recorder
from multirun_analysis.cli import main
from tests.support.localizers import localization, localizer
from tests.support.sweeps import FLOW, KNN1, MVG, configuration, runtime, tracking


def finish(folder: Path, parent: Parent) -> None:
    nodes = {
        "hydra": {
            "sweep": {"dir": str(folder)},
            "runtime": {"choices": {}},
            "overrides": {"task": []},
        },
        "tracking": OmegaConf.structured(tracking(folder)),
        "runtime": OmegaConf.structured(runtime(folder)),
    }
    session.finish(OmegaConf.create(nodes), parent, failed=False)


def recorded(conf: TrackingConf, run_id: str | None) -> dict[str, dict[str, Any]]:
    path = download_artifacts(run_id=run_id, artifact_path=names.SCORES_TABLE, tracking_uri=conf.uri)
    table = pq.read_table(path)
    assert tuple(table.column_names) == names.SCORE_COLUMNS
    return {row["fingerprint"]: row for row in table.to_pylist()}


def check(root: Path, outcomes: Sequence[Outcome], found: dict[str, dict[str, Any]]) -> None:
    """Every trial's scores have its AUROC, and the labels of the category's test images in their order."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    assert set(found) == {row["fingerprint"] for row in rows}
    for row in rows:
        own = found[row["fingerprint"]]
        assert own["category"] == row["category"]
        category = read_category(root, row["category"], dataset="tiny")
        labels = category.test_labels.tolist()
        assert own["labels"] == labels
        assert own["paths"] == [record.relative for record in category.test]
        assert own["defects"] == [record.defect for record in category.test]
        assert all((root / path).is_file() for path in own["paths"])
        assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, own["scores"]), abs=1e-12)
        assert row["image_ap"] == pytest.approx(average_precision_score(labels, own["scores"]), abs=1e-12)
        precision, recall, _ = precision_recall_curve(labels, own["scores"])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        assert row["image_f1max"] == pytest.approx(f1.max(), abs=1e-12)
        fpr, tpr, _ = roc_curve(labels, own["scores"], drop_intermediate=False)
        assert row["image_fpr95"] == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)
        assert (row["pixel_ap"] is None) == (row["pixel_f1max"] is None) == (row["task"] == "detection")


def test_a_sweep_has_them_on_its_parent_run_and_the_analysis_reads_them(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf, where = tracking(tmp_path), runtime(tmp_path)
    parent = Parent("sweep", Recorder(conf).start_sweep("sweep", "identity", "", resume=True))
    chosen = [
        *(configuration(tiny_dataset, estimator=one) for one in (MVG, KNN1, FLOW)),
        localization(tiny_dataset, localizer()),
    ]
    outcomes = run_configurations(chosen, conf, where, parent)
    finish(tmp_path, parent)
    check(tiny_dataset, outcomes, recorded(conf, parent.run_id))
    for row in outcomes[0].rows:  # nothing of it is where the numbers are
        assert set(row) == set(names.TRIAL_COLUMNS)
        json.dumps(row)
    command = ["scores", "--tracking-uri", conf.uri, "--where", "estimator=mvg", "--against"]
    assert main([*command, "localizer=distance"]) == 0
    assert main([*command, "estimator=knn1[~aggregation]"]) == 0
    text = capsys.readouterr().out
    for outcome in outcomes[:2]:
        for row in outcome.rows:
            assert f"{row['image_auroc']:.3f}" in text
    # Launched again, nothing is computed, and the results that are known still have theirs.
    again = Parent("again", Recorder(conf).start_sweep("again", "other", "", resume=True))
    run_configurations(chosen[:1], conf, where, again)
    finish(tmp_path, again)
    check(tiny_dataset, outcomes[:1], recorded(conf, again.run_id))


def test_a_run_on_its_own_has_them_itself(tiny_dataset: Path, tmp_path: Path) -> None:
    conf = tracking(tmp_path)
    outcomes = run_configurations([configuration(tiny_dataset)], conf, runtime(tmp_path), Parent("alone"))
    check(tiny_dataset, outcomes, recorded(conf, outcomes[0].run_id))


def test_a_result_store_that_is_broken_by_the_end_does_not_keep_a_sweep_open(
    tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf, where = tracking(tmp_path), runtime(tmp_path)
    recorder = Recorder(conf)
    parent = Parent("sweep", recorder.start_sweep("sweep", "identity", "", resume=True))
    run_configurations([configuration(tiny_dataset)], conf, where, parent)
    for path in (tmp_path / "cache").glob(f"{RESULTS}*"):
        path.unlink()
    (tmp_path / "cache" / RESULTS).write_text("no database" * 100)
    finish(tmp_path, parent)
    assert "scores are not recorded" in caplog.text
    assert recorder.client.get_run(str(parent.run_id)).info.status == "FINISHED"


def test_the_file_gives_back_every_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kept = [
        ImageScores(
            f"{i}", "c", rng.normal(size=n).tobytes(), rng.integers(0, 2, n).astype(np.int8).tobytes()
        )
        for i, n in enumerate((1, 5, 3))
    ]
    write_scores(tmp_path / "scores.parquet", kept)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    for row, one in zip(rows, kept, strict=True):
        assert (row["fingerprint"], row["category"]) == one[:2]
        assert np.array(row["scores"]).tobytes() == one.scores
        assert np.array(row["labels"], dtype=np.int8).tobytes() == one.labels


def test_the_file_has_the_names_of_those_that_are_known(tmp_path: Path) -> None:
    """Lists of one category are shared, some results have none, and a name may be any text."""
    first = (("c/test/good/0.png", "good"), ("c/test/Kratzer, tief/ü\n.png", "Kratzer, tief"))
    second = (("d/test/good/0.png", "good"),)
    zeros, labels = bytes(16), b"\0\1"
    kept = [
        ImageScores("0", "c", zeros, labels, first),
        ImageScores("1", "c", zeros, labels),
        ImageScores("2", "c", zeros, labels, tuple(first)),
        ImageScores("3", "d", zeros[:8], labels[:1], second),
    ]
    write_scores(tmp_path / "scores.parquet", kept)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    for row, one in zip(rows, kept, strict=True):
        known = one.images or [(None, None)] * len(one.labels)
        assert list(zip(row["paths"], row["defects"], strict=True)) == list(known)
    write_scores(tmp_path / "none.parquet", kept[1:2])
    (row,) = pq.read_table(tmp_path / "none.parquet").to_pylist()
    assert row["paths"] == [None, None]


def test_names_cost_little_room(tmp_path: Path) -> None:
    """They are written once for each category, not for each of its trials."""
    rng = np.random.default_rng(0)
    images = tuple((f"category/test/a_defect_type/{i:03}.png", "a_defect_type") for i in range(100))
    trials = [
        ImageScores(f"{i:032}", "category", rng.normal(size=100).tobytes(), bytes(100), images)
        for i in range(200)
    ]
    write_scores(tmp_path / "with.parquet", trials)
    write_scores(tmp_path / "without.parquet", [trial._replace(images=None) for trial in trials])
    sizes = [(tmp_path / f"{name}.parquet").stat().st_size for name in ("with", "without")]
    once = sum(len(path) + len(defect) for path, defect in images)
    # What each trial adds is less than two bytes an image, of indices that repeat.
    assert sizes[0] - sizes[1] < once + 2 * 200 * 100
