"""Means and their coverage, against plain pandas and a plain loop."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multirun_analysis.errors import AnalysisError
from multirun_analysis.summary.means import mean_table
from multirun_analysis.trials.long_table import as_trials
from tests.support.trials import CATEGORIES, make_frame, make_rows

AT = {"layer": "level7", "pooling": "avg", "augmentation": "none"}


def test_whole_cells_are_the_plain_means() -> None:
    frame = make_frame()
    result = mean_table(frame, "pca_mode", "estimator", AT)
    plain = frame[frame["layer"] == "level7"].groupby(["pca_mode", "estimator"])["image_auroc"].mean()
    for (mode, estimator), value in plain.items():
        assert result.value(mode, estimator) == pytest.approx(value, abs=1e-12)
    assert (result.present == 3).all(axis=None)
    assert (result.expected == 3).all(axis=None)
    assert result.holes.empty
    assert result.value("npca99", "mvg") is None
    assert result.value("none", "svm") is None


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_cell_is_there_only_where_every_category_is(data: st.DataObject) -> None:
    rows = make_rows({"layer": ("level6", "level7"), "pca_mode": ("none", "npca50")})
    fates = data.draw(st.lists(st.sampled_from("okkkfm"), min_size=len(rows), max_size=len(rows)))
    kept = [
        row if fate in "ok" else row | {"status": "failed", "image_auroc": None, "reason": "why"}
        for row, fate in zip(rows, fates, strict=True)
        if fate != "m"
    ]
    categories = {row["category"] for row in kept}
    layers = {row["layer"] for row in kept}
    if not kept:
        return
    result = mean_table(
        as_trials(pd.DataFrame(kept)),
        "pca_mode",
        "estimator",
        {"pooling": "avg"},
        average_over=["layer"],
    )
    holes = 0
    for mode in {row["pca_mode"] for row in kept}:
        for estimator in {row["estimator"] for row in kept}:
            cell = [row for row in kept if row["pca_mode"] == mode and row["estimator"] == estimator]
            good = {(r["category"], r["layer"]): r["image_auroc"] for r in cell if r["status"] == "ok"}
            need = {(category, layer) for category in categories for layer in layers}
            holes += len(need - set(good))
            value = result.value(mode, estimator)
            if set(good) == need:
                assert value == pytest.approx(sum(good.values()) / len(good), abs=1e-12)
            else:
                assert value is None
            whole = [c for c in categories if all((c, layer) in good for layer in layers)]
            assert result.present.at[mode, estimator] == len(whole)
            assert result.expected.at[mode, estimator] == len(categories)
    assert len(result.holes) == holes
    assert set(result.holes["status"]) <= {"failed", "missing"}


def test_categories_are_those_of_the_data_set_not_of_the_selection() -> None:
    frame = make_frame()
    frame = frame[(frame["layer"] != "level7") | (frame["category"] != "screw")]
    result = mean_table(frame, "pca_mode", "estimator", AT)
    assert result.values.isna().all(axis=None)
    assert (result.present == 2).all(axis=None)
    assert (result.expected == 3).all(axis=None)
    assert set(result.holes["category"]) == {"screw"}


def test_categories_as_rows_show_the_values_themselves() -> None:
    frame = make_frame(failed=lambda row: row["category"] == "cable" and row["layer"] == "all")
    result = mean_table(
        frame, "category", "layer", AT | {"layer": None, "pca_mode": "npca50", "estimator": "knn1"}
    )
    assert list(result.values.index) == list(CATEGORIES)
    assert result.value("cable", "all") is None
    assert result.value("cable", "level7") is not None
    assert (result.expected == 1).all(axis=None)


def test_a_free_dimension_is_named() -> None:
    with pytest.raises(AnalysisError, match=r"average over, layer \(all, level6, level7\)"):
        mean_table(make_frame(), "pca_mode", "estimator", {"pooling": "avg"})
    mixed = pd.concat([make_frame(), make_frame(weights="random:seed0")], ignore_index=True)
    with pytest.raises(AnalysisError, match=r"weights \(pretrained:.*, random:seed0\)"):
        mean_table(mixed, "pca_mode", "estimator", AT)


def test_a_dimension_that_differs_between_categories_is_free_too() -> None:
    frame = make_frame(weights="a")
    frame.loc[frame["category"] == "screw", "weights"] = "b"
    with pytest.raises(AnalysisError, match="weights"):
        mean_table(frame, "pca_mode", "estimator", AT)


def test_two_data_sets_are_never_one_table() -> None:
    both = pd.concat([make_frame(), make_frame(categories=["nut"], dataset="mine")], ignore_index=True)
    with pytest.raises(AnalysisError, match="dataset"):
        mean_table(both, "category", "estimator", AT | {"pca_mode": "none"})
    result = mean_table(both, "dataset", "estimator", AT | {"pca_mode": "none"})
    assert result.expected["mvg"].to_dict() == {"mvtec_ad": 3, "mine": 1}
    assert result.values.notna().all(axis=None)


def test_repeated_trials_are_refused() -> None:
    frame = make_frame()
    with pytest.raises(AnalysisError, match="more than once"):
        mean_table(pd.concat([frame, frame], ignore_index=True), "pca_mode", "estimator", AT)


def test_layers_are_averaged_per_backbone() -> None:
    rows = make_rows({"pca_mode": ("none",)})
    rows += make_rows({"pca_mode": ("none",), "backbone": ("resnet18",), "layer": ("level1", "all")})
    frame = as_trials(pd.DataFrame(rows))
    result = mean_table(frame, "backbone", "estimator", {"pca_mode": "none"}, average_over=["layer"])
    plain = frame.groupby(["backbone", "estimator"])["image_auroc"].mean().unstack()
    for backbone in plain.index:
        for estimator in plain.columns:
            assert result.value(backbone, estimator) == pytest.approx(plain.at[backbone, estimator])


def test_an_axis_that_is_asked_for_keeps_its_order_and_its_gaps() -> None:
    where = AT | {"estimator": ("knn1", "flow", "mvg")}
    result = mean_table(make_frame(), "pca_mode", "estimator", where)
    assert list(result.values.columns) == ["knn1", "flow", "mvg"]
    assert result.values["flow"].isna().all()
    assert (result.present["flow"] == 0).all()


def test_nothing_selected_is_an_empty_table() -> None:
    result = mean_table(make_frame(), "pca_mode", "estimator", {"layer": "level1"})
    assert result.values.empty
    assert result.holes.empty
