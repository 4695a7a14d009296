"""Opening a tracking store, with errors a user can act on."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking.sqlite import prepare, sqlite_path
from anomaly_sweep.tracking.view import VIEW_TAG, saved_view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

T = TypeVar("T")

_TRIES = 6
#: MLflow's own tries at a server double their waits; its default of 7 takes minutes, and a sweep waits along.
_HTTP_RETRIES = "3"
_URI = re.compile(r"[a-z][a-z0-9+.\-]+:/")


def open_client(tracking: TrackingConf) -> tuple[MlflowClient, Experiment]:
    """A client and the experiment, which is made if it is not there.

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
    if _is_http(tracking.uri):
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _HTTP_RETRIES)
    return retrying(lambda: _connect(tracking), tracking.uri)


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _connect(tracking: TrackingConf) -> tuple[MlflowClient, Experiment]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment) or _make_experiment(client, tracking)
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {tracking.experiment} of {tracking.uri} is deleted; restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}) or set tracking.experiment"
        )
    if experiment.tags.get(VIEW_TAG) != saved_view():
        client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, saved_view())
    return client, experiment


def _make_experiment(client: MlflowClient, tracking: TrackingConf) -> Experiment:
    """A new experiment, or the one that another process has made in this moment."""
    from mlflow.exceptions import MlflowException

    location = tracking.artifacts
    if location is not None and not _URI.match(location):
        location = Path(location).absolute().as_uri()
    try:
        made = client.create_experiment(tracking.experiment, artifact_location=location)
    except MlflowException as error:
        there = client.get_experiment_by_name(tracking.experiment)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or there is None:
            raise
        return there
    return client.get_experiment(made)


def retrying(action: Callable[[], T], uri: str) -> T:
    """Call a store's operation, again while it is only busy (MLflow itself calls a server again).

    Raises
    ------
    TrackingError
        If it does not work in the end.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    signs = () if _is_http(uri) else ("locked", "busy", "timed out", "Connection")
    for attempt in range(_TRIES):
        try:
            return action()
        except (MlflowException, SQLAlchemyError, OSError, sqlite3.Error) as error:
            message = str(error)
            if any(sign in message for sign in signs) and attempt + 1 < _TRIES:
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
