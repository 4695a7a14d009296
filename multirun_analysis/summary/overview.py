"""A table for any sweep, whatever was swept: means by what varies."""

from __future__ import annotations

from anomaly_sweep.tracking.names import GROUPS
from multirun_analysis.errors import AnalysisError
from multirun_analysis.rendering.table import Table
from multirun_analysis.summary.pivot import pivot
from multirun_analysis.summary.study import Study

DIMENSIONS = (*GROUPS[1:], "localizer")


def overview(study: Study) -> Table | None:
    """Mean AUROC by the two groups with most choices, all others averaged; by category where one varies.

    None where no cell has a value.
    """
    trials = study.trials()
    counts = {name: trials[name].nunique() for name in DIMENSIONS}
    varying = sorted((name for name in DIMENSIONS if counts[name] > 1), key=lambda name: -counts[name])
    if not varying:
        varying = [next((name for name in ("estimator", "localizer") if counts[name]), "backbone")]
    rows, cols = (varying[0], varying[1]) if len(varying) > 1 else ("category", varying[0])
    try:
        return pivot(trials, rows, cols, average_over=varying[2:], origins=study.origins)
    except AnalysisError:
        return None
