"""Sweeps and searches from the command line, on a very small data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.support.multirun import arguments, command, runs

GRID = ("layer=level2,level4", "estimator=mvg,knn1")


@pytest.fixture(scope="module")
def grid(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which four configurations have been swept by the grid launcher; its features are cached."""
    folder = tmp_path_factory.mktemp("grid")
    done = command("-m", *arguments(tiny_dataset), *GRID, "estimator=mvg,knn1,mvg", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_duplicates_run_once(grid: Path) -> None:
    found = [(run.data.params["layer"], run.data.params["estimator"]) for run in runs(grid)]
    assert len(found) == len(set(found)) == 4
    assert len(runs(grid, "sweep")) == 1


def search(folder: Path, dataset: Path, *more: str) -> tuple[int, str, dict[str, Any]]:
    base = ["-m", "hydra/sweeper=optuna", *arguments(dataset), f"hydra.sweep.dir={folder / 'sweep'}"]
    done = command(*base, *more, cwd=folder)
    path = folder / "sweep" / "optimization_results.yaml"
    return (
        done.returncode,
        done.stdout + done.stderr,
        yaml.safe_load(path.read_text()) if path.exists() else {},
    )


def test_search_resumes_and_records(grid: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    cache = f"runtime.cache_dir={grid / '.anomaly_sweep'}"
    space = ["layer=level2,level4", "estimator=mvg,knn1", "pca_mode.rate=interval(0.2,0.8)"]
    storage = "hydra.sweeper.storage=sqlite:///optuna.db"
    code, out, found = search(tmp_path, tiny_dataset, *space, storage, cache, "hydra.sweeper.n_trials=6")
    assert code == 0, out
    assert len(runs(tmp_path)) == 6
    assert found["best_value"] == max(r.data.metrics["auc/mean"] for r in runs(tmp_path))
    code, out, found = search(tmp_path, tiny_dataset, *space, storage, cache, "hydra.sweeper.n_trials=10")
    assert code == 0, out
    assert len(runs(tmp_path)) == 10
    (parent,) = runs(tmp_path, "sweep")  # the same search, the same parent
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best/auc"] == found["best_value"]
    assert parent.data.tags["anomaly_sweep.best.layer"] == found["best_params"]["layer"]
    assert "10 of 10 trials" in parent.data.tags["mlflow.note.content"]
    artifacts = tmp_path / "mlartifacts" / parent.info.run_id / "artifacts"
    assert len(pd.read_csv(artifacts / "search_trials.csv")) == 10
    assert len(pd.read_parquet(artifacts / "trials.parquet")) == 20
    assert (artifacts / "search_importances.json").is_file()


def test_search_with_two_objectives_under_the_basic_launcher(
    grid: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    cache = f"runtime.cache_dir={grid / '.anomaly_sweep'}"
    two = [
        "hydra/launcher=basic",
        "runtime.objectives=[auc,score_seconds]",
        "hydra/sweeper/sampler=grid",
    ]
    code, out, found = search(tmp_path, tiny_dataset, cache, *GRID, *two)
    assert code == 0, out
    known = {(r.data.metrics["auc/mean"], r.data.metrics["score_seconds"]) for r in runs(tmp_path)}
    assert len(known) == 4
    solutions = {tuple(solution["values"]) for solution in found["solutions"]}
    front = {a for a in known if not any(b != a and b[0] >= a[0] and b[1] <= a[1] for b in known)}
    assert solutions == front


def test_search_with_failing_points(grid: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    cache = f"runtime.cache_dir={grid / '.anomaly_sweep'}"
    points = ["layer=level4", "estimator=knn1", "estimator.k=1,2,99", "hydra/sweeper/sampler=grid"]
    code, out, found = search(tmp_path, tiny_dataset, cache, *points)
    assert code == 1
    assert "Traceback" not in out
    assert "error: 1 of 3 configurations have failed trials" in out
    assert re.search(r"2 x linen, washer: estimator\.k=99 is above the number of training images, 6", out)
    assert found["best_params"]["estimator.k"] in ("1", "2")
    (parent,) = runs(tmp_path, "sweep")
    assert parent.info.status == "FAILED"
    statuses = sorted(r.info.status for r in runs(tmp_path))
    assert statuses == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("layer=level2,level99", "Could not find 'layer/level99'"),
        ("pca_mode.rate=interval(0,1)", "pca_mode.rate=0.0 is outside (0, 1]"),
        ("layer=level2", "nothing to search"),
        (
            "layer=level1,level2 runtime.objectives=[speed]",
            "allowed: auc, pixel_auroc, aupro, aupro_mvtec, score_seconds, fit_seconds",
        ),
        ("layer=level1,level2 runtime.plan_only=true", "runtime.plan_only"),
    ],
)
def test_wrong_searches_start_nothing(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_sweep.cli import sweep

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["anomaly-sweep", "-m", "hydra/sweeper=optuna", *line.split()])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit, match=r"^error: ") as caught:
        sweep.main()
    assert message in str(caught.value)
    assert not (tmp_path / "mlflow.db").exists()
