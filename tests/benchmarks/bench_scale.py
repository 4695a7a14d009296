"""Composing and planning a sweep of 30 data sets x 10 backbones, about 100,000 trials: seconds and memory.

python tests/benchmarks/bench_scale.py
"""

from __future__ import annotations

import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

from bench_compose import jobs_of, master_config
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig

from anomaly_sweep.config import AnyConfiguration
from anomaly_sweep.datasets import FileIndex, list_categories
from anomaly_sweep.datasets.synthetic import generate
from anomaly_sweep.launch.compose import Composer, configurations_of
from anomaly_sweep.sweep.plan.planner import make_plan

GOAL_SECONDS = 15.0
GOAL_MIB = 1536
DATASETS = 30
MODELS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "wide_resnet50_2",
    "efficientnet_b0",
    "efficientnet_b1",
    "mobilenetv3_large_100",
    "convnext_tiny",
    "regnety_008",
    "densenet121",
)
REDUCTIONS = ("none", *(f"{kind}{rate}" for kind in ("pca", "npca") for rate in (10, 20, 30, 40, 50)))


def main() -> None:
    """Print the figures."""
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roots = [folder / f"set{number}" for number in range(DATASETS)]
        for number, root in enumerate(roots):
            generate(root, seed=number, size=32, n_train=8, n_test_good=4, n_per_defect=2)
        categories = list_categories(roots[0])[:15]
        loader, config = master_config(folder, [])
        config.hydra.sweeper.grids = [{}]
        arguments = (
            f"dataset.root={','.join(map(str, roots))}",
            f"dataset.categories=[{','.join(categories)}]",
            "backbone=timm",
            f"backbone.model={','.join(MODELS)}",
            "backbone.weights=random",
            "layer=level2,level3",
            f"pca_mode={','.join(REDUCTIONS)}",
            "estimator=mvg",
        )
        jobs = jobs_of(loader, config, *arguments)
        index = FileIndex(folder / "files.sqlite")
        # Once before the clock starts: reading the images' digests is the data's cost, importing torch and
        # timm the start's.
        make_plan(_configurations(loader, config, jobs[:: len(jobs) // 300]), index)
        begun = time.perf_counter(), time.process_time()
        configurations = _configurations(loader, config, jobs)
        composed = time.perf_counter(), time.process_time()
        plan = make_plan(configurations, index)
        planned = time.perf_counter(), time.process_time()
    # ru_maxrss: bytes on macOS, KiB elsewhere.
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    compose, whole = composed[1] - begun[1], planned[1] - begun[1]
    print(
        "data sets  backbones  configurations   trials  compose CPU s  plan CPU s  total CPU s  wall s   MiB"
    )
    print(
        f"{DATASETS:9d}  {len(MODELS):9d}  {len(configurations):14d}  {len(plan.fingerprints):7d}  "
        f"{compose:13.1f}  {whole - compose:10.1f}  {whole:11.1f}  {planned[0] - begun[0]:6.1f}  {mib:4.0f}"
    )
    print(
        f"goal <= {GOAL_SECONDS:.0f} s: {'met' if whole <= GOAL_SECONDS else 'missed'}; "
        f"<= {GOAL_MIB} MiB: {'met' if mib <= GOAL_MIB else 'missed'}"
    )


def _configurations(
    loader: ConfigLoaderImpl, config: DictConfig, jobs: list[list[str]]
) -> list[AnyConfiguration]:
    composer = Composer(lambda overrides: loader.load_sweep_config(config, overrides))
    return configurations_of(composer.jobs(jobs))


if __name__ == "__main__":
    main()
