"""What the embedded images are for, on real features: deep beats shallow, and NPCA beats PCA."""

from __future__ import annotations

import importlib

import pandas as pd
import pytest

from anomaly_sweep import compose, long_table, run_configurations
from anomaly_sweep.datasets.synthetic import generate
from anomaly_sweep.datasets.synthetic.catalogue import PRODUCTS
from anomaly_sweep.errors import WeightsError
from anomaly_sweep.features.backbone.packaged import packaged

RATES = (10, 20, 30, 40, 50)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Every third product, as many images as the data set has by default."""
    try:
        packaged("tf_efficientnet_lite0").locate()
    except WeightsError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.import_module("anomaly_sweep.datasets.synthetic.generate"), "PRODUCTS", PRODUCTS[::3]
        )
        generate(folder / "data", n_train=60, n_test_good=20, n_per_defect=10)
    modes = ",".join(f"{mode}{rate}" for rate in RATES for mode in ("pca", "npca"))
    sweep = compose(
        "dataset=folder",
        "dataset.name=some",
        f"dataset.root={folder / 'data'}",
        "dataset.input_size=128",
        "backbone=efficientnet_lite0",
        "layer=level1,level7",
        f"pca_mode={modes}",
        "estimator=mvg,knn1",
        "runtime.workers=1",
        "runtime.device=cpu",
        f"runtime.cache_dir={folder / 'cache'}",
        f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
    )
    table = long_table(run_configurations(*sweep))
    assert (table["status"] == "ok").all()
    return table


@pytest.mark.parametrize("estimator", ["mvg", "knn1"])
def test_deep_beats_shallow_and_the_least_variance_beats_the_most(
    trials: pd.DataFrame, estimator: str
) -> None:
    """Signs only: both differences are .1 and more of AUROC, means over the products."""
    own = trials[trials["estimator"] == estimator]
    means = own.pivot_table(index="layer", columns="pca_mode", values="image_auroc", aggfunc="mean")
    assert means.loc["level7", "npca50"] > means.loc["level1", "npca50"]
    for rate in RATES:
        assert means.loc["level7", f"npca{rate}"] > means.loc["level7", f"pca{rate}"], rate
