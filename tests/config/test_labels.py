"""Labels tell the truth: a changed setting shows."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_sweep.config import Configuration, PcaModeConf
from anomaly_sweep.config.labels import label_of
from anomaly_sweep.tasks import parse
from tests.support.multirun import Multirun


@pytest.fixture(scope="module")
def run() -> Multirun:
    return Multirun()


def labels(run: Multirun, *job: str) -> dict[str, str]:
    return parse(run.compose(job))[0].labels


@pytest.mark.parametrize(
    ("job", "group", "label"),
    [
        (["estimator=mvg"], "estimator", "mvg"),
        (["estimator=mvg", "estimator.shrinkage=oas"], "estimator", "mvg[shrinkage=oas]"),
        (["estimator=mvg", "estimator.shrinkage=ledoit_wolf"], "estimator", "mvg"),
        (["estimator=knn1", "estimator.aggregation=kth"], "estimator", "knn1[aggregation=kth]"),
        (
            ["estimator=knn1", "estimator.k=3", "estimator.aggregation=kth"],
            "estimator",
            "knn1[k=3,aggregation=kth]",
        ),
        (["estimator=knn1", "estimator.name=knn5"], "estimator", "knn5[k=1]"),
        (["estimator=flow_differnet"], "estimator", "flow_differnet"),
        (["estimator=flow_differnet", "estimator.steps=50"], "estimator", "flow_differnet[steps=50]"),
        (["estimator=isolation_forest", "+estimator.n_jobs=2"], "estimator", "isolation_forest[n_jobs=2]"),
        (["estimator=one_class_svm", "~estimator.nu"], "estimator", "one_class_svm[~nu]"),
        (
            ["estimator=isolation_forest", "estimator.name=if500", "estimator.n_estimators=500"],
            "estimator",
            "if500",
        ),
        (["estimator.name=../estimator/mvg"], "estimator", "../estimator/mvg"),
        (["augmentation=noise", "augmentation.passes=8"], "augmentation", "noise[passes=8]"),
        (
            ["augmentation=standard", "augmentation.exclude.screw=[flip,blur]"],
            "augmentation",
            "standard[exclude.screw=flip+blur]",
        ),
        (
            ["augmentation=standard", "augmentation.geometry.wood.rotate=10"],
            "augmentation",
            "standard[geometry.wood.rotate=10]",
        ),
        (["layer=level4", "layer.levels=[level3,level4]"], "layer", "level4[levels=level3+level4]"),
        (["pooling=avg", "pooling.kinds=[max]"], "pooling", "avg[kinds=max]"),
        (
            ["backbone.weights=random", "backbone.weights_seed=3", "backbone.input_size=64"],
            "backbone",
            "resnet18",
        ),
        (["backbone.kwargs.zero_init_last=true"], "backbone", "resnet18[kwargs.zero_init_last=true]"),
        (["pca_mode=npca50", "pca_mode.rate=0.3"], "pca_mode", "npca30"),
        (["pca_mode.rate=0.123456789"], "pca_mode", "npca12.3456789"),
        (["pca_mode.rate=0.01", "pca_mode.basis=variance"], "pca_mode", "npca1[basis=variance]"),
        (["pca_mode=none", "pca_mode.rate=0.3"], "pca_mode", "none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_label(run: Multirun, job: list[str], group: str, label: str) -> None:
    found = labels(run, *job)
    assert found.pop(group) == label
    untouched = labels(run)
    untouched.pop(group)
    assert found == untouched


def test_equal_nodes_of_other_objects_have_equal_labels(run: Multirun) -> None:
    configuration = parse(run.compose(["augmentation=noise"]))[0]
    other = dataclasses.replace(
        configuration, augmentation=dataclasses.replace(configuration.augmentation, passes=9)
    )
    assert configuration.labels["augmentation"] == "noise"
    assert other.labels["augmentation"] == "noise[passes=9]"
    assert isinstance(other, Configuration)


@given(st.integers(1, 9999), st.integers(1, 9999))
def test_different_rates_have_different_labels(one: int, other: int) -> None:
    rates = [PcaModeConf(name="x", mode="pca", rate=value / 10_000) for value in (one, other)]
    assert (rates[0].label == rates[1].label) == (one == other)


@given(
    st.dictionaries(st.sampled_from(["k", "aggregation", "other"]), st.integers(0, 2) | st.booleans()),
    st.dictionaries(st.sampled_from(["k", "aggregation", "other"]), st.integers(0, 2) | st.booleans()),
)
def test_different_settings_have_different_labels(one: dict[str, object], other: dict[str, object]) -> None:
    base = {"name": "knn1", "_target_": "anomaly_sweep.estimators.neighbors.NearestNeighborDistance"}
    same = repr(sorted(one.items())) == repr(sorted(other.items()))
    assert (label_of("estimator", {**base, **one}) == label_of("estimator", {**base, **other})) == same


@pytest.mark.parametrize(
    ("job", "label"),
    [
        (["localizer=patchcore_10"], "patchcore_10"),
        (["localizer=patchcore_10", "localizer.coreset=0.05"], "patchcore_10[coreset=0.05]"),
        (["localizer=ridge_shared", "localizer.alpha=1"], "ridge_shared[alpha=1]"),
    ],
)
def test_label_of_an_option_that_inherits(run: Multirun, job: list[str], label: str) -> None:
    assert labels(run, "task=localization", *job)["localizer"] == label
