"""Sweeps as the contract says they look in MLflow, small, and frames of trials without MLflow."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from anomaly_sweep.tracking import names

CATEGORIES = ("bottle", "cable", "screw")
CHOICES = (*names.GROUPS, "localizer")
GRID: dict[str, tuple[str, ...]] = {
    "backbone": ("efficientnet_b5",),
    "layer": ("level6", "level7", "all"),
    "pooling": ("avg",),
    "augmentation": ("none",),
    "pca_mode": ("none", "pca10", "pca50", "npca10", "npca50"),
    "estimator": ("mvg", "knn1"),
}
WEIGHTS = "pretrained:tf_efficientnet_b5.aa_in1k"
LOCALIZERS = ("ridge", "patchcore", "padim")
LOCALIZER_WEIGHTS = "pretrained:wide_resnet101_2.tv_in1k"
#: Metrics of detection beside AUROC.
IMAGE_METRICS = ("image_ap", "image_f1max", "image_fpr95")
#: Metrics of localization beside AUROC, pixel AUROC and AUPRO.
FURTHER_METRICS = (*IMAGE_METRICS, "pixel_ap", "pixel_f1max")
VERSIONS = "torch==2.13.0, timm==1.0.20"


def auc_of(choices: dict[str, Any], category: str) -> float:
    """A value that depends on every choice, the same in every process."""
    return 0.5 + share(*(choices[name] for name in names.GROUPS), category) / 2


def share(*key: str) -> float:
    """Between 0 and 1, the same in every process."""
    return zlib.crc32("/".join(key).encode()) / 2**32


def make_rows(
    grid: dict[str, tuple[str, ...]] | None = None,
    categories: Iterable[str] = CATEGORIES,
    failed: Callable[[dict[str, Any]], bool] = lambda row: False,
    **fixed: Any,
) -> list[dict[str, Any]]:
    """Rows of the long table for a product of choices."""
    grid = GRID | (grid or {})
    rows = []
    for number, values in enumerate(itertools.product(*grid.values())):
        choices = dict(zip(grid, values, strict=True))
        for category in categories:
            row = (
                dict.fromkeys(names.TRIAL_COLUMNS)
                | choices
                | {
                    "sweep": "first",
                    "run_id": f"run{number}",
                    "task": names.DETECTION,
                    "dataset": "mvtec_ad",
                    "category": category,
                    "weights": WEIGHTS,
                    "input_size": 456,
                    "image_auroc": auc_of(choices, category),
                    **{name: share(name, *choices.values(), category) for name in IMAGE_METRICS},
                    "n_features": 10,
                    "n_train": 20,
                    "n_test": 30,
                    "fit_seconds": 0.5,
                    "score_seconds": 0.25,
                    "status": names.STATUS_OK,
                    "reason": "",
                    "fingerprint": f"{zlib.crc32(repr((choices, category, fixed)).encode()):08x}",
                }
            )
            row |= fixed
            if failed(row):
                row |= dict.fromkeys(("image_auroc", *IMAGE_METRICS))
                row |= {"status": names.STATUS_FAILED, "reason": "singular"}
            rows.append(row)
    return rows


def make_localization_rows(
    localizers: Iterable[str] = LOCALIZERS,
    categories: Iterable[str] = CATEGORIES,
    failed: Callable[[dict[str, Any]], bool] = lambda row: False,
    **fixed: Any,
) -> list[dict[str, Any]]:
    """Rows of the long table for some localizers; values and times depend on localizer and category."""
    rows = []
    for number, localizer in enumerate(localizers):
        for category in categories:
            own = (localizer, category)
            row = dict.fromkeys(names.TRIAL_COLUMNS) | {
                "sweep": "located",
                "run_id": f"place{number}",
                "task": "localization",
                "dataset": "mvtec_ad",
                "category": category,
                "backbone": "wide_resnet101_2",
                "weights": LOCALIZER_WEIGHTS,
                "input_size": 256,
                "localizer": localizer,
                "image_auroc": 0.9 + share("image", *own) / 10,
                "pixel_auroc": 0.95 + share("pixel", *own) / 20,
                "aupro": 0.85 + share("pro", *own) / 10,
                "aupro_mvtec": 0.847 + share("pro", *own) / 10,
                **{name: 0.5 + share(name, *own) / 3 for name in FURTHER_METRICS},
                "n_train": 200,
                "n_test": 80 + len(category),
                "fit_seconds": 3.0,
                "score_seconds": 0.1 + share("score", *own),
                "map_seconds": 0.2 + share("map", *own),
                "backbone_seconds": 2.0 + share("backbone", *own),
                "state_bytes": 1_000_000 + len(localizer),
                "device": "cpu, 2 threads",
                "status": names.STATUS_OK,
                "reason": "",
                "fingerprint": f"{zlib.crc32(repr((own, fixed)).encode()):08x}",
            }
            row |= fixed
            if failed(row):
                measured = (*names.PREFIXES, "n_test", *names.TOTALS, "state_bytes")
                row |= dict.fromkeys((*measured, "device"))
                row |= {"status": names.STATUS_FAILED, "reason": "out of memory"}
            rows.append(row)
    return rows


def make_localization(*args: Any, **kwargs: Any) -> pd.DataFrame:
    """`make_localization_rows` as the analysis sees them."""
    from multirun_analysis.trials.long_table import as_trials

    return as_trials(pd.DataFrame(make_localization_rows(*args, **kwargs)))


def make_frame(*args: Any, **kwargs: Any) -> pd.DataFrame:
    """`make_rows` as the analysis sees them."""
    from multirun_analysis.trials.long_table import as_trials

    return as_trials(pd.DataFrame(make_rows(*args, **kwargs)))


class Store:
    """A tracking store in a folder, written by the contract."""

    def __init__(self, folder: Path, experiment: str = "anomaly_sweep") -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)
        artifacts = (folder / "artifacts").as_uri()
        found = self.client.get_experiment_by_name(experiment)
        self.experiment = (
            found.experiment_id
            if found
            else self.client.create_experiment(experiment, artifact_location=artifacts)
        )

    def add_sweep(
        self,
        rows: list[dict[str, Any]],
        name: str = "first",
        *,
        start: int = 1_000,
        finished: bool = True,
        long_table: bool = True,
        parent: bool = True,
        tables: bool = True,
    ) -> tuple[str | None, list[str]]:
        """Record rows as one sweep; returns the parent's id and the children's."""
        parent_id = None
        if parent:
            tags = {names.TAG_KIND: names.KIND_SWEEP, names.TAG_SWEEP: name, names.TAG_VERSIONS: VERSIONS}
            parent_id = self.client.create_run(self.experiment, start_time=start, tags=tags).info.run_id
        recorded, children = [], []
        by_configuration = itertools.groupby(rows, key=lambda row: [row[group] for group in CHOICES])
        for number, (_, group) in enumerate(by_configuration):
            trials = [row | {"sweep": name} for row in group]
            children.append(self.add_configuration(trials, name, parent_id, start + number, tables=tables))
            recorded += [row | {"run_id": children[-1]} for row in trials]
        if parent_id is not None:
            if long_table:
                path = self.folder / names.LONG_TABLE
                pd.DataFrame(recorded).to_parquet(path)
                self.client.log_artifact(parent_id, str(path))
            if finished:
                self.client.set_terminated(parent_id, end_time=start + 10_000)
        return parent_id, children

    def add_configuration(
        self,
        rows: list[dict[str, Any]],
        name: str = "first",
        parent_id: str | None = None,
        start: int = 1_000,
        *,
        tables: bool = True,
    ) -> str:
        """Record one configuration run."""
        tags = {names.TAG_KIND: names.KIND_CONFIGURATION, names.TAG_SWEEP: name}
        if parent_id is not None:
            tags[names.TAG_PARENT] = parent_id
        run_id: str = self.client.create_run(self.experiment, start_time=start, tags=tags).info.run_id
        metrics = {}
        for column, prefix in names.PREFIXES.items():
            there = {row["category"]: row[column] for row in rows if row[column] is not None}
            metrics |= {f"{prefix}{category}": value for category, value in there.items()}
            if len(there) == len(rows):
                metrics[prefix + names.MEAN] = sum(there.values()) / len(there)
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, value, start, 0) for key, value in metrics.items()],
            params=[
                Param(key, str(rows[0][key]))
                for key in (*CHOICES, *names.CONTEXT_PARAMS)
                if rows[0][key] is not None
            ],
            tags=[RunTag(names.TAG_VERSION, "0.1.0")],
        )
        if tables:
            path = self.folder / "artifacts" / run_id / "artifacts" / names.PER_CLASS_TABLE
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps([row | {"run_id": run_id} for row in rows]), encoding="utf-8")
        self.client.set_terminated(run_id, end_time=start + 500)
        return run_id
