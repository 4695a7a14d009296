"""The ridge paper's tables against plain pandas, with holes, other settings, devices and caches."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import pytest

from multirun_analysis import tables
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.published import localizers_per_class, ono_mori, ridge_table1
from multirun_analysis.papers.ridge.categories import by_category, times
from multirun_analysis.papers.ridge.measurements import Measurements, measure
from multirun_analysis.papers.ridge.paper import PAPER
from multirun_analysis.papers.ridge.study import (
    LocalizationStudy,
    choose_localization,
)
from multirun_analysis.papers.ridge.tables import table1
from multirun_analysis.rendering.table import Absent, Cell, Table, significant
from multirun_analysis.rendering.text import RENDERERS
from multirun_analysis.trials.labels import localizer_name, localizer_order
from multirun_analysis.trials.run_info import Origin
from tests.support.trials import CATEGORIES, LOCALIZERS, make_frame, make_localization

PAPER_CATEGORIES = sorted({row for row, _ in ono_mori("table3")} - {"mean"})
SMALL = "patchcore[coreset=0.01]"
LABELS = ("padim", SMALL, "patchcore", "knn_map", "ridge")
ORDER = ["PatchCore", "PaDiM", "Ridge", "PatchCore [coreset=0.01]", "knn_map"]
BUILDERS: dict[str, Callable[[LocalizationStudy, Measurements], Table | Absent]] = {
    "ridge_table1": table1,
    "ridge_categories": by_category,
    "ridge_times": times,
}
STEPS = {
    "scoring": ["score_seconds"],
    "+ maps": ["score_seconds", "map_seconds"],
    "+ backbone": ["score_seconds", "map_seconds", "backbone_seconds"],
}
#: Values of each block: row -> values by column.
Values = dict[str, dict[str, list[float | None]]]


def made(frame: pd.DataFrame, name: str, **options: str) -> Table:
    study = choose_localization(frame, **options)  # type: ignore[arg-type]
    table = BUILDERS[name](study, measure(study))
    assert isinstance(table, Table), table
    assert table.name == name
    return table


def values(table: Table) -> Values:
    return {
        block.label: {row.header: [cell.value for cell in row.cells] for row in block.rows}
        for block in table.blocks
    }


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    return make_localization(LABELS, PAPER_CATEGORIES)


@pytest.fixture(scope="module")
def plain(whole: pd.DataFrame) -> pd.DataFrame:
    """Sums and means by localizer, as a table calls them."""
    found = whole.assign(localizer=whole["localizer"].map(localizer_name)).groupby("localizer")
    seconds = {step: found[columns].sum().sum(axis=1) for step, columns in STEPS.items()}
    means = found[["pixel_auroc", "aupro", "aupro_mvtec"]].mean() * 100
    return means.assign(**seconds, images=found["n_test"].sum())


def test_table1_is_plain_means_and_sums(whole: pd.DataFrame, plain: pd.DataFrame) -> None:
    table = made(whole, "ridge_table1")
    shown = values(table)
    accuracy = ("ROCAUC %", "PRO %", "PRO, 100 thresholds %")
    assert table.columns == (*accuracy, "scoring s", "+ maps s", "+ backbone s", "images")
    assert list(shown["ours"]) == ORDER
    for name in ORDER:
        assert shown["ours"][name] == pytest.approx(plain.loc[name].tolist(), abs=1e-9)
        each = [1000 * plain.at[name, step] / plain.at[name, "images"] for step in STEPS]
        assert shown["ours: milliseconds an image"][name] == [None] * 3 + [*map(pytest.approx, each), None]
        ratio = [plain.at[name, step] / plain.at["PatchCore", step] for step in STEPS]
        assert shown["ours: ratio to PatchCore"][name] == [None] * 3 + [*map(pytest.approx, ratio), None]


def test_table1_has_the_published_values_and_the_differences(
    whole: pd.DataFrame, plain: pd.DataFrame
) -> None:
    shown = values(made(whole, "ridge_table1"))
    published = {"PatchCore": (98.1, 92.3, 11.41), "PaDiM": (97.7, 92.8, 547.71), "Ridge": (97.7, 92.1, 1.05)}
    assert shown["published"] == {
        name: [roc, pro, None, seconds, None, None, 1725] for name, (roc, pro, seconds) in published.items()
    }
    assert list(shown["difference (ours - published)"]) == ORDER[:-1]  # knn_map is not in the paper
    for name, line in shown["difference (ours - published)"].items():
        roc, pro, _ = published[name.partition(" ")[0]]
        apart = [plain.at[name, "pixel_auroc"] - roc, *(plain.loc[name, ["aupro", "aupro_mvtec"]] - pro)]
        assert line[:3] == pytest.approx(apart)  # both kinds of PRO are set against the one published
        assert line[3:] == [None] * 4  # seconds are of another computer
    one = {
        name: [None, None, None, pytest.approx(line[2] / 1.725), None, None, None]
        for name, line in published.items()
    }
    assert shown["published: milliseconds an image"] == one
    ratio = {name: line[3] for name, line in shown["published: ratio to PatchCore"].items()}
    assert ratio == pytest.approx({"PatchCore": 1, "PaDiM": 48.003, "Ridge": 0.0920}, abs=1e-3)


def test_the_best_are_the_most_accurate_and_the_fastest(whole: pd.DataFrame, plain: pd.DataFrame) -> None:
    ours, published = made(whole, "ridge_table1").blocks[:2]
    bold = [[row.header for row in ours.rows if row.cells[i].bold] for i in range(7)]
    accuracy = ("pixel_auroc", "aupro", "aupro_mvtec")
    best = [*(plain[metric].idxmax() for metric in accuracy), *(plain[step].idxmin() for step in STEPS)]
    assert bold == [*([name] for name in best), []]
    assert [[row.cells[i].bold for i in (0, 1, 3)] for row in published.rows] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_categories_are_the_trials_themselves(whole: pd.DataFrame) -> None:
    table = made(whole, "ridge_categories")
    named = whole.assign(localizer=whole["localizer"].map(localizer_name))
    columns = {
        "pixel ROCAUC": "pixel_auroc",
        "PRO": "aupro",
        "PRO, 100 thresholds": "aupro_mvtec",
        "image ROCAUC": "image_auroc",
    }
    assert [block.label for block in table.blocks] == list(columns)
    for block in table.blocks:
        cells = named.pivot_table(
            columns[block.label], "category", "localizer", margins=True, margins_name="mean"
        )
        assert [row.header for row in block.rows] == [*PAPER_CATEGORIES, "mean"]
        for row in block.rows:
            ours = [cell.value for cell in row.cells[: len(ORDER)]]
            assert ours == pytest.approx((100 * cells.loc[row.header, ORDER]).tolist())
            printed = [cell.printed or "" for cell in row.cells[: len(ORDER)]]
            best = max(printed, key=float)
            assert [cell.bold for cell in row.cells[: len(ORDER)]] == [text == best for text in printed]
            assert not any(cell.bold for cell in row.cells[len(ORDER) :])


def test_what_the_methods_own_papers_print_is_beside(whole: pd.DataFrame) -> None:
    table = made(whole, "ridge_categories")
    assert table.columns[len(ORDER) :] == (
        "PaDiM, paper",
        "PatchCore 10 %, paper",
        "PatchCore 1 %, paper",
    )
    shown = {
        key: {row: line[len(ORDER) :] for row, line in rows.items()} for key, rows in values(table).items()
    }
    assert shown["pixel ROCAUC"]["bottle"] == [98.3, 98.6, 98.5]
    assert shown["PRO"]["transistor"] == [84.5, 83.5, None]
    assert shown["image ROCAUC"]["screw"] == [None, 97.0, 96.4]
    stated = {
        "pixel ROCAUC": [97.5, 98.1, 98.0],
        "PRO": [92.1, 93.5, None],
        "image ROCAUC": [None, 99.0, 99.0],
    }
    for key, means in stated.items():  # the stated means are those of the values, but for their rounding
        for value, mean in zip(shown[key]["mean"], means, strict=True):
            assert (value is None) == (mean is None)
            assert value is None or value == pytest.approx(mean, abs=0.11)
    two = values(made(whole[whole["category"].isin(["bottle", "wood"])], "ridge_categories"))
    assert two["pixel ROCAUC"]["mean"][len(ORDER)] == pytest.approx((98.3 + 94.9) / 2)
    other = made(whole.assign(dataset="visa"), "ridge_categories")
    assert other.columns == tuple(ORDER)


def test_times_are_those_of_each_category_and_of_all_images(whole: pd.DataFrame, plain: pd.DataFrame) -> None:
    shown = values(made(whole, "ridge_times"))
    assert list(shown) == list(STEPS)
    named = whole.assign(localizer=whole["localizer"].map(localizer_name))
    for step, columns in STEPS.items():
        each = named.assign(value=1000 * named[columns].sum(axis=1) / named["n_test"].astype(float))
        cells = each.pivot(index="category", columns="localizer", values="value")
        for category in PAPER_CATEGORIES:
            assert shown[step][category] == pytest.approx(cells.loc[category, ORDER].tolist())
        whole_set = 1000 * plain[step] / plain["images"]
        assert shown[step]["all images"] == pytest.approx(whole_set[ORDER].tolist())


def test_a_failed_trial_is_a_hole_in_every_table_and_is_named() -> None:
    frame = make_localization(failed=lambda row: (row["localizer"], row["category"]) == ("padim", "screw"))
    frame = frame[(frame["localizer"] != "patchcore") | (frame["category"] != "cable")]
    first, second, third = (made(frame, name) for name in BUILDERS)
    shown = values(first)
    assert shown["ours"]["PaDiM"] == shown["ours"]["PatchCore"] == [None] * 7
    assert None not in shown["ours"]["Ridge"]
    assert shown["difference (ours - published)"]["PaDiM"] == [None] * 7
    assert shown["ours: ratio to PatchCore"]["Ridge"][2:5] == [None] * 3  # nothing to compare with
    cells = values(second)["pixel ROCAUC"]
    assert cells["screw"][1] is None
    assert cells["mean"][:2] == [None, None]
    assert cells["cable"][0] is None
    assert cells["bottle"][0] is not None
    assert cells["mean"][2] is not None
    assert values(third)["scoring"]["all images"][:2] == [None, None]
    for table in (first, second, third):
        assert "Coverage: 1 of 3 categories complete in the cells that were run." in table.notes
        assert "Failed: 1 (screw at padim): out of memory." in table.notes
        assert "Missing: cable at patchcore." in table.notes


def test_nothing_but_failures_is_no_table() -> None:
    made_of_none = tables(make_localization(failed=lambda row: True), "ridge")
    assert [table.name for table in made_of_none] == list(BUILDERS)
    for table in made_of_none:
        assert isinstance(table, Absent)
    assert "out of memory" in made_of_none[0].reason  # type: ignore[union-attr]
    half = tables(make_localization(failed=lambda row: row["category"] == "screw"), "ridge")
    assert isinstance(half[0], Absent)
    assert "no localizer has a value for every category" in half[0].reason
    assert isinstance(half[1], Table)
    assert isinstance(half[2], Table)


def test_values_that_were_not_recorded_are_said() -> None:
    frame = make_localization(score_seconds=None, n_test=None)
    table = made(frame, "ridge_table1")
    line = values(table)["ours"]["Ridge"]
    assert line[0] is not None
    assert line[3:] == [None] * 4
    said = "PatchCore (every category); PaDiM (every category); Ridge (every category)"
    assert f"Not recorded: score_seconds of {said}." in table.notes
    assert isinstance(tables(frame, "ridge")[2], Absent)
    frame = make_localization()
    frame.loc[(frame["localizer"] == "ridge") & (frame["category"] == "cable"), "aupro"] = float("nan")
    table = made(frame, "ridge_table1")
    assert values(table)["ours"]["Ridge"][:2] == [pytest.approx(_mean(frame, "ridge", "pixel_auroc")), None]
    assert "Not recorded: aupro of Ridge (cable)." in table.notes
    frame = make_localization()
    frame.loc[(frame["localizer"] == "ridge") & (frame["category"] == "cable"), "pixel_auroc"] = float("nan")
    assert "Recorded without a value: cable at ridge." in made(frame, "ridge_table1").notes


def _mean(frame: pd.DataFrame, localizer: str, column: str) -> float:
    return float(100 * frame.loc[frame["localizer"] == localizer, column].mean())


def test_maps_from_the_cache_have_no_time_with_the_backbone() -> None:
    frame = make_localization()
    at = (frame["localizer"] == "ridge") & (frame["category"] == "screw")
    frame.loc[at, "backbone_seconds"] = 0.0
    table = made(frame, "ridge_table1")
    shown = values(table)
    assert shown["ours"]["Ridge"][5] is None
    assert shown["ours"]["Ridge"][4] is not None
    assert shown["ours: ratio to PatchCore"]["Ridge"][5] is None
    assert any(
        line.startswith("No time with the backbone: its maps came from the cache for Ridge (screw)")
        for line in table.notes
    )


def test_devices_are_named_and_mixed_ones_warned_of() -> None:
    frame = make_localization()
    assert "Measured on: cpu, 2 threads." in made(frame, "ridge_table1").notes
    frame.loc[frame["localizer"] == "ridge", "device"] = "Big GPU"
    for name in ("ridge_table1", "ridge_times"):
        assert (
            "WARNING: measured on different devices, not to be compared: PaDiM on cpu, 2 threads; PatchCore "
            "on cpu, 2 threads; Ridge on Big GPU." in made(frame.sort_values("localizer"), name).notes
        )
    assert "Measured on: device not recorded." in made(make_localization(device=None), "ridge_times").notes


def test_defaults_chosen_by_test_images_are_told_where_their_values_stand() -> None:
    said = (
        "The settings of ridge and ridge_plus were chosen with the test images of bottle, transistor, pill in"
    )
    for name in BUILDERS:
        notes = made(make_localization(LABELS, PAPER_CATEGORIES), name).notes
        assert sum(note.startswith(said) for note in notes) == 1, name
    for frame in (
        make_localization(LABELS, ("cable", "screw")),
        make_localization(("padim", "patchcore"), PAPER_CATEGORIES),
        make_localization(LABELS, PAPER_CATEGORIES, dataset="mine"),
    ):
        notes = made(frame, "ridge_table1").notes
        assert not any("were chosen with the test images" in note for note in notes)


def test_variants_of_the_metrics_are_not_compared() -> None:
    table = made(make_localization(task="localization[average=image,sigma=2.0]"), "ridge_table1")
    assert table.columns[:2] == ("ROCAUC %", "PRO [variant] %")
    assert "PRO is a variant (average=image): not comparable with published values." in table.notes
    assert [line[1] for line in values(table)["difference (ours - published)"].values()] == [None] * 3
    assert None not in [line[0] for line in values(table)["difference (ours - published)"].values()]
    assert "localization[average=image,sigma=2.0]" in table.caption[0]
    categories = made(make_localization(task="localization[images=anomalous]"), "ridge_categories")
    assert [block.label for block in categories.blocks] == [
        "pixel ROCAUC [variant]",
        "PRO [variant]",
        "PRO, 100 thresholds [variant]",
        "image ROCAUC",
    ]
    assert values(categories)["pixel ROCAUC [variant]"]["bottle"][3:] == [None] * 3
    assert values(categories)["image ROCAUC"]["bottle"][4] == 100.0
    smoothed = made(make_localization(task="localization[sigma=2.0]"), "ridge_table1")
    assert smoothed.columns[1] == "PRO %"
    assert not any("variant" in note for note in smoothed.notes)


def test_the_reference_of_the_ratios_is_patchcore_as_shipped_or_the_only_one() -> None:
    only = made(make_localization(("ridge", SMALL)), "ridge_table1")
    assert "ours: ratio to PatchCore [coreset=0.01]" in [block.label for block in only.blocks]
    several = made(make_localization(("ridge", SMALL, "patchcore[coreset=0.1]")), "ridge_table1")
    assert not any(block.label.startswith("ours: ratio") for block in several.blocks)
    assert f"No ratio: several localizers are patchcore: {SMALL}, patchcore[coreset=0.1]." in several.notes
    assert "No ratio: no trials with patchcore." in made(make_localization(("ridge",)), "ridge_table1").notes


def test_provenance_and_what_is_not_a_reproduction() -> None:
    origins = [Origin("located", "1f", "anomaly_sweep 0.1.0, torch==2"), Origin("other", "2f", "x")]
    frame = make_localization(weights="random:seed0", center_crop=224)
    found = tables(frame, "ridge", origins=origins)
    for table in found:
        assert isinstance(table, Table)
        assert table.notes[-1] == "From sweep located: run 1f; anomaly_sweep 0.1.0, torch==2."
        assert table.notes[-2] == (
            "Data: sweep located; 3 runs (place0, place1, place2); data set mvtec_ad; weights random:seed0; "
            "input size 256; center crop 224."
        )
        assert table.warnings[0].startswith("WARNING: random weights (random:seed0)")
    caption = made(frame, "ridge_table1").caption
    assert "wide_resnet101_2, 256 px cropped to 224, localization." in caption[0]
    assert (
        "Not a reproduction: 3 of its 15 categories, the weights are random:seed0, the center crop is 224."
        in caption[1]
    )
    other = made(make_localization(backbone="resnet18", input_size=224), "ridge_table1").caption[1]
    assert "the backbone is resnet18, the input size is 224." in other
    whole = make_localization(categories=PAPER_CATEGORIES)
    assert "Not a reproduction" not in made(whole, "ridge_table1").caption[1]


def test_every_format_has_the_numbers(whole: pd.DataFrame) -> None:
    for table in tables(whole, "ridge"):
        assert isinstance(table, Table)
        for suffix, render in RENDERERS.items():
            text = render(table).partition("<script>")[0]
            assert "PatchCore" in text, suffix
            assert "nan" not in text.lower(), suffix
            assert "np." not in text, suffix
    latex = RENDERERS[".tex"](made(whole, "ridge_table1"))
    assert r"11.41 $\pm$ 0.50" in latex
    assert r"ROCAUC \%" in latex


def test_choices_that_are_not_there_or_not_clear_are_refused() -> None:
    frame = make_localization()
    crops = pd.concat([frame, make_localization(center_crop=224)], ignore_index=True)
    with pytest.raises(
        AnalysisError, match="several values of center_crop: choose one with --center-crop: 224, none"
    ):
        tables(crops, "ridge")
    for crop, words in (("224", "cropped to 224"), ("none", "256 px, localization")):
        assert words in made(crops, "ridge_table1", center_crop=crop).caption[0]
    with pytest.raises(AnalysisError, match="no trials with center_crop '200'; there are: 224, none"):
        tables(crops, "ridge", center_crop="200")
    sizes = pd.concat([frame, make_localization(input_size=224)], ignore_index=True)
    with pytest.raises(
        AnalysisError, match="several values of input_size: choose one with --input-size: 224, 256"
    ):
        tables(sizes, "ridge")
    assert "224 px" in made(sizes, "ridge_table1", input_size=224).caption[0]  # type: ignore[arg-type]
    weights = pd.concat([frame, make_localization(weights="random:seed0")], ignore_index=True)
    with pytest.raises(AnalysisError, match="choose one with --weights"):
        tables(weights, "ridge")
    assert made(weights, "ridge_table1", weights="random:seed0").warnings
    with pytest.raises(AnalysisError, match="no trials with task 'x'; there are: localization"):
        tables(frame, "ridge", task="x")
    with pytest.raises(AnalysisError, match="no trials with backbone 'x'"):
        tables(frame, "ridge", backbone="x")


def test_the_shipped_task_and_the_papers_backbone_are_taken_where_they_are() -> None:
    other = "localization[sigma=2.0]"
    frames = [make_localization(), make_localization(task=other), make_localization(backbone="resnet18")]
    frame = pd.concat(frames, ignore_index=True)
    study = choose_localization(frame)
    assert (study.task, study.others, study.backbone) == ("localization", (other,), "wide_resnet101_2")
    assert study.localizers == ("patchcore", "padim", "ridge")
    assert f"Left out, choose with --task: {other}." in made(frame, "ridge_table1").notes
    assert choose_localization(frame, task=other).others == ("localization",)
    assert PAPER.backbones(frame) == ["wide_resnet101_2", "resnet18"]
    two = pd.concat([frames[1], make_localization(task="localization[sigma=1.0]")], ignore_index=True)
    with pytest.raises(AnalysisError, match="choose one with --task"):
        choose_localization(two)


def test_detection_trials_are_left_out_and_alone_are_refused() -> None:
    located, detected = make_localization(), make_frame(categories=(*CATEGORIES, "wood"))
    both = pd.concat([detected, located], ignore_index=True)
    assert choose_localization(both).categories == CATEGORIES
    assert values(made(both, "ridge_table1")) == values(made(located, "ridge_table1"))
    with pytest.raises(AnalysisError, match=r"this sweep has detection trials only: .* --paper ono_mori"):
        tables(detected, "ridge")


def test_names_and_order_of_localizers() -> None:
    labels = ["zeta", "ridge[alpha=1]", "ridge", SMALL, "padim", "patchcore"]
    assert sorted(labels, key=localizer_order) == [
        "patchcore",
        "padim",
        "ridge",
        SMALL,
        "ridge[alpha=1]",
        "zeta",
    ]
    assert localizer_name("padim[channels=100]") == "PaDiM [channels=100]"
    assert localizer_name("zeta[a=b]") == "zeta [a=b]"


def test_three_digits() -> None:
    printed = [significant(value).printed for value in (0.00123456, 0.0921, 1.0, 48.03, 317.5, 12345.0, 0.0)]
    assert printed == ["0.00123", "0.0921", "1.00", "48.0", "318", "12345", "0"]
    assert significant(547.714, least=2).printed == "547.71"
    assert [significant(value) for value in (None, math.nan, math.inf)] == [Cell()] * 3


def test_published_values_are_complete_and_sourced() -> None:
    metrics = {"pixel_auroc", "aupro", "score_seconds", "score_seconds_spread"}
    assert set(ridge_table1()) == {(name, metric) for name in LOCALIZERS for metric in metrics}
    per_class = localizers_per_class()
    assert len(per_class) == 15 * 7
    assert {name for _, _, name in per_class} == set(PAPER_CATEGORIES)
    assert all(80 < value <= 100 for value in per_class.values())


def test_measured_frames_follow_the_study() -> None:
    study = choose_localization(make_localization(LABELS).sample(frac=1, random_state=0))
    found = measure(study)
    for frame in (*found.values.values(), *found.seconds.values()):
        assert list(frame.columns) == list(study.localizers)
        assert list(frame.index) == list(CATEGORIES)


def test_the_spread_of_seeds_is_told_under_every_table(whole: pd.DataFrame) -> None:
    padim = whole["localizer"].eq("padim")
    spread = whole["category"].map({name: 0.001 * (i + 1) for i, name in enumerate(CATEGORIES)})
    several = whole.assign(
        pixel_auroc_sd=spread.where(padim), aupro_sd=(2 * spread).where(padim), image_auroc_sd=float("nan")
    )
    mean = 100 * spread.groupby(whole["category"]).first().mean()
    expected = f"PaDiM ROCAUC {mean:.2f}, PRO {2 * mean:.2f}."
    for name in ("ridge_table1", "ridge_categories", "ridge_times"):
        assert sum(note.endswith(expected) for note in made(several, name).notes) == 1
        assert not any("seeds" in note for note in made(whole, name).notes)
