"""Compose, plan and record a whole grid whose trials are all known, beside MLflow's default way.

The results are made up, so that nothing but composing, planning and recording is measured. The reference
is what a user writes by hand under Hydra's basic launcher: one composition a job, one fluent MLflow run a
configuration on a database in SQLite's default mode, on a sample, scaled to the grid.

    python tests/benchmarks/bench_recording.py [--sample 20]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CATEGORIES = 15
#: Metrics of a detection trial beside AUROC.
IMAGE_METRICS = ("image_ap", "image_f1max", "image_fpr95")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=20, help="configurations of the reference")
    sample = parser.parse_args().sample
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        ours, configurations = grid_launcher(Path(folder))
        recording = recorder(Path(folder) / "recorder", sample)
        composing, fluent = by_hand(sample)
    reference = (composing + fluent) * configurations
    print(
        f"{configurations} configurations x {CATEGORIES} categories, all results known: wall and CPU seconds"
    )
    print(f"  compose + plan + record, grid launcher   {ours} s")
    print(f"  of that, recording a run                 {recording * 1e3} ms   (mean of {sample})")
    print(f"  Hydra's composition, a job               {composing * 1e3} ms   (mean of {sample})")
    print(f"  MLflow fluent, default SQLite, a run     {fluent * 1e3} ms   (mean of {sample})")
    print(f"  the same grid by hand                    {reference} s    (extrapolated)")
    print(f"  ratio                                    {reference.wall / ours.wall:7.1f} x")


@dataclass(frozen=True)
class Seconds:
    """Time on the clock, and of the processor."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:7.1f} {self.cpu:7.1f}"

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.cpu * factor)


def measured(action: Callable[[], object]) -> Seconds:
    """Seconds of a call, the processes it waits for included."""
    begun, before = time.perf_counter(), os.times()
    action()
    wall, after = time.perf_counter() - begun, os.times()
    return Seconds(wall, sum(after[:4]) - sum(before[:4]))


def grid_launcher(folder: Path) -> tuple[Seconds, int]:
    """Seconds of a real launch of the 770 with every trial's result in the store."""
    from hydra import compose, initialize_config_dir

    from anomaly_sweep.cli.sweep import config_folder
    from anomaly_sweep.config import parse_node, register
    from anomaly_sweep.datasets import FileIndex
    from anomaly_sweep.datasets.synthetic import generate
    from anomaly_sweep.launch.compose import Composer, configurations_of
    from anomaly_sweep.sweep.plan.planner import make_plan
    from anomaly_sweep.sweep.record.results import ResultStore
    from anomaly_sweep.tasks.base import TrialResult

    data = folder / "data" / "synthetic"
    generate(data, size=64, n_train=4, n_test_good=2, n_per_defect=1)
    fixed = ["backbone.weights=random", "dataset.generate=null"]
    jobs = [
        [*fixed, f"backbone={backbone}", f"layer={layer}", f"pca_mode={pca}", f"estimator={estimator}"]
        for backbone, levels in (("resnet18", 5), ("efficientnet_b5", 7))
        for layer in [*(f"level{i}" for i in range(1, levels + 1)), "all"]
        for pca in ["none", *(f"{mode}{rate}0" for mode in ("pca", "npca") for rate in range(1, 6))]
        for estimator in ("mvg", "knn1", "knn5", "knn10", "flow")
    ]
    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        nodes = Composer(lambda overrides: compose("config", overrides=overrides)).jobs(jobs)
        runtime = parse_node("runtime", compose("config", overrides=fixed).runtime)
    cache = Path(runtime.cache_dir)
    cache.mkdir()
    plan = make_plan(configurations_of(nodes), FileIndex(cache / "files.sqlite"))
    rng = random.Random(0)
    ResultStore(cache / "results.sqlite").put(
        [
            TrialResult(
                trial_id,
                "ok",
                rng.random(),
                10,
                4,
                5,
                0.01,
                0.01,
                **{name: rng.random() for name in IMAGE_METRICS},
            )
            for trial_id in plan.fingerprints
        ]
    )
    command = ["-m", "experiment=ono_mori_grid", *fixed]
    return launch(command), len(plan.configurations)


def launch(arguments: list[str]) -> Seconds:
    """Seconds of the whole command, interpreter and imports included."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "anomaly_sweep.cli.sweep", *arguments]
    return measured(lambda: subprocess.run(command, check=True, capture_output=True))


def recorder(folder: Path, sample: int) -> Seconds:
    """Seconds a run for our recorder."""
    from anomaly_sweep.config import TrackingConf
    from anomaly_sweep.tracking import names
    from anomaly_sweep.tracking.content import ConfigurationRun
    from anomaly_sweep.tracking.writer import Recorder

    ours = Recorder(TrackingConf(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")))
    rows = [
        {**dict.fromkeys(names.TRIAL_COLUMNS), "category": f"category{index}", "status": "ok"}
        | dict.fromkeys(("image_auroc", *IMAGE_METRICS), 0.5)
        | {"fit_seconds": 0.01, "score_seconds": 0.01, "reason": ""}
        for index in range(CATEGORIES)
    ]
    labels, context = dict.fromkeys(names.GROUPS, "x"), {"dataset": "d", "weights": "w", "input_size": "64"}
    runs = [
        ConfigurationRun(labels, context, rows, f"print{index}", "sweep", None, {"k": 1}, "random weights")
        for index in range(sample)
    ]
    return measured(lambda: list(ours.record(runs))) * (1 / sample)


def by_hand(sample: int) -> tuple[Seconds, Seconds]:
    """Seconds a job for Hydra's two compositions of it, and for one run through MLflow's fluent calls."""
    import mlflow
    from hydra import compose, initialize_config_dir

    from anomaly_sweep.cli.sweep import config_folder

    def compose_some() -> None:
        for _ in range(sample):
            compose("config", overrides=["layer=level1", "estimator=knn1"])

    groups = ("backbone", "layer", "pooling", "augmentation", "pca_mode", "estimator")

    def record_some() -> None:
        for number in range(sample):
            with mlflow.start_run():
                mlflow.log_params({group: str(number) for group in groups})
                mlflow.log_metrics({f"auc/{category}": 0.5 for category in range(CATEGORIES)})
                mlflow.set_tags({"warning": "none", "version": "0"})
                table = [{"category": category, "auc": 0.5} for category in range(CATEGORIES)]
                mlflow.log_dict({"rows": table}, "table.json")

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        composing = measured(compose_some) * (2 / sample)
    mlflow.set_tracking_uri("sqlite:///by_hand.db")
    with contextlib.redirect_stderr(io.StringIO()):
        mlflow.set_experiment("by_hand")
    return composing, measured(record_some) * (1 / sample)


if __name__ == "__main__":
    main()
