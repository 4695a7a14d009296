"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from anomaly_sweep.datasets.synthetic import generate

# The same examples on every machine; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))


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


@pytest.fixture(autouse=True)
def no_tracking_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps what it is told in the environment, where a sweep takes its defaults from."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
