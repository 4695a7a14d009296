"""An empty tracking store, copied for each test that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine, event

from tests.support.trials import Store


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Databases of tests need not survive a power cut: most of their time would be waiting for the disk."""

    def relax(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    yield
    event.remove(Engine, "connect", relax)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema and no run: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("empty")
    MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> Store:
    """An empty tracking store with the experiment."""
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    return Store(tmp_path)
