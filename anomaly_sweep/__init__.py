"""Sweeps over frozen ImageNet features for image anomaly detection.

What a notebook or a script needs is imported from here, each name when it is first asked for::

    from anomaly_sweep import compose, long_table, run_configurations

    sweep = compose("estimator=mvg,knn1", "layer=level3,level4")
    table = long_table(run_configurations(*sweep))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_sweep.config import Configuration, LocalizationConfiguration, RuntimeConf, TrackingConf
    from anomaly_sweep.datasets import check_dataset, list_categories, read_category
    from anomaly_sweep.errors import AnomalySweepError
    from anomaly_sweep.launch.notebook import Sweep, compose, long_table
    from anomaly_sweep.sweep.record.recording import Outcome
    from anomaly_sweep.sweep.run.configurations import describe_configurations, run_configurations

__version__ = "0.1.0"

#: Name -> the module that has it.
_HOMES = {
    "AnomalySweepError": "errors",
    "Configuration": "config",
    "LocalizationConfiguration": "config",
    "Outcome": "sweep.record.recording",
    "RuntimeConf": "config",
    "Sweep": "launch.notebook",
    "TrackingConf": "config",
    "check_dataset": "datasets",
    "compose": "launch.notebook",
    "describe_configurations": "sweep.run.configurations",
    "list_categories": "datasets",
    "long_table": "launch.notebook",
    "read_category": "datasets",
    "run_configurations": "sweep.run.configurations",
}

__all__ = [
    "AnomalySweepError",
    "Configuration",
    "LocalizationConfiguration",
    "Outcome",
    "RuntimeConf",
    "Sweep",
    "TrackingConf",
    "__version__",
    "check_dataset",
    "compose",
    "describe_configurations",
    "list_categories",
    "long_table",
    "read_category",
    "run_configurations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
