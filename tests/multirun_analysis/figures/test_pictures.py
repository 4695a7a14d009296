"""What the figures show, against plain pandas; their files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.figures.layers import category_curves
from multirun_analysis.figures.ranks import cliques
from multirun_analysis.figures.style import COLOURS, Picture, inline_svg, panels, save
from multirun_analysis.papers import paper_named
from multirun_analysis.papers.analysis import analysis_of
from multirun_analysis.papers.ono_mori.study import choose_study
from multirun_analysis.papers.ridge.accuracy_time import accuracy_against_time
from multirun_analysis.papers.ridge.study import choose_localization
from multirun_analysis.rendering.table import Absent
from multirun_analysis.stats.intervals import Ranking
from tests.support.trials import make_frame, make_localization

MANY = tuple(f"c{number}" for number in range(6))
NAMES = [
    "heat_map",
    "rate_curves",
    "category_curves",
    "critical_differences",
    "effects",
    "pareto",
    "against_published",
]


def made_of(frame: pd.DataFrame) -> dict[str, Picture | Absent]:
    found = analysis_of(paper_named("ono_mori"), frame)
    return {picture.name: picture for picture in found.pictures}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_frame(categories=MANY)


@pytest.fixture(scope="module")
def made(frame: pd.DataFrame) -> dict[str, Picture | Absent]:
    return made_of(frame)


def axes_of(picture: Picture | Absent) -> list[Axes]:
    assert isinstance(picture, Picture), picture
    return picture.draw().axes


def test_every_figure_is_there(made: dict[str, Picture | Absent]) -> None:
    assert list(made) == NAMES
    assert all(isinstance(picture, Picture) for picture in made.values())


def test_drawing_leaves_the_log_alone(
    made: dict[str, Picture | Absent], caplog: pytest.LogCaptureFixture
) -> None:
    """A sweep draws while its log is on the terminal; matplotlib logs levels that look like numbers."""
    with caplog.at_level("INFO"):
        for picture in made.values():
            axes_of(picture)
    assert caplog.messages == []


def test_the_heat_map_is_the_plain_mean(frame: pd.DataFrame, made: dict[str, Picture | Absent]) -> None:
    axes = axes_of(made["heat_map"])[0]
    plain = frame.pivot_table("image_auroc", "pca_mode", "layer")
    rows, columns = ["none", "pca10", "pca50", "npca10", "npca50"], ["level6", "level7", "all"]
    shown = np.asarray(axes.images[0].get_array())
    assert shown == pytest.approx(plain.loc[rows, columns].to_numpy())
    assert [text.get_text() for text in axes.texts] == [f"{value:.3f}" for value in shown.ravel()]
    assert [label.get_text() for label in axes.get_yticklabels()] == rows
    column, row = axes.patches[0].get_xy()  # type: ignore[attr-defined]
    assert (row + 0.5, column + 0.5) == np.unravel_index(shown.argmax(), shown.shape)


def test_the_curves_are_the_trials(frame: pd.DataFrame, made: dict[str, Picture | Absent]) -> None:
    table3 = frame[(frame["pca_mode"] == "npca50") & (frame["estimator"] == "knn1")]
    plain = table3.pivot(index="category", columns="layer", values="image_auroc")[["level6", "level7"]]
    axes = axes_of(made["category_curves"])
    for own, category in zip(axes, MANY, strict=False):
        assert own.get_title() == category
        _, mean, line = own.get_lines()
        assert list(line.get_ydata()) == plain.loc[category].tolist()
        assert list(mean.get_ydata()) == pytest.approx(plain.mean().tolist())
    deepest = frame[frame["layer"] == "level7"].groupby(["estimator", "pca_mode"])["image_auroc"].mean()
    for own, estimator in zip(axes_of(made["rate_curves"]), ("mvg", "knn1"), strict=False):
        npca = next(line for line in own.get_lines() if line.get_label() == "NPCA")
        assert list(npca.get_xdata()) == [10, 50]
        assert list(npca.get_ydata()) == pytest.approx([deepest[estimator, m] for m in ("npca10", "npca50")])


def test_published_against_ours(frame: pd.DataFrame, made: dict[str, Picture | Absent]) -> None:
    axes = axes_of(made["against_published"])[0]
    table2, table3 = (np.asarray(points.get_offsets()) for points in axes.collections)
    assert len(table2) == 5  # the rates 10 and 50 of both families, and none
    means = frame[(frame["pca_mode"] == "npca50") & (frame["estimator"] == "knn1")]
    plain = means.groupby("layer")["image_auroc"].mean()
    expected = sorted([(0.92, plain["level6"]), (0.97, plain["level7"]), (0.97, plain["all"])])
    assert np.array(sorted(map(tuple, table3))) == pytest.approx(np.array(expected))


def test_a_hole_is_no_point(frame: pd.DataFrame) -> None:
    hole = (frame["layer"] == "level6") & (frame["category"] == "c1") & (frame["pca_mode"] == "npca50")
    found = made_of(frame[~hole])
    texts = [text.get_text() for text in axes_of(found["heat_map"])[0].texts]
    assert texts.count("\N{EN DASH}") == 1
    lines = axes_of(found["category_curves"])[1].get_lines()
    assert np.isnan(lines[2].get_ydata()).tolist() == [True, False]  # type: ignore[arg-type]
    assert np.isnan(lines[1].get_ydata()).tolist() == [True, False]  # type: ignore[arg-type]


def test_what_there_are_no_trials_for_is_said() -> None:
    one = make_frame({"layer": ("level7",), "pca_mode": ("none",), "estimator": ("mvg",)})
    found = made_of(one)
    absent = {name for name, picture in found.items() if isinstance(picture, Absent)}
    assert absent == set(NAMES) - {"pareto"}
    few = made_of(make_frame())
    assert isinstance(few["critical_differences"], Absent)
    assert "need at least 5" in few["critical_differences"].reason
    broken = made_of(make_frame(failed=lambda row: True))
    assert all(isinstance(picture, Absent) for picture in broken.values())


def test_a_diagram_that_cannot_tell_any_pair_apart_says_so(made: dict[str, Picture | Absent]) -> None:
    """Ahead in all of n categories has a two-sided p of 2^(1 - n); five choices are ten pairs."""
    few = made["critical_differences"]
    assert isinstance(few, Picture)
    assert len(MANY) == 6
    assert "6 categories are too few to tell any pair apart among: " in few.caption
    assert "reductions (level7" in few.caption.partition("too few")[2]
    nine = made_of(make_frame(categories=[f"c{number}" for number in range(9)]))["critical_differences"]
    assert isinstance(nine, Picture)
    assert "too few" not in nine.caption


def test_times_that_are_shares_are_called_so(made: dict[str, Picture | Absent]) -> None:
    pareto = made["pareto"]
    assert isinstance(pareto, Picture)
    assert "equal shares of the time they took together" in pareto.caption
    assert "share of a joint computation" in axes_of(pareto)[0].get_xlabel()


def test_many_categories_share_one_panel() -> None:
    many = make_frame({"pca_mode": ("npca50",)}, [f"c{number:03}" for number in range(100)])
    assert len(axes_of(category_curves(choose_study(many)))) == 1


def test_localizers_are_at_their_time_and_accuracy() -> None:
    frame = make_localization(("ridge", "patchcore", "padim", "padim[channels=9]"), MANY)
    frame.loc[(frame["localizer"] == "padim") & (frame["category"] == "c1"), "backbone_seconds"] = 0.0
    picture = accuracy_against_time(choose_localization(frame))
    by = frame.groupby("localizer")
    images = by["n_test"].sum().astype(float)
    scoring = 1000 * by["score_seconds"].sum() / images
    spent = by[["score_seconds", "map_seconds", "backbone_seconds"]].sum().sum(axis=1)
    labels = {
        "Ridge": "ridge",
        "PatchCore": "patchcore",
        "PaDiM": "padim",
        "PaDiM [channels=9]": "padim[channels=9]",
    }
    for own, metric in zip(axes_of(picture), ("pixel_auroc", "aupro"), strict=True):
        marks = {
            str(line.get_label()): line.get_xydata()[0]
            for line in own.get_lines()
            if len(line.get_xdata()) == 1
        }  # type: ignore[arg-type, index]
        for name, label in labels.items():
            assert marks[name] == pytest.approx([scoring[label], 100 * by[metric].mean()[label]])
        assert marks["published Ridge"][0] == pytest.approx(1050 / 1725)
        ends = sorted(line.get_xdata()[1] for line in own.get_lines() if len(line.get_xdata()) == 2)  # type: ignore[arg-type, index]
        whole = sorted(1000 * spent[label] / images[label] for label in labels.values() if label != "padim")
        assert ends == pytest.approx(whole)  # PaDiM's maps came from the cache
    partial = frame[(frame["localizer"] != "ridge") | (frame["category"] != "c0")]
    shown = axes_of(accuracy_against_time(choose_localization(partial)))[0].get_lines()
    assert "Ridge" not in {line.get_label() for line in shown}
    nothing = accuracy_against_time(choose_localization(make_localization(n_test=None)))
    assert isinstance(nothing, Absent)
    assert "no localizer has" in nothing.reason


def test_files_in_every_format_the_same_each_time(tmp_path: Path) -> None:
    def draw() -> Figure:
        figure, (axes,) = panels(1, 1, 2, 2)
        axes.plot([1, 2], label="x")
        axes.legend()
        return figure

    picture = Picture("small", "Small", "A line.", draw)
    paths = save(picture, tmp_path / "a", "WARNING: random")
    again = save(picture, tmp_path / "b", "WARNING: random")
    magic = {".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}
    for path, other in zip(paths, again, strict=True):
        data = path.read_bytes()
        assert data.startswith(magic[path.suffix])
        assert data == other.read_bytes()


def test_inline_figures_share_no_id(made: dict[str, Picture | Absent]) -> None:
    texts = [inline_svg(made[name]) for name in ("effects", "pareto") if isinstance(made[name], Picture)]  # type: ignore[arg-type]
    seen: set[str] = set()
    for text in texts:
        ET.fromstring(text)
        ids = re.findall(r'\bid="([^"]+)"', text)
        references = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
        assert len(ids) == len(set(ids))
        assert references <= set(ids)
        assert not seen & set(ids)
        seen |= set(ids)


@given(st.data())
def test_cliques_by_trying_every_run(data: st.DataObject) -> None:
    k = data.draw(st.integers(2, 6))
    pairs = {pair: data.draw(st.sampled_from([0.01, 0.5])) for pair in combinations(range(k), 2)}
    ranks = np.array(data.draw(st.permutations(range(1, k + 1))), dtype=float)
    order = [int(i) for i in ranks.argsort()]
    runs = [
        tuple(order[a:b])
        for a in range(k)
        for b in range(a + 2, k + 1)
        if all(pairs[min(i, j), max(i, j)] >= 0.05 for i, j in combinations(order[a:b], 2))
    ]
    longest = [run for run in runs if not any(set(run) < set(other) for other in runs)]
    assert cliques(Ranking(ranks, 0.01, pairs)) == longest


def test_colours_differ_in_lightness() -> None:
    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    apart = [abs(lightness(a) - lightness(b)) for a, b in pairwise(COLOURS)]
    assert min(apart) > 0.03
