"""The paper's tables against a plain groupby, with holes, ties and other data sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multirun_analysis import tables
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.ono_mori import table2
from multirun_analysis.papers.ono_mori import tables as ono_mori_tables
from multirun_analysis.papers.ono_mori.study import choose_study
from multirun_analysis.papers.ono_mori.tables import AUGMENTATIONS, ESTIMATORS
from multirun_analysis.papers.published import is_mvtec_ad, ono_mori
from multirun_analysis.rendering.table import Absent, Block, Cell, Table, difference, mark_best
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import POOLINGS, layer_order
from tests.support.trials import CATEGORIES, make_frame

MODES = ("none", *(f"{kind}{rate}" for kind in ("pca", "npca") for rate in (10, 20, 30, 40, 50)))
LEVELS = (*(f"level{number}" for number in range(1, 8)), "all")
PAPER_CATEGORIES = sorted({row for row, _ in ono_mori("table3")} - {"mean"})
AT_LEVEL7 = {"layer": ("level7",), "pca_mode": ("npca50",)}


BUILDERS: dict[str, Callable[[DetectionStudy], Table | Absent]] = {
    "table2": table2.one_layer,
    "table2_all_layers": table2.all_layers,
    "table3": ono_mori_tables.table3,
    "table4": ono_mori_tables.table4,
    "augmentation": ono_mori_tables.augmentation,
}


def made(frame: pd.DataFrame, name: str, **options: str) -> Table:
    table = BUILDERS[name](choose_study(frame, **options))
    assert isinstance(table, Table), table
    assert table.name == name
    return table


def missing(frame: pd.DataFrame, name: str) -> Absent:
    table = BUILDERS[name](choose_study(frame))
    assert isinstance(table, Absent)
    assert table.name == name
    return table


def test_the_tables_are_these_in_this_order() -> None:
    assert [table.name for table in tables(make_frame())] == list(BUILDERS)


def block(table: Table, label: str) -> Block:
    (found,) = [block for block in table.blocks if block.label.startswith(label)]
    return found


def values(block: Block) -> dict[str, list[float | None]]:
    return {row.header: [cell.value for cell in row.cells] for row in block.rows}


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    return make_frame({"layer": LEVELS, "pca_mode": MODES, "estimator": ("mvg", "knn1", "flow")})


@pytest.mark.parametrize(
    ("name", "layers"), [("table2", ("level7",)), ("table2_all_layers", LEVELS)], ids=["level7", "all"]
)
def test_table2_is_the_plain_mean(grid: pd.DataFrame, name: str, layers: tuple[str, ...]) -> None:
    table = made(grid, name)
    plain = grid[grid["layer"].isin(layers)].groupby(["estimator", "pca_mode"])["image_auroc"].mean()
    for label, estimator in (("ours: MVG", "mvg"), ("ours: k-NN (n=1)", "knn1"), ("ours: Norm", "flow")):
        shown = values(block(table, label))
        for row, kind in (("PCA", "pca"), ("NPCA", "npca")):
            wanted = [plain[estimator, f"{kind}{rate}"] for rate in (10, 20, 30, 40, 50)]
            assert shown[row] == pytest.approx(wanted, abs=1e-12)
        assert shown["none"] == [pytest.approx(plain[estimator, "none"]), None, None, None, None]
    mean = plain.groupby(level="pca_mode").mean()
    shown = values(block(table, "ours: mean"))
    assert shown["NPCA"][4] == pytest.approx(mean["npca50"])
    assert shown["none"][0] == pytest.approx(mean["none"])
    assert table.columns == ("0.1", "0.2", "0.3", "0.4", "0.5")
    assert values(block(table, "published"))["NPCA"] == [0.919, 0.956, 0.964, 0.967, 0.972]
    assert ("not in the paper" in table.title) == (name == "table2_all_layers")


def test_table2_says_which_estimator_is_nearest(grid: pd.DataFrame) -> None:
    near = grid.copy()
    published = ono_mori("table2")
    of_knn = near["estimator"] == "knn1"
    near.loc[of_knn, "image_auroc"] = [published[mode, ""] + 0.001 for mode in near.loc[of_knn, "pca_mode"]]
    table = made(near, "table2")
    assert "Nearest to the published values: k-NN (n=1), mean absolute difference 0.001 over 11 of 11" in (
        "\n".join(table.notes)
    )
    shown = block(table, "difference (k-NN (n=1) - published)")
    printed = [cell.printed for row in shown.rows for cell in row.cells if not cell.blank]
    assert printed == ["+0.001"] * 11


def test_an_estimator_with_fewer_cells_is_not_the_nearest(grid: pd.DataFrame) -> None:
    near = grid.copy()
    of_knn = near["estimator"] == "knn1"
    published = ono_mori("table2")
    near.loc[of_knn, "image_auroc"] = [published[mode, ""] for mode in near.loc[of_knn, "pca_mode"]]
    near = near[~(of_knn & (near["pca_mode"] == "pca10"))]
    notes = "\n".join(made(near, "table2").notes)
    assert "Nearest to the published values: k-NN" not in notes
    assert "k-NN (n=1) 0.000 (10)" in notes
    assert "Not run: pca10 knn1." in notes


def test_other_rates_and_bases_have_their_place() -> None:
    modes = ("none", "npca50", "npca35", "npca12.5", "npca50[basis=variance]")
    frame = make_frame({"layer": ("level7",), "pca_mode": modes, "estimator": ("mvg",)})
    table = made(frame, "table2")
    assert table.columns == ("0.1", "0.125", "0.2", "0.3", "0.35", "0.4", "0.5")
    shown = values(block(table, "ours"))
    assert list(shown) == ["PCA", "NPCA", "NPCA [basis=variance]", "none"]
    plain = frame.groupby("pca_mode")["image_auroc"].mean()
    assert shown["NPCA"][4] == pytest.approx(plain["npca35"])
    assert shown["NPCA [basis=variance]"][6] == pytest.approx(plain["npca50[basis=variance]"])
    theirs = block(table, "published")
    assert theirs.rows[1].cells[4].blank
    assert theirs.rows[1].cells[6].value == 0.972


def test_table3_is_the_trials_themselves(grid: pd.DataFrame) -> None:
    table = made(grid, "table3")
    chosen = grid[(grid["pca_mode"] == "npca50") & (grid["estimator"] == "knn1")]
    plain = chosen.pivot(index="category", columns="layer", values="image_auroc")[list(LEVELS)]
    shown = values(block(table, "ours"))
    for category in CATEGORIES:
        assert shown[category] == plain.loc[category].tolist()
    assert shown["mean"] == pytest.approx(plain.mean().tolist())
    assert list(shown)[-1] == "mean"
    assert table.columns == ("1", "2", "3", "4", "5", "6", "7", "all")
    apart = values(block(table, "difference"))["screw"]
    assert apart[0] == pytest.approx(plain.at["screw", "level1"] - 0.13)


def test_the_published_tables_are_as_printed() -> None:
    frame = make_frame({"layer": LEVELS, "pca_mode": ("npca50",)}, categories=PAPER_CATEGORIES)
    theirs = block(made(frame, "table3"), "published")
    bold = {row.header: [cell.bold for cell in row.cells] for row in theirs.rows}
    assert bold["bottle"] == [False] * 5 + [True] * 3
    assert bold["toothbrush"] == [False, False, False, True, False, False, False, True]
    assert bold["capsule"] == [False] * 4 + [True, False, True, True]
    assert bold["mean"] == [False] * 6 + [True, True]
    for row in theirs.rows[:-1]:  # the printed means are those of the printed values
        assert all(cell.printed for cell in row.cells)
    for index, cell in enumerate(theirs.rows[-1].cells):
        column = [row.cells[index].value or 0.0 for row in theirs.rows[:-1]]
        assert sum(column) / 15 == pytest.approx(cell.value, abs=0.011)


def test_another_data_set_is_compared_in_the_mean_only(grid: pd.DataFrame) -> None:
    frame = grid.assign(dataset=pd.array(["synthetic"] * len(grid), dtype="string"))
    table = made(frame, "table3")
    assert list(values(block(table, "difference"))) == ["mean"]
    assert any("Not a reproduction: the data set is synthetic." in line for line in table.caption)


def test_another_backbone_is_compared_where_the_layers_are_the_same() -> None:
    same = make_frame({"backbone": ("mobilenetv2_035",), "layer": LEVELS})
    assert len(made(same, "table3").blocks) == 3
    assert any("the backbone is mobilenetv2_035" in line for line in made(same, "table3").caption)
    other = make_frame({"backbone": ("resnet18",), "layer": ("level1", "level2", "all")})
    assert [block.label for block in made(other, "table3").blocks] == ["ours"]
    assert "layer=level2" in made(other, "table2").caption[1]


@pytest.mark.parametrize(
    ("name", "dimension", "order"),
    [("table4", "pooling", POOLINGS), ("augmentation", "augmentation", AUGMENTATIONS)],
)
def test_comparisons_are_the_plain_means(name: str, dimension: str, order: tuple[str, ...]) -> None:
    grid = AT_LEVEL7 | {dimension: order, "estimator": ("mvg", "knn1", "knn5")}
    frame = make_frame(grid)
    table = made(frame, name)
    plain = frame.groupby(["estimator", dimension])["image_auroc"].mean()
    shown = list(values(block(table, "ours")).values())
    for estimator, line in zip(ESTIMATORS, shown, strict=True):
        assert line == pytest.approx([plain[estimator, choice] for choice in order])
    assert [block.rows[0].header for block in table.blocks] == ["MVG"] * len(table.blocks)


def test_table4_has_the_papers_values_beside() -> None:
    table = made(make_frame(AT_LEVEL7 | {"pooling": POOLINGS}), "table4")
    assert table.columns == ("min", "max", "avg", "min+max", "min+avg", "max+avg", "min+max+avg")
    theirs = block(table, "published")
    assert values(theirs)["MVG"] == [0.952, 0.957, 0.975, 0.962, 0.972, 0.973, 0.966]
    assert values(theirs)["k-NN (n=1)"] == [0.953, 0.955, 0.973, 0.962, 0.960, 0.961, 0.960]
    assert [[cell.bold for cell in row.cells].index(True) for row in theirs.rows] == [2, 2]


def test_augmentation_differences_are_in_points() -> None:
    frame = make_frame(AT_LEVEL7 | {"augmentation": AUGMENTATIONS})
    frame["image_auroc"] = frame["augmentation"].map({"none": 0.9, "noise": 0.8995, "standard": 0.91})
    table = made(frame, "augmentation")
    shown = block(table, "difference")
    assert [cell.printed for cell in shown.rows[0].cells] == [None, "-0.05", "+1.00"]
    assert "Noise against none, in points: MVG -0.05, k-NN (n=1) -0.05." in table.notes


def test_a_failed_trial_is_a_hole_and_is_named() -> None:
    frame = make_frame(
        {"layer": LEVELS},
        failed=lambda row: (
            (row["category"], row["layer"], row["pca_mode"], row["estimator"])
            == ("screw", "level7", "npca50", "knn1")
        ),
    )
    second, table3 = made(frame, "table2"), made(frame, "table3")
    assert values(block(second, "ours: k-NN"))["NPCA"][4] is None
    assert values(block(second, "ours: mean"))["NPCA"][4] is None
    assert values(block(second, "ours: MVG"))["NPCA"][4] is not None
    assert values(block(table3, "ours"))["screw"][6] is None
    assert values(block(table3, "ours"))["mean"][6] is None
    assert values(block(table3, "ours"))["bottle"][6] is not None
    assert "Coverage: 2 of 3 categories complete in the cells that were run." in second.notes
    assert "Failed: 1 (screw at npca50 knn1): singular." in second.notes
    assert "Failed: 1 (screw at level7): singular." in table3.notes
    assert "Failed: 1 (screw at npca50 knn1 level7): singular." in made(frame, "table2_all_layers").notes


def test_failures_are_grouped_by_reason() -> None:
    frame = make_frame(
        AT_LEVEL7 | {"layer": ("level6", "level7"), "estimator": ("knn1",)}, categories="abcdef"
    )
    fates = {"a": "weights lack x.", "b": "weights lack x.", "c": "y", "d": "z", "e": "v"}
    for category, reason in fates.items():
        of_it = (frame["category"] == category) & (frame["layer"] == "level7")
        frame.loc[of_it, ["image_auroc", "status", "reason"]] = [float("nan"), "failed", reason]
    failed = [note for note in made(frame, "table3").notes if note.startswith("Failed")]
    assert failed[0] == "Failed: 2 (a, b at level7): weights lack x."
    assert len(failed) == 4
    assert failed[3] == "Failed: and 1 more, for 1 other reasons."
    frame.loc[frame["layer"] == "level7", ["image_auroc", "status", "reason"]] = [float("nan"), "failed", "x"]
    assert "Failed: 6 (every category at level7): x." in made(frame, "table3").notes


def test_a_layer_that_failed_throughout_is_left_out_of_the_mean_of_layers(grid: pd.DataFrame) -> None:
    broken = grid.copy()
    at = broken["layer"] == "all"
    broken.loc[at, ["image_auroc", "status", "reason"]] = [float("nan"), "failed", "no weights"]
    table = made(broken, "table2_all_layers")
    assert "level6, level7. Left out, every trial failed there: all." in table.caption[0]
    plain = grid[~at & (grid["estimator"] == "mvg") & (grid["pca_mode"] == "none")]["image_auroc"].mean()
    assert values(block(table, "ours: MVG"))["none"][0] == pytest.approx(plain)


def test_a_table_without_a_single_value_is_not_made(grid: pd.DataFrame) -> None:
    broken = grid.copy()
    at = broken["layer"] == "level7"
    broken.loc[at, ["image_auroc", "status", "reason"]] = [float("nan"), "failed", "no weights"]
    reason = missing(broken, "table2").reason
    assert reason.startswith("no cell has a value")
    assert "every category at none mvg" in reason
    assert "no weights" in reason
    assert made(broken, "table3")
    for name, dimension, order in (("table4", "pooling", POOLINGS), ("augmentation",) * 2 + (AUGMENTATIONS,)):
        frame = make_frame(AT_LEVEL7 | {dimension: order}, failed=lambda row: True)
        assert "singular" in missing(frame, name).reason
    frame = make_frame({"layer": LEVELS}, failed=lambda row: True)
    assert "singular" in missing(frame, "table3").reason


def test_a_sweep_that_was_killed_has_holes_where_nothing_ran(grid: pd.DataFrame) -> None:
    late = (grid["estimator"] == "flow") & grid["pca_mode"].str.startswith("npca")
    unfinished = (grid["category"] == "screw") & (grid["pca_mode"] == "none") & (grid["estimator"] == "mvg")
    table = made(grid[~(late | unfinished)], "table2")
    assert values(block(table, "ours: Norm"))["NPCA"] == [None] * 5
    assert "Missing: screw at none mvg." in table.notes
    assert any(line.startswith("Not run: npca10 flow, npca20 flow") for line in table.notes)


def test_provenance_and_warning_of_random_weights() -> None:
    table = made(make_frame(weights="random:seed0"), "table2")
    assert table.warnings[0].startswith("WARNING: random weights (random:seed0)")
    assert any("the weights are random:seed0" in line for line in table.caption)
    text = "\n".join(table.notes)
    assert "sweep first; 10 runs; data set mvtec_ad; weights random:seed0; input size 456" in text
    plain = made(make_frame(), "table2")
    assert plain.warnings == ()
    assert any("Not a reproduction: 3 of its 15 categories." in line for line in plain.caption)
    whole = make_frame(categories=tuple(PAPER_CATEGORIES))
    assert not any("Not a reproduction" in line for line in made(whole, "table2").caption)


def test_tables_without_trials_name_the_experiment_that_makes_them() -> None:
    frame = make_frame()
    assert "only pooling avg" in missing(frame, "table4").reason
    assert "experiment=ono_mori_pooling" in missing(frame, "table4").reason
    assert "experiment=ono_mori_augmentation" in missing(frame, "augmentation").reason
    pooling = make_frame(AT_LEVEL7 | {"pooling": POOLINGS})
    for name in ("table2", "table2_all_layers", "table3"):
        assert "experiment=ono_mori_grid" in missing(pooling, name).reason


def test_choices_that_are_not_there_or_not_clear_are_refused() -> None:
    two = make_frame({"backbone": ("resnet18", "vgg16")})
    with pytest.raises(AnalysisError, match="choose one with --backbone: resnet18, vgg16"):
        tables(two)
    assert "backbone=vgg16" in made(two, "table2", backbone="vgg16").caption[1]
    with pytest.raises(AnalysisError, match="no trials with backbone 'x'; there are: resnet18, vgg16"):
        tables(two, backbone="x")
    with pytest.raises(AnalysisError, match="at layer '9'; there are: level6, level7, all"):
        tables(make_frame(), layer="9")
    assert "layer=level6" in made(make_frame(), "table2", layer="6").caption[1]
    mixed = pd.concat([make_frame(), make_frame(weights="random:seed0")], ignore_index=True)
    with pytest.raises(AnalysisError, match="choose one with --weights"):
        tables(mixed)
    assert made(mixed, "table2", weights="random:seed0").warnings


def test_the_papers_backbone_is_taken_where_it_is() -> None:
    frame = make_frame({"backbone": ("efficientnet_b5", "resnet18")})
    assert "backbone=efficientnet_b5" in made(frame, "table2").caption[1]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8), st.sampled_from([2, 3]))
def test_bold_are_all_that_print_as_the_best(numbers: list[float | None], decimals: int) -> None:
    cells = mark_best([Cell(number, decimals) for number in numbers])
    texts = [f"{number:.{decimals}f}" for number in numbers if number is not None]
    best = max(texts, default=None)
    assert [cell.bold for cell in cells] == [
        number is not None and f"{number:.{decimals}f}" == best for number in numbers
    ]
    assert [cell.value for cell in cells] == numbers


def test_differences() -> None:
    assert difference(Cell(0.9), Cell(0.8)).printed == "+0.100"
    assert difference(Cell(0.8), Cell(0.8004)).printed == "0.000"
    assert difference(Cell(None), Cell(0.8)).value is None
    assert difference(Cell(0.8), Cell(None)).blank


def test_estimators_come_in_the_papers_order() -> None:
    mixed = ("flow", "iforest", "knn10", "knn5", "mvg", "knn1")
    table = made(make_frame({"layer": ("level7",), "estimator": mixed}), "table2")
    labels = [block.label.removeprefix("ours: ") for block in table.blocks if block.label.startswith("ours")]
    assert labels == [
        "MVG",
        "k-NN (n=1)",
        "k-NN (n=5)",
        "k-NN (n=10)",
        "Normalizing Flow",
        "iforest",
        "mean of the estimators",
    ]


def test_layers_and_data_sets_by_name() -> None:
    shuffled = ["all", "level10", "level2", "head"]
    assert sorted(shuffled, key=layer_order) == ["level2", "level10", "all", "head"]
    assert is_mvtec_ad("mvtec_ad", {"bottle"})
    assert not is_mvtec_ad("mvtec_loco", {"juice_bottle"})
    assert not is_mvtec_ad("synthetic", {"bottle"})
    assert not is_mvtec_ad(None, {"bottle"})


def test_the_spread_of_seeds_is_told_under_the_table(grid: pd.DataFrame) -> None:
    def told(frame: pd.DataFrame) -> list[str]:
        made = [table for table in tables(frame) if isinstance(table, Table)]
        return [note for table in made for note in table.notes if "seeds" in note]

    assert told(grid) == []
    flows = grid["estimator"].eq("flow").to_numpy()
    several = grid.assign(image_auroc_sd=np.where(flows, 0.02, np.nan))
    assert told(several)
    assert all("2.00 points on average, 2.00 at most" in note for note in told(several))
