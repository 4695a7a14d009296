"""Any pivot, against pandas' own, and the conditions as a user writes them."""

from __future__ import annotations

import pandas as pd
import pytest

from multirun_analysis.errors import AnalysisError
from multirun_analysis.rendering.table import Table
from multirun_analysis.summary.pivot import pivot
from multirun_analysis.trials.filter import matching, parse_where
from tests.support.trials import make_frame

LOOSE = {"check_names": False, "check_index_type": False, "check_column_type": False}
LEVELS = ("level1", "level2", "level10", "all")


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    return make_frame({"layer": LEVELS, "estimator": ("mvg", "knn1", "flow")})


def values(table: Table) -> pd.DataFrame:
    (block,) = table.blocks
    lines = {row.header: [cell.value for cell in row.cells] for row in block.rows}
    return pd.DataFrame.from_dict(lines, orient="index", columns=list(table.columns)).astype(float)


def test_categories_by_layers(grid: pd.DataFrame) -> None:
    table = pivot(grid, "category", "layer", "estimator=mvg & pca_mode=npca50")
    chosen = grid[(grid["estimator"] == "mvg") & (grid["pca_mode"] == "npca50")]
    plain = chosen.pivot_table("image_auroc", "category", "layer", margins=True, margins_name="mean")
    shown = values(table)
    assert list(shown.columns) == list(LEVELS)
    assert list(shown.index) == ["bottle", "cable", "screw", "mean"]
    pd.testing.assert_frame_equal(shown, plain.loc[shown.index, list(LEVELS)], **LOOSE)
    for row in table.blocks[0].rows:
        best = max(cell.printed or "" for cell in row.cells)
        assert all(cell.bold == (cell.printed == best) for cell in row.cells)


def test_layers_by_categories_is_its_transpose(grid: pd.DataFrame) -> None:
    where = "estimator=mvg & pca_mode=npca50"
    across = pivot(grid, "layer", "category", where)
    down = pivot(grid, "category", "layer", where)
    pd.testing.assert_frame_equal(values(across), values(down).T)
    bold = [[cell.bold for cell in row.cells] for row in across.blocks[0].rows]
    turned = [[cell.bold for cell in row.cells] for row in down.blocks[0].rows]
    assert [list(line) for line in zip(*bold, strict=True)] == turned


def test_alternatives_averages_and_order(grid: pd.DataFrame) -> None:
    table = pivot(grid, "pca_mode", "estimator", "layer=level1|level10 & estimator=flow|mvg", ["layer"])
    chosen = grid[grid["layer"].isin(["level1", "level10"])]
    plain = chosen.pivot_table("image_auroc", "pca_mode", "estimator")
    shown = values(table)
    assert list(shown.columns) == ["mvg", "flow"]
    assert list(shown.index) == ["none", "pca10", "pca50", "npca10", "npca50"]
    pd.testing.assert_frame_equal(shown, plain.loc[shown.index, ["mvg", "flow"]], **LOOSE)
    assert "Averaged over: layer." in table.caption[0]


def test_a_condition_on_categories_asks_for_their_mean(grid: pd.DataFrame) -> None:
    where = "category=bottle|screw & layer=all"
    table = pivot(grid, "pca_mode", "estimator", where)
    chosen = grid[grid["category"].isin(["bottle", "screw"]) & (grid["layer"] == "all")]
    plain = chosen.pivot_table("image_auroc", "pca_mode", "estimator")
    pd.testing.assert_frame_equal(
        values(table), plain.loc[values(table).index, values(table).columns], **LOOSE
    )
    assert "Coverage: 2 of 2" in table.notes[0]
    assert "category=bottle|screw" in table.caption[0]


@pytest.mark.parametrize("column", ["image_ap", "image_f1max", "image_fpr95"])
def test_other_metrics(grid: pd.DataFrame, column: str) -> None:
    table = pivot(grid, "pca_mode", "estimator", "layer=all", value=column)
    plain = grid[grid["layer"] == "all"].pivot_table(column, "pca_mode", "estimator")
    shown = values(table)
    pd.testing.assert_frame_equal(shown, plain.loc[shown.index, shown.columns], **LOOSE)
    # Of the false positive rate the lowest is the best; all are printed as shares.
    best = shown.idxmin(axis=1) if column == "image_fpr95" else shown.idxmax(axis=1)
    for row in table.blocks[0].rows:
        bold = [name for name, cell in zip(table.columns, row.cells, strict=True) if cell.bold]
        assert best[row.header] in bold
        assert all(cell.decimals == 3 for cell in row.cells)


def test_holes_are_holes(grid: pd.DataFrame) -> None:
    holed = grid.copy()
    one = (holed["category"] == "cable") & (holed["layer"] == "level1")
    holed.loc[one, ["image_auroc", "status", "reason"]] = [float("nan"), "failed", "why"]
    shown = values(pivot(holed, "category", "layer", "estimator=mvg & pca_mode=npca50"))
    assert shown.isna().sum().sum() == 2  # the value, and the mean that needs it
    assert pd.isna(shown.at["mean", "level1"])
    assert pd.isna(shown.at["cable", "level1"])
    failed = make_frame(failed=lambda row: row["layer"] == "all")
    with pytest.raises(AnalysisError, match=r"would be empty.*singular"):
        pivot(failed, "pca_mode", "estimator", "layer=all")


@pytest.mark.parametrize(
    ("rows", "cols", "where", "says"),
    [
        ("category", "leyer", "", "no dimension 'leyer'; there are: sweep, category, task, dataset"),
        ("category", "sweep", "", "sweep is no dimension of a table"),
        ("layer", "layer", "", "both layer"),
        ("category", "layer", "estimator=mgv", "no trial has estimator=mgv; there are: mvg, knn1, flow"),
        ("category", "layer", "estimator", "write name=value"),
        ("category", "layer", "estimator=", "write name=value"),
        ("category", "layer", "estimator=mvg & estimator=knn1", "names estimator twice"),
        ("category", "layer", "estimator=mvg", r"pca_mode \("),
        ("pca_mode", "estimator", "", r"layer \("),
    ],
)
def test_what_cannot_be_answered_is_said(
    grid: pd.DataFrame, rows: str, cols: str, where: str, says: str
) -> None:
    with pytest.raises(AnalysisError, match=says):
        pivot(grid, rows, cols, where)


def test_conditions_that_exclude_each_other() -> None:
    frame = make_frame()
    frame = frame[(frame["layer"] != "all") | (frame["estimator"] != "mvg")]
    with pytest.raises(AnalysisError, match="no trial meets all"):
        pivot(frame, "category", "pca_mode", "layer=all & estimator=mvg")


def test_values_with_brackets_and_numbers() -> None:
    frame = make_frame({"pca_mode": ("npca50", "npca50[basis=variance]")})
    found = parse_where("pca_mode=npca50[basis=variance] & input_size=456", frame)
    assert found == {"pca_mode": ("npca50[basis=variance]",), "input_size": (456,)}
    assert len(matching(frame, found)) == len(frame) // 2
    assert parse_where("", frame) == {}
    assert len(matching(frame, {})) == len(frame)
