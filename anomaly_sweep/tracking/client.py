"""Opening a tracking store, with errors a user can act on."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlparse

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking.sqlite import prepare, sqlite_path
from anomaly_sweep.tracking.view import VIEW_TAG, saved_view

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_TRIES = 6


def open_client(tracking: TrackingConf) -> tuple[MlflowClient, str]:
    """A client and the id of the experiment, which is made if it is not there.

    A new SQLite file is put in WAL mode (kept in the file): it makes a run about four times cheaper to
    write and lets the UI read meanwhile.

    Raises
    ------
    TrackingError
        If the store cannot be reached or written.
    """
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.store.db_migrations"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    path = sqlite_path(tracking.uri)
    if path is not None:
        prepare(path)
    return retrying(lambda: _connect(tracking), tracking.uri)


def _connect(tracking: TrackingConf) -> tuple[MlflowClient, str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        location = tracking.artifacts
        if location is not None and "://" not in location:
            location = Path(location).absolute().as_uri()
        made = str(client.create_experiment(tracking.experiment, artifact_location=location))
        client.set_experiment_tag(made, VIEW_TAG, saved_view())
        return client, made
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {tracking.experiment} of {tracking.uri} is deleted; restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}) or set tracking.experiment"
        )
    if experiment.tags.get(VIEW_TAG) != saved_view():
        client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, saved_view())
    return client, str(experiment.experiment_id)


def retrying(action: Callable[[], T], uri: str) -> T:
    """Call a store's operation, again while it is only busy.

    Raises
    ------
    TrackingError
        If it does not work in the end.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(_TRIES):
        try:
            return action()
        except (MlflowException, SQLAlchemyError, OSError, sqlite3.Error) as error:
            message = str(error)
            busy = any(sign in message for sign in ("locked", "busy", "timed out", "Connection"))
            if busy and attempt + 1 < _TRIES:
                time.sleep(0.2 * 2**attempt)
                continue
            first = message.strip().splitlines()[0] if message.strip() else type(error).__name__
            raise TrackingError(
                f"the tracking store {uri} cannot be used ({first}); check tracking.uri and its permissions"
            ) from error
    raise AssertionError("unreachable")


def timestamp() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)


def local_artifacts(artifact_uri: str) -> Path | None:
    """The folder of a run's artifacts when it is on this machine's disk."""
    if artifact_uri.startswith("file:"):
        return Path(unquote(urlparse(artifact_uri).path))
    return None if urlparse(artifact_uri).scheme else Path(artifact_uri)


Rows = list[dict[str, Any]]
