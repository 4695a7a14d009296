"""Trials of either task: a sweep may hold both, and a table is of one."""

from __future__ import annotations

import pandas as pd

from anomaly_sweep.tracking.names import DETECTION
from multirun_analysis.errors import AnalysisError

LOCALIZATION = "localization"
#: The paper of each task, as ``tables --paper`` names it.
PAPERS = {DETECTION: "ono_mori", LOCALIZATION: "ridge"}


def is_localization(trials: pd.DataFrame) -> pd.Series:
    """Which trials are of localization, whatever its settings; all others are of detection."""
    return trials["task"].str.match(rf"{LOCALIZATION}(\[|$)").fillna(False).astype(bool)


def detection_of(trials: pd.DataFrame, what: str = "this sweep") -> pd.DataFrame:
    """The trials of detection.

    Parameters
    ----------
    what
        What the trials are, for the message.

    Raises
    ------
    AnalysisError
        If there are trials, and all of them are of localization.
    """
    return _of(trials, DETECTION, LOCALIZATION, what)


def localization_of(trials: pd.DataFrame, what: str = "this sweep") -> pd.DataFrame:
    """The trials of localization; as `detection_of`."""
    return _of(trials, LOCALIZATION, DETECTION, what)


def tasks_of(trials: pd.DataFrame) -> list[str]:
    """Which of the two tasks there are trials of."""
    located = is_localization(trials)
    return [task for task, there in ((DETECTION, ~located), (LOCALIZATION, located)) if there.any()]


def _of(trials: pd.DataFrame, wanted: str, other: str, what: str) -> pd.DataFrame:
    located = is_localization(trials)
    own = trials[located if wanted == LOCALIZATION else ~located]
    if own.empty and len(trials):
        raise AnalysisError(
            f"{what} has {other} trials only: multirun-analysis tables --paper {PAPERS[other]}"
        )
    return own
