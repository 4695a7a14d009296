"""A detector and a callback that tell what they do, in whatever process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from numpy.typing import NDArray
from omegaconf import DictConfig

#: Environment variable: the file that each fit adds a line to.
FITS = "ANOMALY_SWEEP_TEST_FITS"
#: Environment variable: the file that each call of the callback adds a line to.
CALLS = "ANOMALY_SWEEP_TEST_CALLS"


def tell(variable: str, line: str) -> None:
    """Add a line to the file that an environment variable names."""
    with Path(os.environ[variable]).open("a") as file:
        file.write(f"{line}\n")


class Told(Callback):
    """Writes down what Hydra calls: for a job its level and estimator, and how it ended."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        tell(CALLS, "sweep start")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        tell(CALLS, "sweep end")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        tell(CALLS, f"{config.layer.name} {config.estimator.name} start")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        tell(CALLS, f"{config.layer.name} {config.estimator.name} {job_return.status.name}")


class Counted:
    """Distance to the mean of the training features; tells each fit, and fails if asked to."""

    score_scale = "ratio"

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.center_: NDArray[np.float64] = np.empty(0)

    def fit(self, X: NDArray[np.float64]) -> Counted:
        tell(FITS, str(X.shape))
        if self.broken:
            raise ValueError("broken on purpose")
        self.center_ = X.mean(axis=0)
        return self

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(X - self.center_, axis=1))
