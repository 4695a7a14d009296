"""The claims on trials in which the truth is known."""

from __future__ import annotations

import re
import zlib

import pandas as pd
import pytest

from multirun_analysis import claims
from multirun_analysis.papers.ono_mori.claims import claims_table
from multirun_analysis.papers.ono_mori.study import choose_study
from multirun_analysis.papers.published import ono_mori
from multirun_analysis.papers.verdicts import FAILS, HOLDS, NOT_ENOUGH, UNDECIDED, Claim
from multirun_analysis.rendering.text import RENDERERS
from multirun_analysis.summary.category_matrix import CategoryMatrix, Lacking, category_matrix
from tests.support.trials import make_frame

CATEGORIES = tuple(f"c{number:02}" for number in range(8))
MODES = ("none", *(f"{kind}{rate}" for kind in ("pca", "npca") for rate in (10, 20, 30, 40, 50)))
GRID = {
    "layer": ("level1", "level2", "level3", "level4", "all"),
    "pca_mode": MODES,
    "estimator": ("mvg", "knn1", "knn5", "knn10", "flow"),
}
POOLINGS = ("min", "max", "avg", "min_max", "min_avg", "max_avg", "min_max_avg")


def jitter(*key: object) -> float:
    """Between -1 and 1, the same always."""
    return zlib.crc32(repr(key).encode()) / 2**31 - 1


def paper(row: pd.Series) -> float:
    """A world in which every statement of the paper is true."""
    level = {"all": 4.0}.get(row["layer"]) or float(row["layer"][-1])
    mode = row["pca_mode"]
    reduction = 0.0 if mode == "none" else (0.04 if mode.startswith("npca") else -0.04)
    estimator = {"mvg": 0.02, "knn1": 0.0, "knn5": 0.0, "knn10": -0.01, "flow": -0.03}[row["estimator"]]
    pooling = 0.03 if row["pooling"] == "avg" else 0.0
    backbone = 0.05 if row["backbone"] == "efficientnet_b5" else 0.0
    noise = 0.0002 if row["augmentation"] == "noise" else 0.0
    own = 0.05 * jitter(row["category"])
    return 0.5 + 0.05 * level + reduction + estimator + pooling + backbone + noise + own


def world(truth: object = paper, sign: float = 1.0, wobble: float = 0.002) -> pd.DataFrame:
    """The grid, both comparisons and another backbone, with AUROCs of that world."""
    at = {"layer": ("level4",), "pca_mode": ("npca50",), "estimator": ("mvg", "knn1")}
    frames = [
        make_frame(GRID, CATEGORIES),
        make_frame(at | {"pooling": POOLINGS[:2] + POOLINGS[3:]}, CATEGORIES),
        make_frame(at | {"augmentation": ("noise", "standard")}, CATEGORIES),
        make_frame(GRID | {"backbone": ("resnet18",), "estimator": ("knn1",)}, CATEGORIES, weights="w"),
    ]
    frame = pd.concat(frames, ignore_index=True)
    assert callable(truth)
    keys = zip(
        frame["layer"],
        frame["pca_mode"],
        frame["estimator"],
        frame["pooling"],
        frame["category"],
        strict=True,
    )
    small = [wobble * jitter(*key) for key in keys]
    frame["image_auroc"] = [sign * truth(row) for _, row in frame.iterrows()] + pd.Series(small)
    return frame


@pytest.fixture(scope="module")
def true_world() -> pd.DataFrame:
    return world()


@pytest.fixture(scope="module")
def true_claims(true_world: pd.DataFrame) -> dict[str, Claim]:
    return by_name(true_world)


def by_name(frame: pd.DataFrame, **options: str) -> dict[str, Claim]:
    return {claim.statement.name: claim for claim in claims(frame, **options)}


def test_in_a_world_where_the_paper_is_right_everything_holds(true_claims: dict[str, Claim]) -> None:
    found = true_claims
    assert len(found) == 12
    assert {name: claim.verdict for name, claim in found.items()} == dict.fromkeys(found, HOLDS)
    assert all(claim.categories == 8 and claim.why == "" for claim in found.values())


def test_in_the_opposite_world_nothing_does_but_the_small(true_world: pd.DataFrame) -> None:
    frame = true_world.copy()
    frame["image_auroc"] = 1.2 - frame["image_auroc"]
    found = by_name(frame)
    held = {name for name, claim in found.items() if claim.verdict == HOLDS}
    assert (
        {"augmentation", "augmentation_tenth"}
        <= held
        <= {
            "augmentation",
            "augmentation_tenth",
            "more_neighbours",
        }
    )
    for name in ("deep_layers", "deepest_level", "npca_beats_none", "none_beats_pca", "mvg_beats_knn"):
        assert found[name].verdict == FAILS
    for name in ("npca_20_to_50", "simple_is_enough", "avg_pooling", "backbone"):
        assert found[name].verdict == FAILS


def test_the_figures_are_plain_means(true_world: pd.DataFrame, true_claims: dict[str, Claim]) -> None:
    found = true_claims
    own = true_world[true_world["backbone"] == "efficientnet_b5"]
    main = own[(own["pooling"] == "avg") & (own["augmentation"] == "none")]

    def figure(name: str) -> float:
        interval = found[name].interval
        assert interval is not None
        assert interval.low <= interval.value <= interval.high
        return interval.value / 100

    table3 = main[(main["estimator"] == "knn1") & (main["pca_mode"] == "npca50")]
    layer = table3.groupby("layer")["image_auroc"].mean()
    assert figure("deep_layers") == pytest.approx(
        layer[["level3", "level4"]].mean() - layer[["level1", "level2"]].mean()
    )
    assert figure("deepest_level") == pytest.approx(
        layer["level4"] - layer[["level1", "level2", "level3"]].max()
    )
    deepest = main[main["layer"] == "level4"]
    mode = deepest.groupby("pca_mode")["image_auroc"].mean()
    npca, pca = ([f"{kind}{rate}" for rate in (10, 20, 30, 40, 50)] for kind in ("npca", "pca"))
    assert figure("npca_beats_none") == pytest.approx(mode[npca].mean() - mode["none"])
    assert figure("none_beats_pca") == pytest.approx(mode["none"] - mode[pca].mean())
    assert figure("npca_20_to_50") == pytest.approx(mode[npca[1:]].min() - mode["none"])
    best = deepest[deepest["pca_mode"] == "npca50"].groupby("estimator")["image_auroc"].mean()
    assert figure("more_neighbours") == pytest.approx(best[["knn5", "knn10"]].max() - best["knn1"])
    assert figure("mvg_beats_knn") == pytest.approx(best["mvg"] - best["knn1"])
    assert figure("simple_is_enough") == pytest.approx(best[["mvg", "knn1"]].min() - best["flow"])
    compared = own[
        (own["layer"] == "level4") & (own["pca_mode"] == "npca50") & own["estimator"].isin(["mvg", "knn1"])
    ]
    pooling = compared[compared["augmentation"] == "none"].groupby("pooling")["image_auroc"].mean()
    assert figure("avg_pooling") == pytest.approx(pooling["avg"] - pooling.drop("avg").max())
    noise = (
        compared[compared["pooling"] == "avg"]
        .groupby(["estimator", "augmentation"])["image_auroc"]
        .mean()
        .unstack()
    )
    assert figure("augmentation") == pytest.approx((noise["noise"] - noise["none"]).abs().max())
    other = true_world[(true_world["backbone"] == "resnet18") & (true_world["layer"] == "level4")]
    other = other[other["pca_mode"] == "npca50"]
    assert figure("backbone") == pytest.approx(layer["level4"] - other["image_auroc"].mean())


def test_noise_that_moves_one_estimator_only_is_seen(true_world: pd.DataFrame) -> None:
    frame = true_world.copy()
    frame.loc[(frame["augmentation"] == "noise") & (frame["estimator"] == "mvg"), "image_auroc"] += 0.01
    assert by_name(frame)["augmentation"].verdict == FAILS


def test_a_missing_or_failed_trial_takes_the_verdict_and_is_named(true_world: pd.DataFrame) -> None:
    at = (true_world["layer"] == "level2") & (true_world["category"] == "c03")
    found = by_name(true_world[~at])
    claim = found["deep_layers"]
    assert claim.verdict == NOT_ENOUGH
    assert claim.interval is None
    assert "no value of c03 at level2" in claim.why
    assert found["npca_beats_none"].verdict == HOLDS  # needs level4 only
    failed = true_world.copy()
    failed.loc[at, ["image_auroc", "status"]] = [float("nan"), "failed"]
    assert by_name(failed)["deep_layers"].why == claim.why


def test_few_categories_and_missing_choices() -> None:
    few = by_name(make_frame(GRID, CATEGORIES[:4]))
    assert {claim.verdict for claim in few.values()} == {NOT_ENOUGH}
    assert few["deep_layers"].interval is not None
    assert "at least 8" in few["deep_layers"].why
    assert "no trials with pooling min, max, min_max" in few["avg_pooling"].why
    assert few["backbone"].why == "no trials with backbone 'resnet18'; there are: efficientnet_b5"
    one = by_name(make_frame({"layer": ("level4",), "pca_mode": ("npca50",)}, CATEGORIES))
    assert "only 1 levels" in one["deep_layers"].why
    assert "only 1 levels" in one["deepest_level"].why
    assert "no trials with pca_mode none" in one["npca_beats_none"].why
    assert one["mvg_beats_knn"].verdict in (HOLDS, FAILS, UNDECIDED)


def test_a_matrix_is_complete_or_says_what_lacks(true_world: pd.DataFrame) -> None:
    study = choose_study(true_world)
    at = {"pooling": "avg", "augmentation": "none", "pca_mode": "none", "layer": "level2"}
    found = category_matrix(study, "estimator", ["knn1", "mvg"], at)
    assert isinstance(found, CategoryMatrix)
    assert found.categories == CATEGORIES
    plain = true_world[(true_world["backbone"] == "efficientnet_b5") & (true_world["layer"] == "level2")]
    plain = plain[plain["pca_mode"] == "none"].pivot(
        index="category", columns="estimator", values="image_auroc"
    )
    assert found.values.tolist() == plain[["knn1", "mvg"]].to_numpy().tolist()
    lacking = category_matrix(study, "pca_mode", ["none"], at, average_over="estimator", of=("mvg", "svm"))
    assert lacking == Lacking("no trials with estimator svm")


def test_the_table_of_claims_goes_into_every_format(
    true_world: pd.DataFrame, true_claims: dict[str, Claim]
) -> None:
    study = choose_study(true_world)
    table = claims_table(list(true_claims.values()), study)
    for suffix, render in RENDERERS.items():
        text = render(table)
        assert text.count("holds") >= 12, suffix
    assert 'class="text holds"' in RENDERERS[".html"](table)
    assert r"\begin{tabular}{lllllll}" in RENDERERS[".tex"](table)
    assert "+10.0" in RENDERERS[".txt"](table)
    assert "best as printed" not in RENDERERS[".txt"](table)


def test_the_papers_own_figures_are_those_of_its_tables(true_claims: dict[str, Claim]) -> None:
    table2 = {mode: value for (mode, _), value in ono_mori("table2").items()}
    level = {layer: value for (row, layer), value in ono_mori("table3").items() if row == "mean"}
    pooling = ono_mori("table4")
    npca, pca = (
        sum(table2[f"{kind}{rate}"] for rate in (10, 20, 30, 40, 50)) / 5 for kind in ("npca", "pca")
    )
    deep, shallow = (sum(level[f"level{n}"] for n in those) / 3 for those in ((5, 6, 7), (1, 2, 3)))
    best = {
        name: pooling[name, "avg"] - max(pooling[name, other] for other in POOLINGS if other != "avg")
        for name in ("mvg", "knn1")
    }
    figures = {
        "deep_layers": [deep - shallow],
        "deepest_level": [level["level7"] - level["level6"]],
        "npca_beats_none": [npca - table2["none"]],
        "none_beats_pca": [table2["none"] - pca],
        "npca_20_to_50": [table2["npca20"] - table2["none"]],
        "mvg_beats_knn": [pooling["mvg", "avg"] - pooling["knn1", "avg"]],
        "avg_pooling": [best["mvg"], best["knn1"]],
    }
    for name, values in figures.items():
        printed = [
            float(text) for text in re.findall(r"\+(\d+(?:\.\d+)?)", true_claims[name].statement.published)
        ]
        assert printed == pytest.approx([100 * value for value in values], abs=0.051), name
