"""A detector whose work can be counted, in whatever process it is done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Environment variable: the file that each fit adds a line to.
FITS = "ANOMALY_SWEEP_TEST_FITS"


class Counted:
    """Distance to the mean of the training features; tells each fit, and fails if asked to."""

    score_scale = "ratio"

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.center_: NDArray[np.float64] = np.empty(0)

    def fit(self, X: NDArray[np.float64]) -> Counted:
        with Path(os.environ[FITS]).open("a") as file:
            file.write(f"{X.shape}\n")
        if self.broken:
            raise ValueError("broken on purpose")
        self.center_ = X.mean(axis=0)
        return self

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(X - self.center_, axis=1))
