"""Trials by their task: a sweep may hold those of several, and a table is of one."""

from __future__ import annotations

import pandas as pd

from anomaly_sweep.tasks import task_named, task_names
from anomaly_sweep.tracking.names import DETECTION
from multirun_analysis.errors import AnalysisError


def task_names_of(trials: pd.DataFrame) -> pd.Series:
    """The name of each trial's task, without its settings: ``localization[sigma=2]`` is ``localization``.

    Trials recorded before there were tasks are of detection.
    """
    labels = trials["task"].fillna(DETECTION)
    return labels.map({label: name_of(str(label)) for label in labels.unique()}).rename("task")


def name_of(label: str) -> str:
    """A task's name, of the label that its trials are recorded with."""
    return label.partition("[")[0]


def tasks_of(trials: pd.DataFrame) -> list[str]:
    """Which tasks there are trials of, by name."""
    return sorted(map(str, task_names_of(trials).unique()))


def trials_of(trials: pd.DataFrame, task: str, what: str = "this sweep") -> pd.DataFrame:
    """The trials of a task, whatever its settings.

    Parameters
    ----------
    task
        Its name.
    what
        What the trials are, for the message.

    Raises
    ------
    AnalysisError
        If there are trials, and none of them is of that task.
    """
    found = trials[(task_names_of(trials) == task).astype(bool)]
    if found.empty and len(trials):
        others = tasks_of(trials)
        paper = task_named(others[0]).paper if others[0] in task_names() else None
        hint = "" if paper is None else f": multirun-analysis tables --paper {paper}"
        raise AnalysisError(f"{what} has {' and '.join(others)} trials only{hint}")
    return found
