"""Opening a tracking store that exists, and never making one that does not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from anomaly_sweep.tracking.store import quiet
from multirun_analysis.errors import AnalysisError

SQLITE_MAGIC = b"SQLite format 3\0"


def connect(tracking_uri: str) -> MlflowClient:
    """Open a tracking store for reading.

    Parameters
    ----------
    tracking_uri
        ``sqlite:///file.db``, ``http://host:port`` or any other URI MLflow knows. A SQLite file has to
        be there already.
    """
    scheme = urlparse(tracking_uri).scheme
    if scheme == "sqlite":
        _check_sqlite(tracking_uri)
    elif scheme in ("", "file") and tracking_uri != "databricks":
        raise AnalysisError(
            f"tracking URI {tracking_uri!r} is a path, not a tracking store: "
            "write sqlite:///path/to/mlflow.db or http://host:port"
        )
    try:
        with quiet():  # a server that is not there: say so now, not after minutes
            client = MlflowClient(tracking_uri=tracking_uri)
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, ValueError) as error:
        raise AnalysisError(f"cannot read the tracking store {tracking_uri}: {_first_line(error)}") from error
    return client


def experiment_ids(client: MlflowClient, tracking_uri: str, name: str | None = None) -> list[str]:
    """Ids of the experiment of that name, or of all that are not deleted when there is no name."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        found |= {experiment.name: experiment.experiment_id for experiment in page}
        token = page.token
        if not token:
            break
    if name is None:
        return list(found.values())
    if name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise AnalysisError(f"{tracking_uri} has no experiment named {name!r}; it has: {there}")
    return [found[name]]


def _check_sqlite(tracking_uri: str) -> None:
    database = make_url(tracking_uri).database
    if not database or database == ":memory:":
        raise AnalysisError(f"tracking URI {tracking_uri!r} names no file: write sqlite:///path/to/mlflow.db")
    path = Path(database)
    if not path.is_file():
        raise AnalysisError(
            f"there is no file {path.absolute()} (from {tracking_uri}): run a sweep first, "
            "or give the URI it was recorded under with --tracking-uri"
        )
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
            raise AnalysisError(f"{path.absolute()} is not an SQLite database (from {tracking_uri})")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
