"""Stores, rows and runs."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.content import ConfigurationRun
from anomaly_sweep.tracking.sqlite import prepare
from anomaly_sweep.tracking.writer import Recorder


def conf(folder: Path, **changes: Any) -> TrackingConf:
    """A store of its own in a folder."""
    return TrackingConf(
        **{"uri": f"sqlite:///{folder}/mlflow.db", "artifacts": str(folder / "artifacts"), **changes}
    )


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / "mlflow.db")
        with closing(sqlite3.connect(Path(folder) / "mlflow.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (Path(folder) / "mlflow.db").read_bytes()


def store(folder: Path, **changes: Any) -> TrackingConf:
    """As ``conf``, with a new database that has been made already: that takes seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "mlflow.db").exists():
        (folder / "mlflow.db").write_bytes(_template())
    return conf(folder, **changes)


def row(category: str, auc: float | None, reason: str = "", **changes: Any) -> dict[str, Any]:
    """A row of the long table."""
    blank = dict.fromkeys(names.TRIAL_COLUMNS)
    status = names.STATUS_OK if auc is not None else names.STATUS_FAILED
    known = {"category": category, "image_auroc": auc, "n_train": 3, "n_test": 5, "run_id": ""}
    return {**blank, **known, "status": status, "reason": reason, **changes}


def configuration_run(rows: list[dict[str, Any]], **changes: Any) -> ConfigurationRun:
    """A configuration to record."""
    given: dict[str, Any] = {
        "labels": dict.fromkeys(names.GROUPS, "x"),
        "context": {"dataset": "d", "weights": "w", "input_size": "64"},
        "rows": rows,
        "fingerprint": "f1",
        "sweep": "s",
        "parent": None,
        "config": {"k": 1},
        "warning": None,
    }
    return ConfigurationRun(**{**given, **changes})


def record(recorder: Recorder, rows: list[dict[str, Any]], **changes: Any) -> str:
    """Record one configuration; its run id."""
    ((_, run_id),) = recorder.record([configuration_run(rows, **changes)])
    return run_id
