"""Sweeps of both tasks, of one, and tables recorded before there were two."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from multirun_analysis import claims, tables
from multirun_analysis.cli import main
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers import paper_named
from multirun_analysis.papers.analysis import Analyses, analyse
from multirun_analysis.papers.ono_mori.paper import OnoMori
from multirun_analysis.papers.ono_mori.study import choose_study
from multirun_analysis.papers.ono_mori.table2 import one_layer
from multirun_analysis.rendering.table import Table
from multirun_analysis.rendering.text import to_csv
from multirun_analysis.reporting.page import report
from multirun_analysis.summary.compare import compare
from multirun_analysis.summary.pivot import pivot
from multirun_analysis.trials.duplicates import drop_duplicates
from multirun_analysis.trials.long_table import as_trials, load_trials, save_trials
from multirun_analysis.trials.read import collect
from multirun_analysis.trials.tasks import task_names_of, tasks_of
from tests.support.trials import (
    CATEGORIES,
    Store,
    make_frame,
    make_localization,
    make_localization_rows,
    make_rows,
)

SMALL = {"layer": ("level6", "level7"), "pca_mode": ("none", "npca50")}
NEW = ["task", "center_crop", "localizer", "pixel_auroc", "aupro", "map_seconds", "backbone_seconds"]
NEW += ["state_bytes", "device"]


@pytest.fixture(scope="module")
def both() -> pd.DataFrame:
    return pd.concat([make_frame(SMALL), make_localization()], ignore_index=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_without_the_new_columns_are_of_detection(tmp_path: Path, suffix: str) -> None:
    frame = make_frame(SMALL)
    path = tmp_path / f"old{suffix}"
    save_trials(frame.drop(columns=NEW), path)
    pd.testing.assert_frame_equal(load_trials(path), frame)
    assert tasks_of(load_trials(path)) == ["detection"]
    assert isinstance(one_layer(choose_study(load_trials(path))), Table)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_localization_rows_come_back_as_they_were(both: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    frame = both.copy()
    frame.loc[frame["localizer"] == "ridge", "center_crop"] = 224
    save_trials(frame, tmp_path / f"t{suffix}")
    pd.testing.assert_frame_equal(load_trials(tmp_path / f"t{suffix}"), frame)


def test_a_failed_trial_has_no_metric_whatever_was_recorded() -> None:
    frame = make_localization(status="failed")
    assert frame[["image_auroc", "pixel_auroc", "aupro"]].isna().all(axis=None)


def test_which_trials_are_of_localization() -> None:
    tasks = ["localization", "localization[sigma=2.0]", "detection", None, "localizations"]
    frame = as_trials(pd.DataFrame({"task": tasks}))
    assert task_names_of(frame).eq("localization").tolist() == [True, True, False, False, False]
    assert frame["task"].tolist()[3] == "detection"


@pytest.mark.parametrize(
    "change", [{"localizer": "padim"}, {"task": "localization[sigma=2.0]"}, {"center_crop": 224}]
)
def test_other_choices_are_other_trials_even_with_one_fingerprint(change: dict[str, object]) -> None:
    frame = make_localization(("ridge",), fingerprint=None)
    kept, dropped = drop_duplicates(
        pd.concat([frame, as_trials(frame.assign(**change))], ignore_index=True), {}
    )
    assert (len(kept), dropped) == (6, 0)
    again = frame.assign(run_id="later")
    kept, dropped = drop_duplicates(pd.concat([frame, again], ignore_index=True), {})
    assert (len(kept), dropped) == (3, 3)


Command = Callable[[pd.DataFrame], object]


@pytest.mark.parametrize(
    "command",
    [
        partial(tables, paper="ono_mori"),
        partial(claims, paper="ono_mori"),
        choose_study,
        paper_named("ono_mori").backbones,
        lambda frame: compare(frame, frame, ("this sweep", "b")),
    ],
)
def test_what_is_of_detection_refuses_localization_alone(command: Command) -> None:
    with pytest.raises(
        AnalysisError, match="this sweep has localization trials only: multirun-analysis tables --paper ridge"
    ):
        command(make_localization())


def test_detection_is_the_same_beside_localization(both: pd.DataFrame) -> None:
    alone = make_frame(SMALL)
    own = choose_study(both)
    assert (own.categories, own.layer) == (CATEGORIES, "level7")
    assert len(own.trials()) == len(alone)
    assert one_layer(own) == one_layer(choose_study(alone))
    assert compare(both, both, ("a", "b")) == compare(alone, alone, ("a", "b"))
    assert pivot(both, "category", "layer", "estimator=mvg & pca_mode=npca50") == pivot(
        alone, "category", "layer", "estimator=mvg & pca_mode=npca50"
    )


def backbones_of(found: Analyses, paper: str) -> list[str]:
    return [one.study.backbone for one in found.found if one.paper.name == paper]


def test_studies_of_every_task_and_backbone(both: pd.DataFrame) -> None:
    found = analyse(both, every=False)
    assert backbones_of(found, "ono_mori") == ["efficientnet_b5"]
    assert backbones_of(found, "ridge") == ["wide_resnet101_2"]
    more = pd.concat([both, make_localization(backbone="resnet18")], ignore_index=True)
    every = analyse(more, every=True)
    assert backbones_of(every, "ridge") == ["wide_resnet101_2", "resnet18"]
    one = analyse(more, every=False, backbone="resnet18")
    assert not backbones_of(one, "ono_mori")
    assert backbones_of(one, "ridge") == ["resnet18"]
    assert one.refused == [("resnet18", "no trials with backbone 'resnet18'; there are: efficientnet_b5")]
    with pytest.raises(AnalysisError, match=r"x: no trials with backbone 'x'.*; x: no trials"):
        analyse(both, every=False, backbone="x")
    with pytest.raises(AnalysisError, match="--layer is of detection: there are no trials of it"):
        analyse(make_localization(), every=False, layer="7")
    with pytest.raises(AnalysisError, match="--task is of localization: there are no trials of it"):
        analyse(make_frame(SMALL), every=False, task="localization")


def test_a_store_with_both_is_read_whole(store: Store) -> None:
    rows = [*make_rows(SMALL | {"layer": ("level7",)}), *make_localization_rows()]
    parent, children = store.add_sweep(rows, "both")
    reading = collect(store.uri)
    assert len(reading.trials) == len(rows)
    assert set(reading.trials["run_id"]) == set(children)
    assert task_names_of(reading.trials).eq("localization").sum() == 9
    assert [(origin.sweep, origin.run_id) for origin in reading.origins] == [("both", parent)]
    found = tables(reading.trials, "ridge", origins=reading.origins)
    for table in (*found, one_layer(choose_study(reading.trials, origins=reading.origins))):
        assert isinstance(table, Table)
        assert any(note.startswith(f"From sweep both: run {parent}; anomaly_sweep") for note in table.notes)


def test_localization_without_tables_is_read_from_the_metrics(store: Store) -> None:
    lost = ("padim", "screw")  # the other localizers have means among their metrics too
    rows = make_localization_rows(
        failed=lambda row: (row["localizer"], row["category"]) == lost, center_crop=224
    )
    store.add_sweep(rows, long_table=False, tables=False)
    trials = collect(store.uri).trials
    columns = ["localizer", "category", "image_auroc", "pixel_auroc", "aupro"]
    there = {tuple(line) for line in trials[columns].itertuples(index=False)}
    assert there == {tuple(row[name] for name in columns) for row in rows if row["status"] == "ok"}
    assert set(trials["task"]) == {"localization"}
    assert set(trials["center_crop"]) == {224}
    assert trials["layer"].isna().all()
    assert trials["score_seconds"].isna().all()


def test_pivots_of_localization(both: pd.DataFrame) -> None:
    plain = make_localization()
    for value in ("image_auroc", "pixel_auroc", "aupro", "score_seconds", "backbone_seconds", "state_bytes"):
        table = pivot(both, "category", "localizer", value=value)
        cells = plain.assign(**{value: plain[value].astype(float)}).pivot_table(
            value, "category", "localizer", margins=True, margins_name="mean"
        )
        shown = {row.header: [cell.value for cell in row.cells] for row in table.blocks[0].rows}
        assert list(shown) == [*CATEGORIES, "mean"]
        assert table.columns == ("patchcore", "padim", "ridge")
        for header, line in shown.items():
            assert line == pytest.approx(cells.loc[header, list(table.columns)].tolist())
        lowest = value.endswith(("seconds", "bytes"))
        for row in table.blocks[0].rows:
            printed = [float(cell.printed or "nan") for cell in row.cells]
            best = min(printed) if lowest else max(printed)
            assert [cell.bold for cell in row.cells] == [number == best for number in printed]
        assert "Coverage: 3 of 3" in table.notes[0]
    assert pivot(both, "category", "localizer", value="aupro").title == "AUPRO by category and localizer"
    across = pivot(both, "localizer", "category", value="score_seconds")
    assert across.title == "Seconds of scoring the test images by localizer and category"
    assert "np." not in to_csv(across)
    mean = pivot(both, "localizer", "input_size", value="pixel_auroc")
    assert mean.title == "Mean pixel AUROC by localizer and input_size"


def test_pivots_by_crop_and_of_what_is_not_there(both: pd.DataFrame) -> None:
    crops = pd.concat([make_localization(), make_localization(center_crop=224)], ignore_index=True)
    table = pivot(crops, "localizer", "center_crop", value="aupro")
    assert table.columns == ("224", "none")
    plain = crops.assign(crop=crops["center_crop"].astype("string").fillna("none")).pivot_table(
        "aupro", "localizer", "crop"
    )
    shown = {row.header: [cell.value for cell in row.cells] for row in table.blocks[0].rows}
    assert shown["ridge"] == pytest.approx(plain.loc["ridge"].tolist())
    with pytest.raises(AnalysisError, match=r"average over, center_crop \(224, none\)"):
        pivot(crops, "category", "localizer", value="aupro")
    assert pivot(crops, "category", "localizer", "center_crop=none", value="aupro")
    with pytest.raises(AnalysisError, match="--value 'auroc': there are image_auroc, image_auroc_sd"):
        pivot(both, "category", "localizer", value="auroc")
    with pytest.raises(AnalysisError, match="detection trials only"):
        pivot(make_frame(SMALL), "category", "layer", value="aupro")
    wider = pd.concat([make_frame(SMALL, categories=(*CATEGORIES, "wood")), make_localization()])
    assert (
        pivot(wider.reset_index(drop=True), "category", "localizer").blocks
        == pivot(make_localization(), "category", "localizer").blocks
    )  # a category of detection alone is no hole
    with pytest.raises(AnalysisError, match=r"task \(detection, localization\)"):
        pivot(both, "category", "dataset")
    with pytest.raises(AnalysisError, match="no trial meets all of '', with a choice of category and layer"):
        pivot(both, "category", "layer", value="pixel_auroc")


def test_detection_with_several_crops_is_chosen_too() -> None:
    crops = pd.concat([make_frame(SMALL), make_frame(SMALL, center_crop=224)], ignore_index=True)
    with pytest.raises(AnalysisError, match="choose one with --center-crop: 224, none"):
        choose_study(crops)
    for crop in ("224", "none"):
        own = choose_study(crops, center_crop=crop).trials()
        assert len(own) == len(crops) / 2
        assert own["center_crop"].isna().all() == (crop == "none")
    context = compare(make_frame(SMALL), make_frame(SMALL, center_crop=224), ("a", "b")).notes
    assert "center_crop differs: none in a, 224 in b." in context


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "multirun_analysis.reporting.page.inline_svg",
        lambda picture, prefix: f"<svg>{prefix}{picture.name}</svg>",
    )
    monkeypatch.setattr(OnoMori, "pictures", lambda *_: [])


@pytest.mark.usefixtures("no_drawing")
def test_reports_of_one_task_and_of_both(both: pd.DataFrame) -> None:
    failed = make_localization(failed=lambda row: (row["localizer"], row["category"]) == ("padim", "screw"))
    alone = report(failed)
    assert "efficientnet_b5" not in alone
    assert alone.count(">s0-accuracy_time</svg>") == 1
    for title in (
        "Table 1: pixel ROCAUC, PRO and time",
        "Localization by category, in per cent",
        "Localization times by category, in milliseconds an image",
        "Localization: accuracy against scoring time",
    ):
        assert alone.count(f"<h3>{title}</h3>") == 1, title
    assert "1 trials failed (backbone wide_resnet101_2; localizer padim): out of memory" in alone
    cells = alone[alone.index("Coverage of localization") :]
    counts = [f'<td data-value="{number}.0">' for number in (3, 9, 8, 1, 0)]
    assert all(cells.index(one) > 0 for one in counts)
    page = report(both)
    assert page.index("efficientnet_b5</h2>") < page.index("wide_resnet101_2: localization</h2>")
    assert "Coverage of localization" in page
    assert "<h2>Coverage</h2>" in page
    assert "localization" not in report(make_frame(SMALL))


def test_commands_on_localization(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    save_trials(make_localization(), path)
    source = ["--trials", str(path)]
    out = ["--out", str(tmp_path / "tables")]
    assert main(["tables", *source, "--paper", "ridge", *out]) == 0
    printed = capsys.readouterr().out
    found = ("ridge_table1", "ridge_categories", "ridge_times")
    assert {file.name for file in (tmp_path / "tables").iterdir()} == {
        "ridge_document.tex",
        *(f"{name}.{suffix}" for name in found for suffix in ("txt", "md", "tex", "csv", "html")),
    }
    assert all((tmp_path / "tables" / f"{name}.txt").read_text(encoding="utf-8") in printed for name in found)
    only = "this sweep has localization trials only: multirun-analysis tables --paper ridge"
    for command in (["tables", *source, *out], ["effects", *source]):
        assert main(command) == 2
        assert only in capsys.readouterr().err
    assert main(["compare", str(path), str(path)]) == 2
    assert "localization trials only" in capsys.readouterr().err
    for wrong in (["--layer", "7"], ["--task", "x"], ["--center-crop", "9"], ["--input-size", "9"]):
        assert main(["tables", *source, "--paper", "ridge", *out, *wrong]) == 2
        assert wrong[0].removeprefix("--").replace("-", "_") in capsys.readouterr().err.replace("-", "_")
    assert main(["tables", *source, "--paper", "ono_mori", *out, "--task", "x"]) == 2
    pivot = ["pivot", *source, "--rows", "category", "--cols", "localizer", "--value"]
    assert main([*pivot, "aupro"]) == 0
    assert capsys.readouterr().out.startswith("AUPRO by category and localizer")
    assert main([*pivot, "speed"]) == 2
    assert "--value 'speed'" in capsys.readouterr().err


def test_claims_and_figures_of_both(
    both: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnoMori, "pictures", lambda *_: [])
    monkeypatch.setattr("multirun_analysis.figures.style.SUFFIXES", (".svg",))
    path = tmp_path / "t.parquet"
    save_trials(both, path)
    source = ["--trials", str(path)]
    ono_mori, ridge = "Statements of Ono & Mori, checked", "Statements of the ridge paper, checked"
    assert main(["claims", *source]) == 0
    printed = capsys.readouterr().out
    assert 0 <= printed.index(ono_mori) < printed.index(ridge)
    assert main(["claims", *source, "--backbone", "wide_resnet101_2"]) == 0
    captured = capsys.readouterr()
    assert ono_mori not in captured.out
    assert ridge in captured.out
    assert "note: wide_resnet101_2: no trials with backbone 'wide_resnet101_2'" in captured.err
    assert main(["figures", *source, "--backbone", "all", "--out", str(tmp_path / "f")]) == 0
    assert [file.name for file in (tmp_path / "f" / "wide_resnet101_2").iterdir()] == ["accuracy_time.svg"]
