"""What a notebook or a script needs of the command line: configurations from overrides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.types import RunMode

from anomaly_sweep.config import AnyConfiguration, RuntimeConf, TrackingConf, for_hydra, register
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.launch.compose import Composer, configurations_of, possible
from anomaly_sweep.launch.experiments import expand_all
from anomaly_sweep.launch.hydra_state import answering

if TYPE_CHECKING:
    import pandas as pd

    from anomaly_sweep.sweep.record.recording import Outcome


class Sweep(NamedTuple):
    """What is run, where it is recorded, and how: the arguments of :func:`run_configurations`.

    Attributes
    ----------
    configurations : list of AnyConfiguration
    tracking : TrackingConf
    runtime : RuntimeConf
    """

    configurations: list[AnyConfiguration]
    tracking: TrackingConf
    runtime: RuntimeConf

    def __repr__(self) -> str:
        """How many configurations, the choices that they differ in, and where they are recorded."""
        choices: dict[str, dict[str, None]] = {}
        for configuration in self.configurations:
            for group, label in configuration.labels.items():
                choices.setdefault(group, {})[label] = None
        varied = "".join(f", {group}={','.join(v)}" for group, v in choices.items() if len(v) > 1)
        return f"<Sweep: {len(self.configurations)} configurations{varied}; recorded in {self.tracking.uri}>"


def compose(*overrides: str, config_dir: str | Path | None = None) -> Sweep:
    """Compose the configurations that ``anomaly-sweep -m`` would run.

    Parameters
    ----------
    *overrides : str
        As on the command line: ``estimator=mvg,knn1``, ``experiment=ono_mori_grid``, ``runtime.workers=1``.
        Hydra's own settings (``hydra.*``) have no meaning here.
    config_dir : path, optional
        A folder with further config groups, as ``--config-dir``.

    Returns
    -------
    Sweep
        To be unpacked into :func:`run_configurations`.

    Raises
    ------
    ConfigError
        For a value that is not allowed.
    hydra.errors.HydraException
        For what Hydra cannot compose.

    Examples
    --------
    >>> from anomaly_sweep import compose
    >>> sweep = compose("estimator=mvg,knn1", "layer=level2", "backbone.weights=random")
    >>> sweep
    <Sweep: 2 configurations, estimator=mvg,knn1; recorded in sqlite:///mlflow.db>
    """
    arguments = [for_hydra(override) for override in overrides]
    with _loader() as loader:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        once = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
        if config_dir is not None:
            place = str(Path(config_dir).absolute()).replace("\\", "\\\\").replace("'", "\\'")
            once.append(f"hydra.searchpath=['file://{place}']")
        config = loader.load_configuration("config", once, RunMode.MULTIRUN)
        sweeper = config.hydra.sweeper
        with answering(config):
            jobs = expand_all(config, loader, arguments, sweeper.grids, sweeper.params)
            nodes = Composer(lambda own: loader.load_sweep_config(config, own)).jobs(jobs)
            _, nodes = possible(jobs, nodes, arguments)
            return Sweep(configurations_of(nodes), nodes[0]["tracking"], nodes[0]["runtime"])


def long_table(outcomes: list[Outcome]) -> pd.DataFrame:
    """Make a table of outcomes: a row for each trial, that is each configuration on each category.

    Parameters
    ----------
    outcomes : list of Outcome
        Of :func:`run_configurations`.

    Returns
    -------
    pandas.DataFrame
        Columns ``anomaly_sweep.tracking.names.TRIAL_COLUMNS``, and labels of other tasks. A failed trial
        has no ``image_auroc``, and a ``reason``.

    Examples
    --------
    >>> from anomaly_sweep import long_table
    >>> long_table([]).columns[:4].to_list()
    ['sweep', 'run_id', 'task', 'dataset']
    """
    import pandas as pd

    from anomaly_sweep.tracking.names import columns_of

    rows = [row for outcome in outcomes for row in outcome.rows]
    return pd.DataFrame(rows, columns=columns_of(rows))


@contextmanager
def _loader() -> Iterator[ConfigLoader]:
    """Hydra's config loader on the shipped configs, whatever Hydra is used for around it."""
    register()
    setup_globals()
    around = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        hydra.initialize_config_dir(str(config_folder()), version_base="1.3", job_name="anomaly_sweep")
        yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = around
