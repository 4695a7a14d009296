"""Opening a tracking store, with errors a user can act on."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking.artifacts import local_artifacts
from anomaly_sweep.tracking.moved import follow
from anomaly_sweep.tracking.sqlite import prepare, sqlite_path, whole_uri
from anomaly_sweep.tracking.view import KIND_TAG, TRAINING, VIEW_TAG, saved_view, shown_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = 6
_ENVIRONMENT = {
    # Its own tries at a server double their waits; the default of 7 takes minutes, and a sweep waits along.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    # Two lines on the terminal for each run that ends, and bars for each file that is read.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_ARTIFACTS = "mlartifacts"
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
    for noisy in ("alembic", "mlflow.store.db_migrations"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # traces of what is told by us
    path = sqlite_path(tracking.uri)
    if path is not None:
        prepare(path)
    return retrying(lambda: _connect(tracking), tracking.uri)


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _connect(tracking: TrackingConf) -> tuple[MlflowClient, Experiment]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=whole_uri(tracking.uri))
    experiment = client.get_experiment_by_name(tracking.experiment) or _make_experiment(client, tracking)
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {tracking.experiment} of {tracking.uri} is deleted; restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}) or set tracking.experiment"
        )
    _warn_of_foreign_folder(tracking, experiment)
    path = sqlite_path(tracking.uri)
    if path is not None:
        experiment = follow(client, experiment, path)
    view = saved_view(shown_of(experiment.tags.get(VIEW_TAG)))
    if experiment.tags.get(VIEW_TAG) != view:
        client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, view)
    if KIND_TAG not in experiment.tags:  # what a user has chosen in the UI is left alone
        client.set_experiment_tag(experiment.experiment_id, KIND_TAG, TRAINING)
    return client, experiment


def _make_experiment(client: MlflowClient, tracking: TrackingConf) -> Experiment:
    """A new experiment, or the one that another process has made in this moment."""
    from mlflow.exceptions import MlflowException

    location = _location(tracking)
    try:
        experiment_id = client.create_experiment(tracking.experiment, artifact_location=location)
    except MlflowException as error:
        there = client.get_experiment_by_name(tracking.experiment)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or there is None:
            raise
        return there
    return client.get_experiment(experiment_id)


def _location(tracking: TrackingConf) -> str | None:
    """Where a new experiment's artifacts are to be; None leaves it to the server.

    Raises
    ------
    TrackingError
        For a relative path where there is a server: it would be a folder of whoever comes first.
    """
    given, path = tracking.artifacts, sqlite_path(tracking.uri)
    if given is not None and _URI.match(given):
        return given
    if not _is_local(tracking.uri):
        if given is not None and not Path(given).is_absolute():
            raise TrackingError(
                f"tracking.artifacts={given} would be a folder of this machine, which others that use "
                f"{tracking.uri} have not: leave it to the server (null), or give a URI such as "
                "s3://bucket/path or the absolute path of a shared folder"
            )
        return None if given is None else Path(given).as_uri()
    beside = Path() if path is None else path.parent
    return (beside / _ARTIFACTS if given is None else Path(given)).absolute().as_uri()


def _is_local(uri: str) -> bool:
    """Whether MLflow reads and writes the store by itself: a database, without a server."""
    return "://" in uri and not _is_http(uri) and not uri.startswith("databricks")


def _warn_of_foreign_folder(tracking: TrackingConf, experiment: Experiment) -> None:
    """An experiment of a server whose artifacts were put in a folder of one machine by an earlier client."""
    folder = local_artifacts(str(experiment.artifact_location))
    if _is_http(tracking.uri) and folder is not None and (tracking.uri, folder) not in _warned:
        _warned.add((tracking.uri, folder))
        log.warning(
            "the experiment %s of %s keeps its artifacts in %s, a folder of each machine that writes them: "
            "others will not find them. Another tracking.experiment leaves the place to the server",
            tracking.experiment,
            tracking.uri,
            folder,
        )


_warned: set[tuple[str, Path]] = set()


@contextmanager
def quiet() -> Iterator[None]:
    """MLflow as it is to behave while it is called: what the user has set is left alone."""
    added = {key: value for key, value in _ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


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
            with quiet():
                return action()
        except (MlflowException, SQLAlchemyError, OSError, sqlite3.Error) as error:
            message = str(error)
            if any(sign in message for sign in signs) and attempt + 1 < _TRIES:
                time.sleep(0.2 * 2**attempt)
                continue
            if "out-of-date database schema" in message:
                raise TrackingError(
                    f"the tracking store {uri} is of an older MLflow: make a copy of it, then run: "
                    f"mlflow db upgrade {shlex.quote(uri)} (its runs are kept), or give another tracking.uri"
                ) from error
            first = message.strip().splitlines()[0] if message.strip() else type(error).__name__
            raise TrackingError(
                f"the tracking store {uri} cannot be used ({first}); check tracking.uri and its permissions"
            ) from error
    raise AssertionError("unreachable")


def timestamp() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)
