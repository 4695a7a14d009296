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
from pathlib import Path

CATEGORIES = 15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=20, help="configurations of the reference")
    sample = parser.parse_args().sample
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        ours, configurations = grid_launcher(Path(folder))
        composing, recording = by_hand(sample)
    reference = (composing + recording) * configurations
    print(f"{configurations} configurations x {CATEGORIES} categories, all results known")
    print(f"  compose + plan + record, grid launcher   {ours:7.1f} s")
    print(f"  Hydra's composition, a job               {composing * 1e3:7.1f} ms   (mean of {sample})")
    print(f"  MLflow fluent, default SQLite, a run     {recording * 1e3:7.1f} ms   (mean of {sample})")
    print(f"  the same grid by hand                    {reference:7.1f} s    (extrapolated)")
    print(f"  ratio                                    {reference / ours:7.1f} x    (goal 15)")


def grid_launcher(folder: Path) -> tuple[float, int]:
    """Seconds of a real launch of the 770 with every trial's result in the store."""
    from hydra import compose, initialize_config_dir

    from anomaly_sweep.cli.sweep import config_folder
    from anomaly_sweep.config import parse_node, register
    from anomaly_sweep.datasets import FileIndex
    from anomaly_sweep.datasets.synthetic import generate
    from anomaly_sweep.sweep.compose import Composer, configurations_of
    from anomaly_sweep.sweep.plan import make_plan
    from anomaly_sweep.sweep.results import ResultStore
    from anomaly_sweep.sweep.trials import TrialResult

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
        [TrialResult(print_, "ok", rng.random(), 10, 4, 5, 0.01, 0.01) for print_ in plan.fingerprints]
    )
    command = ["-m", "experiment=ono_mori_grid", *fixed]
    return launch(command), len(plan.configurations)


def launch(arguments: list[str]) -> float:
    """Seconds of the whole command, interpreter and imports included."""
    import subprocess
    import sys

    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "anomaly_sweep.cli.sweep", *arguments], check=True, capture_output=True
    )
    return time.perf_counter() - begun


def by_hand(sample: int) -> tuple[float, float]:
    """Seconds a job for Hydra's two compositions of it, and for one run through MLflow's fluent calls."""
    import mlflow
    from hydra import compose, initialize_config_dir

    from anomaly_sweep.cli.sweep import config_folder

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        begun = time.perf_counter()
        for _ in range(sample):
            compose("config", overrides=["layer=level1", "estimator=knn1"])
        composing = 2 * (time.perf_counter() - begun) / sample
    mlflow.set_tracking_uri("sqlite:///by_hand.db")
    with contextlib.redirect_stderr(io.StringIO()):
        mlflow.set_experiment("by_hand")
    groups = ("backbone", "layer", "pooling", "augmentation", "pca_mode", "estimator")
    begun = time.perf_counter()
    for number in range(sample):
        with mlflow.start_run():
            mlflow.log_params({group: str(number) for group in groups})
            mlflow.log_metrics({f"auc/{category}": 0.5 for category in range(CATEGORIES)})
            mlflow.set_tags({"warning": "none", "version": "0"})
            mlflow.log_dict({"rows": [{"category": c, "auc": 0.5} for c in range(CATEGORIES)]}, "table.json")
    return composing, (time.perf_counter() - begun) / sample


if __name__ == "__main__":
    main()
