"""Scores of single images: from the store to tables, figure and messages."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.scores import ImageScores, write_scores
from multirun_analysis.cli import main
from multirun_analysis.errors import AnalysisError
from multirun_analysis.figures.distributions import BINS, bin_edges, distributions
from multirun_analysis.figures.style import Picture
from multirun_analysis.stats.delong import area, compared
from multirun_analysis.stats.intervals import Floats, holm
from multirun_analysis.summary.per_image import Scored, one_configuration
from multirun_analysis.summary.per_image_tables import area_table, defect_table, misses_table
from multirun_analysis.trials.image_scores import Images, read_scores
from tests.support.trials import CATEGORIES, Store, make_frame, make_localization_rows, make_rows, share

SMALL = {"layer": ("level6", "level7"), "pca_mode": ("npca50",)}
MVG = "layer=level7 & estimator=mvg"
KNN = "layer=level7 & estimator=knn1"


def labels_of(category: str) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.array([0] * 12 + [1] * (14 + len(category)), dtype=np.int8)


def scores_of(fingerprint: str, category: str) -> Floats:
    rng = np.random.default_rng(int(1e6 * share(fingerprint)))
    labels = labels_of(category)
    return np.round(rng.normal(size=len(labels)) + labels, 1)


def keep(rows: list[dict[str, Any]]) -> list[ImageScores]:
    return [
        ImageScores(
            row["fingerprint"],
            row["category"],
            scores_of(row["fingerprint"], row["category"]).tobytes(),
            labels_of(row["category"]).tobytes(),
        )
        for row in rows
    ]


def add(store: Store, run_id: str | None, trials: list[ImageScores]) -> None:
    path = store.folder / names.SCORES_TABLE
    write_scores(path, trials)
    store.client.log_artifact(str(run_id), str(path))


def row_of(rows: list[dict[str, Any]], category: str, **choices: str) -> dict[str, Any]:
    wanted = choices | {"category": category}
    (row,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return row


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, str]]:
    assert main(["scores", *argv, "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["scores", *argv]) == 2
    return capsys.readouterr().err


def test_one_configuration(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    add(store, parent, keep(rows))
    out = tmp_path / "out"
    lines = printed(capsys, "--tracking-uri", store.uri, "--where", MVG, "--out", str(out))
    assert [line["category"] for line in lines] == sorted(CATEGORIES)
    for line in lines:
        row = row_of(rows, line["category"], layer="level7", estimator="mvg")
        scores, labels = scores_of(row["fingerprint"], line["category"]), labels_of(line["category"])
        assert float(line["AUROC"]) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        own = area(scores, labels)
        assert line["[95 %]"] == f"[{own.low:.3f}, {own.high:.3f}]"
        assert (float(line["good"]), float(line["anomalous"])) == (12, 14 + len(line["category"]))
    figures = {f"scores.{suffix}" for suffix in ("pdf", "svg", "png")}
    tables = {f"scores.{suffix}" for suffix in ("txt", "md", "tex", "csv", "html")}
    assert {path.name for path in out.iterdir()} == figures | tables | {"scores_document.tex"}
    (line,) = printed(capsys, "--tracking-uri", store.uri, "--where", f"{MVG} & category=screw")
    assert line["category"] == "screw"


def test_two_configurations(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    add(store, parent, keep(rows))
    common = ["--tracking-uri", store.uri]
    lines = printed(capsys, *common, "--where", MVG, "--against", KNN, "--out", str(tmp_path / "out"))
    expected = []
    for line in lines:
        prints = [
            row_of(rows, line["category"], layer="level7", estimator=name)["fingerprint"]
            for name in ("mvg", "knn1")
        ]
        first, second = (scores_of(trial_id, line["category"]) for trial_id in prints)
        expected.append(compared(first, second, labels_of(line["category"])))
        assert float(line["mvg"]) == expected[-1].first.value
        assert float(line["knn1"]) == expected[-1].second.value
        assert float(line["difference"]) == pytest.approx(100 * expected[-1].difference.value)
        low, high = 100 * expected[-1].difference.low, 100 * expected[-1].difference.high
        assert line["[95 %]"] == f"[{low:+.2f}, {high:+.2f}]"
        assert line["p"] == f"{expected[-1].p:.3f}"
    assert [line["Holm p"] for line in lines] == [f"{p:.3f}" for p in holm([one.p for one in expected])]
    assert (tmp_path / "out" / "scores_compared.tex").is_file()
    turned = printed(capsys, *common, "--where", KNN, "--against", MVG)
    assert [line["p"] for line in turned] == [line["p"] for line in lines]
    assert [float(line["difference"]) for line in turned] == [-float(line["difference"]) for line in lines]
    assert "the same configuration" in error_of(capsys, *common, "--where", MVG, "--against", MVG)


def test_what_is_ambiguous_or_not_there(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    add(store, parent, keep(rows))
    common = ["--tracking-uri", store.uri]
    message = error_of(capsys, *common, "--where", "pca_mode=npca50")
    assert "selects 4 configurations" in message
    assert "layer (level6, level7); estimator (mvg, knn1)" in message
    message = error_of(capsys, *common, "--where", MVG, "--against", "layer=level7")
    assert "--against 'layer=level7' selects 2 configurations" in message
    assert "layer (" not in message
    assert "--against 'layer=x'" in error_of(capsys, *common, "--where", MVG, "--against", "layer=x")


def test_scores_that_were_not_kept(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(SMALL, failed=lambda row: row["category"] == "bottle")
    parent, _ = store.add_sweep(rows)
    common = ["--tracking-uri", store.uri, "--where", MVG]
    message = error_of(capsys, *common)
    assert "no scores of its images were kept" in message
    assert "runtime.resume=false" in message
    add(store, parent, [trial for trial in keep(rows) if trial.category == "screw"])
    assert main(["scores", *common]) == 0
    text = capsys.readouterr().out
    assert "Failed: bottle." in text
    assert "No scores were kept of cable: " in text
    (store.folder / "artifacts" / str(parent) / "artifacts" / names.SCORES_TABLE).write_text("no parquet")
    assert "no scores of its images were kept" in error_of(capsys, *common)


def test_a_run_without_a_parent(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows({"layer": ("level7",), "pca_mode": ("npca50",)})
    _, runs = store.add_sweep(rows, parent=False)
    for run_id, estimator in zip(runs, ("mvg", "knn1"), strict=True):
        add(store, run_id, keep([row for row in rows if row["estimator"] == estimator]))
    common = ["--tracking-uri", store.uri, "--where", "estimator=mvg"]
    assert len(printed(capsys, *common, "--against", "estimator=knn1")) == len(CATEGORIES)


def test_localization_too(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    detection, located = make_rows(SMALL), make_localization_rows()
    rows = [row | {"sweep": "both"} for row in (*detection, *located)]
    parent, _ = store.add_sweep(rows, "both")
    add(store, parent, keep(rows))
    common = ["--tracking-uri", store.uri]
    found = printed(capsys, *common, "--where", "localizer=ridge", "--against", "localizer=padim")
    assert list(found[0])[2:4] == ["ridge", "padim"]
    # The same images, so a detector and a localizer can be compared as well.
    assert len(printed(capsys, *common, "--where", "localizer=ridge", "--against", MVG)) == len(CATEGORIES)
    message = error_of(capsys, *common, "--where", "category=screw")
    assert message.rstrip().endswith("choose one of each of task (detection, localization)")


def test_other_test_images_are_not_paired(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    swapped = [
        trial._replace(labels=trial.labels[::-1])
        if trial.fingerprint == row["fingerprint"] and row["estimator"] == "mvg" and trial.category == "cable"
        else trial
        for trial, row in zip(keep(rows), rows, strict=True)
    ]
    add(store, parent, swapped)
    assert main(["scores", "--tracking-uri", store.uri, "--where", MVG, "--against", KNN]) == 0
    text = capsys.readouterr().out
    assert "Other test images, not compared: cable." in text
    assert "over 2 categories" in text


def test_scores_are_taken_as_they_were_kept(store: Store) -> None:
    """Ties were settled when the trial was measured: the last digit is left alone here."""
    rows = make_rows({"layer": ("level7",), "pca_mode": ("npca50",), "estimator": ("mvg",)})
    parent, _ = store.add_sweep(rows)
    scores = np.array([1.0, 1.0 + 1e-15, 2.0])
    add(store, parent, [ImageScores(rows[0]["fingerprint"], "bottle", scores.tobytes(), b"\x00\x01\x01")])
    (images,) = read_scores(store.uri, None, make_frame(SMALL).iloc[:0].reindex([0]).assign(
        fingerprint=rows[0]["fingerprint"], sweep="first"
    )).values()  # fmt: skip
    assert images.scores.tolist() == scores.tolist()
    assert area(images.scores, images.labels).value == 1.0


def with_names(trials: list[ImageScores]) -> list[ImageScores]:
    """Good images first, then two defect types in turn."""
    named = []
    for one in trials:
        defects = ["good" if not label else ("cut", "hole")[i % 2] for i, label in enumerate(one.labels)]
        paths = [f"{one.category}/test/{defect}/{i:03}.png" for i, defect in enumerate(defects)]
        named.append(one._replace(images=tuple(zip(paths, defects, strict=True))))
    return named


def tables_of(text: str) -> list[list[dict[str, str]]]:
    parts = [part for part in text.split("\n\n") if part.strip()]
    return [list(csv.DictReader(io.StringIO(part))) for part in parts]


def test_defect_types_and_misses(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    add(store, parent, with_names(keep(rows)))
    out = tmp_path / "out"
    common = ["scores", "--tracking-uri", store.uri, "--where", MVG]
    assert main([*common, "--format", "csv", "--misses", "3", "--out", str(out)]) == 0
    areas, by_defect, misses = tables_of(capsys.readouterr().out)
    assert len(areas) == len(CATEGORIES)
    for category in CATEGORIES:
        row = row_of(rows, category, layer="level7", estimator="mvg")
        scores, labels = scores_of(row["fingerprint"], category), labels_of(category)
        types = np.array(["good" if not label else ("cut", "hole")[i % 2] for i, label in enumerate(labels)])
        own = {line["defect type"]: line for line in by_defect if category in line.values()}
        assert sorted(own) == ["cut", "hole"]
        for defect, line in own.items():
            kept = np.isin(types, ["good", defect])
            expected = roc_auc_score(labels[kept], scores[kept])
            assert float(line["AUROC"]) == pytest.approx(expected, abs=1e-12)
            assert float(line["images"]) == (types == defect).sum()
        worst = [line for line in misses if category in line.values()]
        for kind, sign in ((0, 1), (1, -1)):
            listed_ = [line for line in worst if (line["type"] == "good") == (kind == 0)]
            assert 0 < len(listed_) <= 3
            places = [int(line["image"][-7:-4]) for line in listed_]
            assert all(labels[i] == kind for i in places)
            rest = [i for i in np.flatnonzero(labels == kind) if i not in places]
            assert min(sign * scores[i] for i in places) >= max(sign * scores[i] for i in rest)
            for line, i in zip(listed_, places, strict=True):
                others = scores[labels != kind]
                share = ((sign * others < sign * scores[i]) + 0.5 * (others == scores[i])).mean()
                assert float(line["beyond"]) == pytest.approx(100 * share)
                assert line["image"] == f"{category}/test/{types[i]}/{i:03}.png"
    assert {"scores_by_defect.tex", "scores_misses.md"} <= {path.name for path in out.iterdir()}
    assert main([*common, "--against", KNN]) == 0
    assert "ranked worst" not in capsys.readouterr().out


def test_only_images_on_the_wrong_side_are_misses() -> None:
    labels = np.array([0, 0, 0, 1, 1], dtype=np.int8)
    names = tuple("abcde"), ("good", "good", "good", "hole", "hole")
    table = misses_table(made({"c": Images(np.array([1.0, 2, 5, 3, 9]), labels, *names)}), 5)
    assert table is not None
    lines = [(row.header, *(cell.printed for cell in row.cells)) for row in table.blocks[0].rows]
    assert lines == [("c", "good", "5", "50.0"), ("d", "hole", "3", "33.3")]
    assert misses_table(made({"c": Images(np.arange(5.0), labels)}), 5) is None
    clean = misses_table(made({"c": Images(np.arange(5.0), labels, *names)}), 5)
    assert clean is not None
    assert not clean.blocks
    assert clean.notes[0] == "Every anomalous image scores above every good one: c."


def test_a_tie_is_half_a_miss() -> None:
    labels = np.array([0, 1], dtype=np.int8)
    table = misses_table(made({"c": Images(np.ones(2), labels, ("a", "b"), ("good", "hole"))}), 5)
    assert table is not None
    assert [row.cells[2].printed for row in table.blocks[0].rows] == ["50.0", "50.0"]


def test_scores_without_names_say_so() -> None:
    labels = np.array([0, 1], dtype=np.int8)
    both = {
        "c": Images(np.ones(2), labels, ("a", "b"), ("good", "hole")),
        "d": Images(np.ones(2), labels),
    }
    for table in (defect_table(made(both)), misses_table(made(both), 5)):
        assert table is not None
        assert "No names of images were kept of d." in table.notes
    assert defect_table(made({"d": both["d"]})) is None


def test_images_of_other_names_are_not_paired(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal numbers of good and anomalous images make no equal images."""
    rows = make_rows(SMALL)
    parent, _ = store.add_sweep(rows)
    named = with_names(keep(rows))
    for i, row in enumerate(rows):
        if row["estimator"] == "mvg" and row["category"] == "cable" and named[i].images:
            named[i] = named[i]._replace(images=tuple((f"other/{p}", d) for p, d in named[i].images or ()))
    add(store, parent, named)
    assert main(["scores", "--tracking-uri", store.uri, "--where", MVG, "--against", KNN]) == 0
    assert "Other test images, not compared: cable." in capsys.readouterr().out


def made(images: dict[str, Images]) -> Scored:
    trials = make_frame(SMALL).iloc[: len(images)]
    return Scored(trials, {"layer": "level7"}, images, ())


def test_the_figure_shows_the_shares_of_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = {
        f"c{i}": Images(rng.lognormal(size=30), np.array([0] * 10 + [1] * 20, dtype=np.int8))
        for i in range(7)
    }
    picture = distributions(made(images))
    assert isinstance(picture, Picture)
    figure = picture.draw()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 7
    for axes, (name, own) in zip(shown, images.items(), strict=True):
        good, anomalous = (patch.get_data() for patch in axes.patches)
        for drawn, values in ((good, own.good), (anomalous, own.anomalous)):
            assert drawn.values.sum() == pytest.approx(1)
            inside = np.searchsorted(np.sort(values), drawn.edges[BINS // 2]) / len(values)
            assert drawn.values[: BINS // 2].sum() == pytest.approx(inside)
        assert axes.get_title() == f"{name}  {roc_auc_score(own.labels, own.scores):.3f}"


def test_equal_scores_have_a_panel_and_no_interval() -> None:
    constant = Images(np.full(5, 3.0), np.array([0, 0, 1, 1, 1], dtype=np.int8))
    edges = bin_edges(constant.scores)
    assert edges[0] < 3 < edges[-1]
    assert np.all(np.diff(edges) > 0)
    distributions(made({"c": constant})).draw()
    table = area_table(made({"c": constant}))
    assert table.blocks[0].rows[0].cells[1].text == ""
    assert table.notes[0].startswith("No interval: c ")


def test_a_single_choice_that_only_some_have_is_ambiguous() -> None:
    frame = make_frame(SMALL | {"layer": ("level7",), "estimator": ("mvg",)})
    frame.loc[frame.index[0], "center_crop"] = 224
    with pytest.raises(AnalysisError, match=r"center_crop \(224, none\)"):
        one_configuration(frame, "layer=level7")
    assert isinstance(one_configuration(frame, "center_crop=none"), pd.DataFrame)
