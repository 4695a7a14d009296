"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anomaly_sweep.datasets.synthetic import generate


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic data set, very small: 15 categories of 6 training and 4 + 3 x 2 test images, 64 px."""
    root = tmp_path_factory.mktemp("tiny") / "synthetic"
    generate(root, size=64, n_train=6, n_test_good=4, n_per_defect=2)
    return root


@pytest.fixture
def real_folder() -> Path:
    """The folder with real images and weights (``data/mvtec_ad_320``, ``weights``)."""
    folder = os.environ.get("ANOMALY_SWEEP_REAL")
    if not folder:
        pytest.skip("ANOMALY_SWEEP_REAL does not name a folder with real images and weights")
    return Path(folder)
