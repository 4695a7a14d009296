"""Reading trials: from MLflow or from a file, each trial once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from anomaly_sweep import terminal
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.duplicates import drop_duplicates
from multirun_analysis.trials.long_table import SORTED_BY, as_trials, load_trials
from multirun_analysis.trials.run_info import Origin, RunEnd
from multirun_analysis.trials.states import label_data_states, latest_state

#: The sweep's name that stands for all of them.
ALL = "all"

log = logging.getLogger(__name__)


@dataclass
class Reading:
    """Trials, what is worth telling the user about how they were read, and what the sweeps ran with."""

    trials: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Where trials come from.

    Attributes
    ----------
    tracking_uri, experiment
        MLflow's store, and the name of one experiment of it (all of them when None).
    file
        A file of `save_trials` that is read instead.
    sweep
        One sweep, or `ALL`; None for the latest of a store and all of a file.
    task
        The latest sweep is to be one with trials of this task.
    """

    tracking_uri: str
    experiment: str | None = None
    file: Path | None = None
    sweep: str | None = None
    task: str | None = None


def read_source(source: Source) -> Reading:
    """The trials of the store or of a file, each once.

    Raises
    ------
    AnalysisError
        If there is none.
    """
    sweep = None if source.sweep == ALL else source.sweep
    if source.file is None:
        with terminal.busy("reading the runs"):
            return collect(
                source.tracking_uri,
                experiment=source.experiment,
                sweep=sweep,
                latest=source.sweep is None,
                task=source.task,
            )
    trials = load_trials(source.file)
    if sweep is not None:
        known = ", ".join(sorted(trials["sweep"].dropna().unique())) or "none"
        trials = trials[trials["sweep"].eq(sweep).fillna(False).astype(bool)]
        if trials.empty:
            raise AnalysisError(f"{source.file} has no trial of sweep {sweep!r}; it has: {known}")
    if trials.empty:
        raise AnalysisError(f"{source.file} holds no trial")
    return unique(trials, {}, [])


def read_trials(
    tracking_uri: str, *, experiment: str | None = None, sweep: str | None = None
) -> pd.DataFrame:
    """Read the trials of all sweeps, or of one, from MLflow.

    Parameters
    ----------
    tracking_uri
        MLflow tracking URI; a SQLite file has to exist.
    experiment
        Name of the experiment; all of them when None.
    sweep
        Name of the sweep; all of them when None.

    Returns
    -------
    pandas.DataFrame
        Columns ``TRIAL_COLUMNS``; each trial once (see `drop_duplicates`).

    Raises
    ------
    AnalysisError
        If the store is not there or holds no trial.

    Examples
    --------
    >>> read_trials("sqlite:////no/such/mlflow.db")
    Traceback (most recent call last):
    ...
    multirun_analysis.errors.AnalysisError: there is no file /no/such/mlflow.db ...
    """
    reading = collect(tracking_uri, experiment=experiment, sweep=sweep)
    for note in reading.notes:
        log.warning(note)
    return reading.trials


def collect(
    tracking_uri: str,
    *,
    experiment: str | None = None,
    sweep: str | None = None,
    latest: bool = False,
    task: str | None = None,
) -> Reading:
    """`read_trials` with its notes; ``latest`` reads the sweep (with trials of a task) started last."""
    from multirun_analysis.trials.runs import read_store

    stored = read_store(tracking_uri, experiment=experiment, sweep=sweep, latest=latest, task=task)
    trials = as_trials(stored.rows)
    if trials.empty:
        where = f"experiment {experiment!r} of {tracking_uri}" if experiment else tracking_uri
        raise AnalysisError(
            f"{where} holds no recorded trial{f' of sweep {sweep!r}' if sweep else ''}: "
            "run a sweep with anomaly-sweep -m first"
        )
    return replace(unique(trials, stored.ends, stored.notes), origins=stored.origins)


def unique(trials: pd.DataFrame, ends: Mapping[str, RunEnd], notes: list[str]) -> Reading:
    """`drop_duplicates` as a reading: sorted, with the number dropped among the notes.

    Data sets that share a name are told apart first, and trials on images that changed since are left out.
    """
    launched = {run_id: end.launched for run_id, end in ends.items()}
    trials, changes = latest_state(label_data_states(trials), launched)
    notes = [*notes, *changes]
    kept, dropped = drop_duplicates(trials, ends)
    if dropped:
        notes = [*notes, f"{dropped} trials are recorded more than once: the latest finished is kept"]
    return Reading(kept.sort_values(SORTED_BY, ignore_index=True), notes)
