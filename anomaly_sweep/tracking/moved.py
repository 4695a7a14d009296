"""A store whose folder has been renamed, moved or copied: its artifacts are found where they are now.

MLflow keeps absolute places of artifacts. Ours lie beside the SQLite file unless the user chose otherwise, so
where the file is now says where they are.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.artifacts import local_artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

log = logging.getLogger(__name__)


def relocation(location: str, file_then: str | None, file: Path) -> str | None:
    """Where an experiment's artifacts are now, if that is not where its store says.

    Parameters
    ----------
    location : str
        Of the artifacts, as the store has it.
    file_then : str or None
        The SQLite file when that was written (``names.TAG_STORE``); None if it was not noted.
    file : Path
        The SQLite file now.
    """
    folder, here = local_artifacts(location), file.resolve()
    if folder is None or file_then == str(here):
        return None
    if file_then is None:  # noted by no one: an earlier version's, beside the file then
        beside = here.parent / folder.name
        return beside.as_uri() if not folder.is_dir() and beside.is_dir() else None
    try:
        now = here.parent / folder.relative_to(Path(file_then).parent)
    except ValueError:  # elsewhere by the user's choice, and still there
        return None
    return now.as_uri() if now.is_dir() or not folder.is_dir() else None


def follow(client: MlflowClient, experiment: Experiment, file: Path) -> Experiment:
    """Put the new places into a store that has moved, and note where it is.

    Raises
    ------
    TrackingError
        If it has moved and is not laid out as the places would be written for.
    sqlite3.Error
        If the file cannot be written.
    """
    then, location = experiment.tags.get(names.TAG_STORE), str(experiment.artifact_location)
    if then == str(file.resolve()) or local_artifacts(location) is None:
        return experiment
    now = relocation(location, then, file)
    if now is not None:
        if not _has_places(file):
            raise TrackingError(
                f"{file} was moved, and its artifacts are no longer at {local_artifacts(location)}: move "
                "them back there, or record under another tracking.experiment"
            )
        _rewrite(file, str(experiment.experiment_id), location, now)
        log.warning(
            "%s was moved or copied: its artifacts are %s now, no longer %s",
            file,
            local_artifacts(now),
            local_artifacts(location),
        )
    client.set_experiment_tag(experiment.experiment_id, names.TAG_STORE, str(file.resolve()))
    return client.get_experiment(experiment.experiment_id)


#: Columns of MLflow's database that hold places; it has no call that changes them.
PLACES = {
    "experiments": {"experiment_id", "artifact_location"},
    "runs": {"experiment_id", "artifact_uri"},
}


def _has_places(file: Path) -> bool:
    with closing(sqlite3.connect(file, timeout=30.0)) as db:
        return all(
            columns <= {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            for table, columns in PLACES.items()
        )


def _rewrite(file: Path, experiment: str, location: str, now: str) -> None:
    with closing(sqlite3.connect(file, timeout=30.0)) as db, db:
        db.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, int(experiment))
        )
        db.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (now, len(location) + 1, int(experiment), len(location) + 1, f"{location}/"),
        )
