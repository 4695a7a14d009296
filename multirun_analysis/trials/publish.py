"""Putting what was made on the sweep's parent run, where the UI shows it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from anomaly_sweep.tracking import names
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.connection import connect, experiment_ids
from multirun_analysis.trials.runs import search


def log_files(
    tracking_uri: str,
    experiment: str | None,
    trials: pd.DataFrame,
    paths: Iterable[Path],
    base: Path,
    place: str,
) -> str:
    """Copy files to the artifacts of the parent run of the trials' sweep.

    Parameters
    ----------
    trials
        Of one sweep.
    paths, base
        Files, and the folder to which their places are relative.
    place
        Folder among the artifacts.

    Returns
    -------
    str
        Where they are, for the user.

    Raises
    ------
    AnalysisError
        If the trials are of several sweeps or of none, or the run cannot be written.
    """
    sweeps = sorted(trials["sweep"].dropna().unique())
    if len(sweeps) != 1:
        which = ", ".join(sweeps) or "none"
        raise AnalysisError(
            f"--log needs the trials of one sweep; these are of: {which} (choose with --sweep)"
        )
    reader = connect(tracking_uri)
    ids = experiment_ids(reader, experiment)
    parents = [
        run
        for run in search(reader, ids, names.KIND_SWEEP, sweeps[0])
        if run.data.tags.get(names.TAG_SWEEP) == sweeps[0]
    ]
    if not parents:
        raise AnalysisError(f"{tracking_uri} has no parent run of sweep {sweeps[0]!r} to log on")
    run = max(parents, key=lambda run: int(run.info.start_time or 0))
    folder, count = Path(place), 0
    try:
        for path in paths:
            reader.client.log_artifact(
                run.info.run_id, str(path), (folder / path.relative_to(base)).parent.as_posix()
            )
            count += 1
    except (MlflowException, OSError) as error:
        raise AnalysisError(f"cannot write the artifacts of run {run.info.run_id}: {error}") from error
    return f"logged {count} files on run {run.info.run_id} of sweep {sweeps[0]}, under {place}/"
