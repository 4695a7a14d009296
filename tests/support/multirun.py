"""Hydra's config of a multirun, the command line in a process, and the runs it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig

from anomaly_sweep.config import register
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.launch import grids
from anomaly_sweep.launch.compose import Composer


class Multirun:
    """Hydra's config and loader as ``anomaly-sweep -m ARGUMENTS`` makes them."""

    def __init__(self, *arguments: str, extra_folder: Path | None = None) -> None:
        register()
        setup_globals()
        Plugins.instance()
        search_path = create_automatic_config_search_path(None, None, str(config_folder()))
        if extra_folder is not None:
            search_path.prepend("test", f"file://{extra_folder}", "schema")
        self.loader = ConfigLoaderImpl(config_search_path=search_path)
        parsed = OverridesParser.create().parse_overrides(list(arguments))
        own = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
        self.arguments = [o.input_line or "" for o in parsed if not o.is_hydra_override()]
        self.config: DictConfig = self.loader.load_configuration("config", own, RunMode.MULTIRUN)
        self.composed = 0

    def jobs(self) -> list[list[str]]:
        """The jobs that ``hydra/sweeper=grid`` would launch."""
        sweeper = self.config.hydra.sweeper
        parser = OverridesParser.create(config_loader=self.loader)
        return grids.expand(sweeper.grids, sweeper.params, self.arguments, parser)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Hydra's own composition of one job."""
        self.composed += 1
        return self.loader.load_sweep_config(self.config, list(overrides))

    def composer(self) -> Composer:
        """Ours."""
        return Composer(self.compose)


def command(*arguments: str, cwd: Path, flags: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """``anomaly-sweep`` in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, *flags, "-m", "anomaly_sweep.cli.sweep", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def arguments(dataset: Path) -> list[str]:
    """A sweep of two categories at 64 pixels through a small network."""
    return [
        "dataset=folder",
        "dataset.name=tiny",
        f"dataset.root={dataset}",
        "dataset.categories=[linen,washer]",
        "dataset.input_size=64",
        "backbone=mobilenetv2_035",
        "backbone.weights=random",
        "runtime.workers=1",
        "runtime.device=cpu",
    ]


def runs(folder: Path, kind: str = "configuration") -> list[Any]:
    """The runs of a kind that a folder's store holds."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("anomaly_sweep")
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`anomaly_sweep.kind` = '{kind}'", max_results=1000
    )
    return list(found)
