"""kill -9 at random moments, then resume: nothing lost, nothing doubled, nothing different."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from anomaly_sweep.tracking import names

#: More of them for a longer look: ANOMALY_SWEEP_KILLS=20 pytest tests/sweep/test_sweep_kill.py -s
KILLS = int(os.environ.get("ANOMALY_SWEEP_KILLS", "2"))

SWEEP = [
    *("-m", "layer=level1,level2", "pca_mode=none,npca50,pca30", "estimator=mvg,knn1,flow"),
    *("backbone.weights=random", "dataset.categories=[washer,linen,gear,chip]", "dataset.input_size=64"),
    *("dataset.generate=null", "runtime.workers=2", "runtime.device=cpu"),
]
CONFIGURATIONS = 2 * 3 * 3


def command(root: Path) -> list[str]:

    return [sys.executable, "-m", "anomaly_sweep.cli.sweep", *SWEEP, f"dataset.root={root}"]


def table(folder: Path) -> dict[tuple[str, ...], float]:
    """(choices, category) -> AUROC of every configuration run; each must be there once."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("anomaly_sweep")
    found: dict[tuple[str, ...], float] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        if run.data.tags.get(names.TAG_KIND) == names.KIND_SWEEP:
            assert run.info.status == "FINISHED"
            continue
        assert run.info.status == "FINISHED", run.data.tags
        choices = tuple(run.data.params[group] for group in names.GROUPS)
        for metric, value in run.data.metrics.items():
            if metric.startswith(names.AUC_PREFIX):
                key = (*choices, metric)
                assert key not in found, f"{key} is recorded twice"
                found[key] = value
    return found


@pytest.fixture(scope="module")
def unbroken(
    tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[tuple[str, ...], float], float]:
    folder = tmp_path_factory.mktemp("unbroken")
    begun = time.monotonic()
    subprocess.run(command(tiny_dataset), cwd=folder, check=True, capture_output=True)
    return table(folder), time.monotonic() - begun


def test_the_unbroken_sweep_is_whole(unbroken: tuple[dict[tuple[str, ...], float], float]) -> None:
    assert len(unbroken[0]) == CONFIGURATIONS * (4 + 1)


@pytest.mark.parametrize("seed", range(KILLS))
def test_kill_and_resume(
    seed: int,
    unbroken: tuple[dict[tuple[str, ...], float], float],
    tiny_dataset: Path,
    tmp_path: Path,
) -> None:
    expected, seconds = unbroken
    rng = random.Random(seed)
    for _ in range(2):
        sweep = subprocess.Popen(
            command(tiny_dataset), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            sweep.wait(timeout=rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            sweep.send_signal(signal.SIGKILL)
            sweep.wait()
    resumed = subprocess.run(command(tiny_dataset), cwd=tmp_path, check=False, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert table(tmp_path) == expected
