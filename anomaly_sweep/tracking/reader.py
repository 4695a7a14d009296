"""Reading a tracking store: the one way in which both packages look at what was recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.artifacts import local_artifacts
from anomaly_sweep.tracking.moved import relocation
from anomaly_sweep.tracking.sqlite import sqlite_path, whole_uri
from anomaly_sweep.tracking.store import quiet, retrying

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_SQLITE_MAGIC = b"SQLite format 3\0"


class Reader:
    """A tracking store opened for reading.

    Parameters
    ----------
    client : MlflowClient
    uri : str
        The client's.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self.client = client
        self.uri = uri
        self._moved: dict[str, tuple[str, str] | None] = {}  # experiment -> where its artifacts were, and are

    @classmethod
    def open(cls, uri: str) -> Reader:
        """Open a store that exists; one that does not is never made.

        Parameters
        ----------
        uri : str
            ``sqlite:///file.db``, ``http://host:port`` or any other URI MLflow knows. A SQLite file has to be
            there already.

        Raises
        ------
        TrackingError
            If it is not there, is no tracking store or cannot be read.
        """
        scheme = urlparse(uri).scheme
        if scheme == "sqlite":
            _check_sqlite(uri)
        elif scheme in ("", "file") and uri != "databricks":
            raise TrackingError(
                f"tracking URI {uri!r} is a path, not a tracking store: "
                "write sqlite:///path/to/mlflow.db or http://host:port"
            )
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with quiet():  # a server that is not there: say so now, not after minutes
                client = MlflowClient(tracking_uri=whole_uri(uri))
                client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError, ImportError, ValueError) as error:
            raise TrackingError(f"cannot read the tracking store {uri}: {_first_line(error)}") from error
        return cls(client, uri)

    def experiments(self) -> dict[str, str]:
        """Name -> id of the experiments that are not deleted."""
        found: dict[str, str] = {}
        token = None
        while True:
            search = partial(self.client.search_experiments, page_token=token)
            page = retrying(search, self.uri)
            found |= {str(one.name): str(one.experiment_id) for one in page}
            token = page.token
            if not token:
                return found

    def runs(self, experiments: Sequence[str], query: str, order_by: Sequence[str] = ()) -> Iterator[Run]:
        """All active runs that a filter selects, page by page.

        Parameters
        ----------
        experiments : sequence of str
            Their ids.
        query : str
            As MLflow's ``filter_string``.
        order_by : sequence of str

        Raises
        ------
        TrackingError
            If the store cannot be read.
        """
        token = None
        while True:
            search = partial(
                self.client.search_runs,
                list(experiments),
                query,
                max_results=_PAGE,
                order_by=list(order_by),
                page_token=token,
            )
            page = retrying(search, self.uri)
            yield from page
            token = page.token
            if not token:
                return

    @contextmanager
    def artifact(self, run: Run, name: str) -> Iterator[Path]:
        """One artifact of a run as a file: the file itself where it is local, else a download.

        Raises
        ------
        OSError, mlflow.exceptions.MlflowException
            If it cannot be had. A local file is not looked for.
        """
        folder = local_artifacts(self.place(run))
        if folder is not None:
            yield folder / name
            return
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory() as place:
            with quiet():
                path = download_artifacts(
                    run_id=run.info.run_id, artifact_path=name, dst_path=place, tracking_uri=self.uri
                )
            yield Path(path)

    def place(self, run: Run) -> str:
        """Where a run's artifacts are, although the store's folder was moved."""
        place, experiment = str(run.info.artifact_uri), str(run.info.experiment_id)
        if experiment not in self._moved:
            self._moved[experiment] = self._relocation(experiment)
        moved = self._moved[experiment]
        if moved is not None and place.startswith(f"{moved[0]}/"):
            return moved[1] + place.removeprefix(moved[0])
        return place

    def _relocation(self, experiment: str) -> tuple[str, str] | None:
        file = sqlite_path(self.uri)
        if file is None:
            return None
        found = retrying(lambda: self.client.get_experiment(experiment), self.uri)
        location = str(found.artifact_location)
        now = relocation(location, found.tags.get(names.TAG_STORE), file)
        return None if now is None else (location, now)


def _check_sqlite(uri: str) -> None:
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    if not database or database == ":memory:":
        raise TrackingError(f"tracking URI {uri!r} names no file: write sqlite:///path/to/mlflow.db")
    path = Path(database)
    if not path.is_file():
        raise TrackingError(
            f"there is no file {path.absolute()} (from {uri}): run a sweep first, "
            "or give the URI it was recorded under with --tracking-uri"
        )
    with path.open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            raise TrackingError(f"{path.absolute()} is not an SQLite database (from {uri})")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
