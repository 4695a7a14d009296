"""Reads the runs of anomaly_sweep from MLflow: tables, claims, effects, figures, comparisons, a report.

Rooms, each importing only from those before it: errors, stats (how sure a number is), rendering (tables and
their formats), trials (the long table), summary (means, effects, comparisons), figures (all of no paper),
papers, reporting, ui, commands (what is done, with plain values), cli (the arguments).

What a notebook or a script needs is imported from here, each name when it is first asked for::

    from multirun_analysis import pivot, read_trials

    trials = read_trials("sqlite:///mlflow.db")
    table = pivot(trials, "pca_mode", "estimator", "layer=level4")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multirun_analysis.papers.analysis import claims, tables
    from multirun_analysis.reporting.page import report
    from multirun_analysis.summary.compare import compare
    from multirun_analysis.summary.pivot import pivot
    from multirun_analysis.trials.read import read_trials

#: Name -> the module that has it.
_HOMES = {
    "claims": "papers.analysis",
    "compare": "summary.compare",
    "pivot": "summary.pivot",
    "read_trials": "trials.read",
    "report": "reporting.page",
    "tables": "papers.analysis",
}

__all__ = ["claims", "compare", "pivot", "read_trials", "report", "tables"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
