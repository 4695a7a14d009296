"""Comparisons of sweeps, against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind, ttest_rel

from multirun_analysis.errors import AnalysisError
from multirun_analysis.rendering.table import Table
from multirun_analysis.summary.compare import compare, difference
from tests.support.trials import make_frame

MANY = tuple(f"c{number}" for number in range(6))
GROUPED = ["layer", "pca_mode", "estimator"]


def cells(table: Table) -> dict[tuple[str, str], list[float | None]]:
    return {
        (block.label, row.header): [cell.value for cell in row.cells[:3]]
        for block in table.blocks
        for row in block.rows
    }


@pytest.fixture(scope="module")
def first() -> pd.DataFrame:
    return make_frame(categories=MANY)


@pytest.fixture(scope="module")
def second(first: pd.DataFrame) -> pd.DataFrame:
    other = first.assign(sweep="second", weights="other")
    noise = np.random.default_rng(0).normal(0.02, 0.01, size=len(other))
    other["image_auroc"] += noise + (other["layer"] == "all").astype(float) * 0.05
    return other


def test_differences_are_those_of_the_means(first: pd.DataFrame, second: pd.DataFrame) -> None:
    table = compare(first, second, ("a", "b"))
    shown = cells(table)
    a, b = first["image_auroc"].mean(), second["image_auroc"].mean()
    assert shown["all shared configurations", "mean"] == pytest.approx([a, b, 100 * (b - a)])
    for group in GROUPED:
        plain = [frame.groupby(group)["image_auroc"].mean() for frame in (first, second)]
        for choice in plain[0].index:
            ours, theirs = plain[0][choice], plain[1][choice]
            assert shown[group, choice] == pytest.approx([ours, theirs, 100 * (theirs - ours)])
    notes = "\n".join(table.notes)
    assert "weights differs: pretrained:tf_efficientnet_b5.aa_in1k in a, other in b." in notes
    means = second.groupby(GROUPED)["image_auroc"].mean() - first.groupby(GROUPED)["image_auroc"].mean()
    layer, mode, estimator = means.abs().idxmax()
    largest = (
        "configuration's mean, picked from 30 and so larger than a second run would show: "
        f"efficientnet_b5 {layer} avg none {mode} {estimator} {100 * means.max():+.2f}"
    )
    assert largest in notes
    assert table.columns == ("a", "b", "difference", "[95 %]")


def test_the_interval_is_that_of_paired_categories() -> None:
    rng = np.random.default_rng(1)
    a = rng.uniform(0.5, 1, size=12)
    b = a + 0.01
    paired = difference(a, b, paired=True)
    assert (paired.value, paired.low, paired.high) == pytest.approx((1, 1, 1))
    apart = difference(a, b, paired=False)
    welch = ttest_ind(100 * b, 100 * a, equal_var=False).confidence_interval()
    assert (apart.value, apart.low, apart.high) == pytest.approx((1, welch.low, welch.high))
    c = b + rng.normal(0, 0.02, size=12)
    test = ttest_rel(100 * c, 100 * a).confidence_interval()
    paired = difference(a, c, paired=True)
    assert (paired.low, paired.high) == pytest.approx((test.low, test.high))


def test_what_only_one_has_is_named_and_left_out(first: pd.DataFrame, second: pd.DataFrame) -> None:
    less = second[second["pca_mode"] != "pca10"]
    hole = (less["layer"] == "all") & (less["pca_mode"] == "none") & (less["category"] == "c0")
    table = compare(first, less[~hole], ("a", "b"))
    notes = "\n".join(table.notes)
    assert "Complete in a only: 8 (" in notes
    assert "Failed or missing in b: 2 configurations" in notes
    keys = first[GROUPED].apply(tuple, axis=1)
    gone = (first["pca_mode"] == "pca10") | ((first["layer"] == "all") & (first["pca_mode"] == "none"))
    assert len(set(keys[~gone])) == 22
    assert "Means over 22 configurations" in table.caption[0]
    assert cells(table)["all shared configurations", "mean"][0] == pytest.approx(
        first[~gone]["image_auroc"].mean()
    )


def test_another_data_set_is_not_paired(first: pd.DataFrame) -> None:
    other = make_frame(categories=[f"d{number}" for number in range(8)], dataset="visa")
    table = compare(first, other, ("a", "b"))
    assert "over each own categories" in table.caption[0]
    notes = "\n".join(table.notes)
    assert "dataset differs: mvtec_ad in a, visa in b." in notes
    assert "Categories that only one has: c0" in notes


def test_the_same_few_or_none(first: pd.DataFrame) -> None:
    assert "Every shared value is the same." in compare(first, first, ("a", "b")).notes
    few = make_frame()
    table = compare(few, few, ("a", "b"))
    assert "No intervals with fewer than 5 categories." in table.notes
    assert all(row.cells[3].text == "" for block in table.blocks for row in block.rows)
    other = make_frame({"backbone": ("resnet18",)}, MANY)
    with pytest.raises(AnalysisError, match="share no configuration that is complete in both: 30 and 30"):
        compare(first, other, ("a", "b"))
    mixed = pd.concat([first, make_frame(categories=MANY, weights="w")], ignore_index=True)
    with pytest.raises(AnalysisError, match="several values of weights"):
        compare(first, mixed, ("a", "b"))
