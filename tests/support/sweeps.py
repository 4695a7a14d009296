"""Small sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly_sweep.config import (
    AugmentationConf,
    BackboneConf,
    Configuration,
    DatasetConf,
    LayerConf,
    PcaModeConf,
    PoolingConf,
    RuntimeConf,
    TrackingConf,
)
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.sweep.folders import file_index
from anomaly_sweep.sweep.run.choice import open_executor
from anomaly_sweep.sweep.run.executor import ShardOutcome, execute
from anomaly_sweep.sweep.run.piece import cut
from anomaly_sweep.sweep.run.progress import Progress
from anomaly_sweep.tasks.base import ShardWork

LEVELS = {f"level{i}": node for i, node in enumerate(("maxpool", *(f"layer{j}" for j in range(1, 5))), 1)}
MVG = {
    "name": "mvg",
    "_target_": "anomaly_sweep.estimators.gaussian.MultivariateGaussian",
    "shrinkage": "ledoit_wolf",
}
KNN1 = {"name": "knn1", "_target_": "anomaly_sweep.estimators.neighbors.NearestNeighborDistance", "k": 1}
FLOW = {"name": "flow", "_target_": "anomaly_sweep.estimators.flow.coupling_flow", "steps": 5}


def configuration(root: Path, **changes: Any) -> Configuration:
    """One configuration on two tiny categories with random weights."""
    nodes: dict[str, Any] = {
        "dataset": DatasetConf(name="tiny", root=str(root), categories=["washer", "linen"], input_size=64),
        "backbone": BackboneConf(
            name="resnet18",
            model="resnet18.tv_in1k",
            levels=LEVELS,
            weights="random",
            kwargs={"zero_init_last": False},
        ),
        "layer": LayerConf(name="level2", levels=["level2"]),
        "pooling": PoolingConf(name="avg", kinds=["avg"]),
        "augmentation": AugmentationConf(name="none"),
        "pca_mode": PcaModeConf(name="npca50", mode="npca", rate=0.5),
        "estimator": MVG,
    }
    return Configuration(**{**nodes, **changes})


def grid(
    root: Path, layers: Sequence[str], rates: Sequence[float], estimators: Sequence[dict[str, Any]]
) -> list[Configuration]:
    """Layers x NPCA rates x estimators."""
    return [
        configuration(
            root,
            layer=LayerConf(name=layer, levels=[layer]),
            pca_mode=PcaModeConf(name="npca", mode="npca", rate=rate),
            estimator=estimator,
        )
        for layer, rate, estimator in itertools.product(layers, rates, estimators)
    ]


def tracking(folder: Path) -> TrackingConf:
    """A store of its own in a folder."""
    return TrackingConf(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts"))


def runtime(folder: Path, **changes: Any) -> RuntimeConf:
    """One process, a cache of its own."""
    return RuntimeConf(**{"device": "cpu", "workers": 1, "cache_dir": str(folder / "cache"), **changes})


def computed(works: Sequence[ShardWork], conf: RuntimeConf, progress: Progress) -> list[ShardOutcome]:
    """Work through planned work, as far as a sweep does before anything is kept or recorded."""
    with open_executor(works, conf) as executor:
        executor.prepare(works, progress.forecast)
        pieces = cut(works, progress.forecast, cache_at(conf.cache_dir))
        return list(execute(pieces, executor, progress, file_index(conf)))
