"""Composing and planning a sweep against Hydra's basic launcher, in one run.

python tests/benchmarks/bench_compose.py [--sample 40] [--whole]

``--whole`` also compares all 770 composed configurations with Hydra's own compose (about a minute).
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.config import register
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.datasets.synthetic import generate
from anomaly_sweep.launch import grids
from anomaly_sweep.launch.compose import Composer, configurations_of
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.tasks import configuration_of, parse

GOAL_SECONDS = 3.0
#: The goal was set on a machine on which Hydra takes this long a job; another's speed is put in proportion.
REFERENCE_SECONDS = 0.185
_CATEGORIES = 15


def master_config(folder: Path, extra: list[str]) -> tuple[ConfigLoaderImpl, DictConfig]:
    """Hydra's config of a multirun, as its command line makes it."""
    register()
    Plugins.instance()
    search_path = create_automatic_config_search_path(None, None, str(config_folder()))
    loader = ConfigLoaderImpl(config_search_path=search_path)
    overrides = [
        "experiment=ono_mori_grid",
        "backbone.weights=random",
        "dataset=folder",
        f"dataset.root={folder / 'data'}",
        f"hydra.sweep.dir={folder / 'multirun'}",
        *extra,
    ]
    config = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
    return loader, config


def jobs_of(loader: ConfigLoaderImpl, config: DictConfig, *arguments: str) -> list[list[str]]:
    """The jobs of the grid of Ono & Mori."""
    sweeper = config.hydra.sweeper
    fixed = list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=loader)
    return grids.expand(sweeper.grids, sweeper.params, [*fixed, *arguments], parser)


def basic_seconds(loader: ConfigLoaderImpl, config: DictConfig, jobs: list[list[str]]) -> float:
    """Seconds that Hydra's basic launcher and sweeper take for jobs that do nothing: both composings."""
    config = OmegaConf.merge(config, {"hydra": {"launcher": {"_target_": _BASIC}}})
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=lambda _cfg: 0.0, config=config
    )
    begun = time.perf_counter()
    for job in jobs:  # BasicSweeper.validate_batch_is_legal
        loader.load_sweep_config(config, job)
    launcher.launch(jobs, initial_job_idx=0)
    return time.perf_counter() - begun


_BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=40, help="jobs run through Hydra's basic launcher")
    parser.add_argument("--whole", action="store_true", help="compare all 770 with Hydra's compose")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "data", seed=0, size=64, n_train=8, n_test_good=4, n_per_defect=2)
        categories = sorted(path.name for path in (folder / "data").iterdir() if path.is_dir())
        loader, config = master_config(folder, [])
        jobs = jobs_of(loader, config)
        a_job = basic_seconds(
            loader, config, jobs[:: max(1, len(jobs) // arguments.sample)][: arguments.sample]
        )
        a_job /= arguments.sample
        print(f"Hydra's basic launcher: {a_job:.3f} s a job ({arguments.sample} jobs)")
        print(
            "configurations  compose s  plan s  total s  labels s  Hydra s (extrapolated)  ratio  goal <= 3 s"
        )
        index = FileIndex(folder / "files.sqlite")
        # Once before the clock starts: reading the images' digests is the data's cost, importing torch the
        # start's. (The first five jobs are the five estimators.)
        make_plan(configurations_of(_composer(loader, config).jobs(jobs[:5])), index)
        choice = ",".join(f"[{category}]" for category in categories[:_CATEGORIES])
        for sweep in (jobs, jobs_of(loader, config, f"dataset.categories={choice}")):
            begun = time.perf_counter()
            configurations = configurations_of(_composer(loader, config).jobs(sweep))
            composed = time.perf_counter()
            make_plan(configurations, index)
            planned = time.perf_counter()
            for configuration in configurations:
                _ = configuration.labels
            labelled = time.perf_counter()
            total = planned - begun
            print(
                f"{len(sweep):14d}  {composed - begun:9.2f}  {planned - composed:6.2f}  {total:7.2f}  "
                f"{labelled - planned:8.2f}  {a_job * len(sweep):22.0f}  {a_job * len(sweep) / total:5.0f}  "
                f"{total * REFERENCE_SECONDS / a_job:15.2f}  "
                f"{'met' if total * REFERENCE_SECONDS / a_job <= GOAL_SECONDS else 'missed'}"
            )
        if arguments.whole:
            composed_jobs = _composer(loader, config).jobs(jobs)
            for job, nodes in zip(jobs, composed_jobs, strict=True):
                own, _, _ = parse(loader.load_sweep_config(config, job))
                if own != configuration_of(nodes):
                    raise SystemExit(f"not what Hydra composes: {' '.join(job)}")
            print(f"equal to Hydra's compose: all {len(jobs)}")


def _composer(loader: ConfigLoaderImpl, config: DictConfig) -> Composer:
    return Composer(lambda overrides: loader.load_sweep_config(config, overrides))


if __name__ == "__main__":
    main()
