"""The ridge paper's statements on trials in which the truth is known."""

from __future__ import annotations

import re
import zlib

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from multirun_analysis import claims
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.published import ridge_table1
from multirun_analysis.papers.ridge.claims import (
    ABOUT_TEN,
    MARGIN,
    check_ridge_claims,
    ridge_claims_table,
)
from multirun_analysis.papers.ridge.study import choose_localization
from multirun_analysis.papers.verdicts import FAILS, HOLDS, NOT_ENOUGH, UNDECIDED, Claim
from multirun_analysis.rendering.text import RENDERERS
from multirun_analysis.trials.run_info import Origin
from tests.support.trials import make_frame, make_localization

CATEGORIES = tuple(f"c{number:02}" for number in range(10))
ACCURATE = [
    f"as_accurate_as_{other}_{metric}"
    for other in ("patchcore", "padim")
    for metric in ("pixel_auroc", "aupro")
]
FASTER = ["faster_than_patchcore", "faster_than_padim"]
#: (pixel AUROC, AUPRO, seconds of scoring) of a world like the paper's.
PAPER = {"ridge": (0.977, 0.921, 1.0), "patchcore": (0.981, 0.923, 11.0), "padim": (0.977, 0.928, 500.0)}


def jitter(*key: object) -> float:
    """Between -1 and 1, the same always."""
    return zlib.crc32(repr(key).encode()) / 2**31 - 1


def world(truth: dict[str, tuple[float, float, float]], wobble: float = 0.002) -> pd.DataFrame:
    frame = make_localization(tuple(truth), CATEGORIES)
    for row in frame.index:
        localizer, category = frame.at[row, "localizer"], frame.at[row, "category"]
        roc, pro, seconds = truth[localizer]
        own = 0.01 * jitter(category)
        frame.loc[row, "pixel_auroc"] = roc + own + wobble * jitter("roc", localizer, category)
        frame.loc[row, "aupro"] = pro + own + wobble * jitter("pro", localizer, category)
        frame.loc[row, "score_seconds"] = seconds * (1 + 0.1 * jitter("s", localizer, category))
    return frame


def by_name(frame: pd.DataFrame, **options: str) -> dict[str, Claim]:
    return {claim.statement.name: claim for claim in claims(frame, "ridge", **options)}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def true_world() -> pd.DataFrame:
    return world(PAPER)


@pytest.fixture(scope="module")
def found(true_world: pd.DataFrame) -> dict[str, Claim]:
    return by_name(true_world)


def test_in_a_world_like_the_papers_everything_holds(found: dict[str, Claim]) -> None:
    assert list(found) == [*ACCURATE, *FASTER]
    assert {claim.verdict for claim in found.values()} == {HOLDS}
    assert all(claim.categories == 10 and claim.why == "" for claim in found.values())


def test_the_figures_are_plain_differences_and_ratios_of_totals(
    true_world: pd.DataFrame, found: dict[str, Claim]
) -> None:
    for other in ("patchcore", "padim"):
        for metric in ("pixel_auroc", "aupro"):
            wide = true_world.pivot(index="category", columns="localizer", values=metric)
            claim = found[f"as_accurate_as_{other}_{metric}"]
            assert claim.interval is not None
            assert claim.statement.unit == "points"
            assert claim.statement.bound == -MARGIN
            apart = 100 * (wide["ridge"] - wide[other])
            assert claim.interval.value == pytest.approx(apart.mean())
            test = ttest_1samp(apart, -MARGIN)  # p is of the bound, not of no difference
            assert claim.p == pytest.approx(test.pvalue)
            ends = test.confidence_interval()
            assert (claim.interval.low, claim.interval.high) == pytest.approx((ends.low, ends.high))
        wide = true_world.pivot(index="category", columns="localizer", values="score_seconds")
        claim = found[f"faster_than_{other}"]
        assert claim.interval is not None
        assert claim.statement.unit == "times"
        assert claim.statement.bound == ABOUT_TEN
        assert claim.interval.value == pytest.approx(wide[other].sum() / wide["ridge"].sum())
        assert claim.p == pytest.approx(ttest_1samp(wide[other] - ABOUT_TEN * wide["ridge"], 0).pvalue)
        for end in (claim.interval.low, claim.interval.high):
            assert ttest_1samp(wide[other] - end * wide["ridge"], 0).pvalue == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("ridge", "accurate", "faster"),
    [
        ((0.95, 0.89, 1.0), FAILS, HOLDS),  # well below both
        ((0.99, 0.95, 11.0), HOLDS, FAILS),  # as slow as PatchCore
        ((0.971, 0.913, 11.0 / 7), UNDECIDED, FAILS),  # one point below, seven times faster
    ],
)
def test_in_another_world_they_do_not(ridge: tuple[float, float, float], accurate: str, faster: str) -> None:
    found = by_name(world(PAPER | {"ridge": ridge}, wobble=0.004))
    assert found["as_accurate_as_patchcore_pixel_auroc"].verdict == accurate
    assert found["faster_than_patchcore"].verdict == faster
    if accurate == UNDECIDED:
        assert found["as_accurate_as_patchcore_pixel_auroc"].why.startswith("not told from -1")
    assert found["faster_than_padim"].verdict == HOLDS


def test_what_lacks_takes_the_verdict_and_is_named(true_world: pd.DataFrame) -> None:
    at = (true_world["localizer"] == "padim") & (true_world["category"] == "c03")
    found = by_name(true_world[~at])
    assert found[ACCURATE[0]].verdict == HOLDS
    assert found[FASTER[0]].verdict == HOLDS
    for name in (*ACCURATE[2:], FASTER[1]):
        assert found[name].verdict == NOT_ENOUGH
        assert found[name].interval is None
        assert found[name].why == "no value of c03 at PaDiM"
    failed = true_world.copy()
    failed.loc[at, ["status", "pixel_auroc", "aupro"]] = ["failed", float("nan"), float("nan")]
    assert by_name(failed)[FASTER[1]].why == "no value of c03 at PaDiM"
    instant = true_world.copy()
    instant.loc[instant["localizer"] == "ridge", "score_seconds"] = 0.0
    claims = by_name(instant)
    assert claims[FASTER[0]].why.startswith("no value of c00 at Ridge")
    assert claims[ACCURATE[0]].why == ""
    two = by_name(true_world[true_world["localizer"] != "padim"])
    assert two[FASTER[1]].why == "no trials with padim"


def test_few_categories_have_a_figure_and_no_verdict(true_world: pd.DataFrame) -> None:
    few = by_name(true_world[true_world["category"].isin(CATEGORIES[:4])])
    assert {claim.verdict for claim in few.values()} == {NOT_ENOUGH}
    assert all(claim.interval is not None and "at least 8" in claim.why for claim in few.values())


def test_a_ratio_without_bounds_is_printed_alone(true_world: pd.DataFrame) -> None:
    frame = true_world[true_world["category"].isin(CATEGORIES[:2])].copy()
    at = (frame["localizer"] == "ridge") & (frame["category"] == CATEGORIES[0])
    frame.loc[at, "score_seconds"] = 30.0  # two categories so different that their sum is not told from 0
    study = choose_localization(frame)
    found = check_ridge_claims(study)
    assert found[-1].interval is not None
    assert found[-1].interval.low == -float("inf")
    text = RENDERERS[".txt"](ridge_claims_table(found, study))
    assert "inf" not in text
    assert " times " in text


def test_other_settings_are_compared_where_they_are_clear(true_world: pd.DataFrame) -> None:
    one = true_world.assign(localizer=true_world["localizer"].replace("patchcore", "patchcore[coreset=0.1]"))
    found = by_name(one)
    assert found[FASTER[0]].verdict == HOLDS
    assert "patchcore[coreset=0.1] over ridge" in found[FASTER[0]].statement.setting
    both = pd.concat([true_world, one[one["localizer"].str.contains(r"\[")]], ignore_index=True)
    assert (
        by_name(both)[FASTER[0]].statement.setting == by_name(true_world)[FASTER[0]].statement.setting
    )  # as shipped
    second = one[one["localizer"].str.contains(r"\[")].assign(localizer="patchcore[coreset=0.25]")
    unclear = by_name(pd.concat([one, second], ignore_index=True))[FASTER[0]]
    assert unclear.why == "several localizers are patchcore: patchcore[coreset=0.1], patchcore[coreset=0.25]"
    variant = by_name(true_world.assign(task="localization[average=image]"))
    assert "PRO [variant: average=image] of ridge - patchcore" in variant[ACCURATE[1]].statement.setting


def test_the_setting_tells_the_whole_time_and_the_devices(
    true_world: pd.DataFrame, found: dict[str, Claim]
) -> None:
    total = true_world.groupby("localizer")[["score_seconds", "map_seconds", "backbone_seconds"]].sum()
    maps = total[["score_seconds", "map_seconds"]].sum(axis=1)
    whole = total.sum(axis=1)
    ratios = [seconds["patchcore"] / seconds["ridge"] for seconds in (maps, whole)]
    statement = f"(+ maps {ratios[0]:.3g}, + backbone {ratios[1]:.3g})"
    assert statement in found[FASTER[0]].statement.setting
    assert "different devices" not in found[FASTER[0]].statement.setting
    other = true_world.copy()
    other.loc[other["localizer"] == "padim", "device"] = "abacus"
    claims = by_name(other)
    assert "measured on different devices" in claims[FASTER[1]].statement.setting
    assert "different devices" not in claims[FASTER[0]].statement.setting


def test_the_table_goes_into_every_format(true_world: pd.DataFrame) -> None:
    study = choose_localization(true_world, origins=[Origin("located", "1f", "torch==2")])
    table = ridge_claims_table(check_ridge_claims(study), study)
    for suffix, render in RENDERERS.items():
        text = render(table)
        assert text.count("holds") >= 6, suffix
        assert "10.9 times" in text, suffix
    assert 'class="text holds"' in RENDERERS[".html"](table)
    assert re.search(r"1\d\.\d \[1\d\.\d, 1\d\.\d\] times", RENDERERS[".txt"](table))
    assert table.notes[-1] == "From sweep located: run 1f; torch==2."


def test_the_papers_own_figures_are_those_of_its_table(found: dict[str, Claim]) -> None:
    published = ridge_table1()
    for name in ACCURATE:
        other, metric = re.fullmatch(r"as_accurate_as_(patchcore|padim)_(.+)", name).groups()  # type: ignore[union-attr]
        printed = float(found[name].statement.published.split()[0])
        assert printed == pytest.approx(published["ridge", metric] - published[other, metric])
    assert [found[name].statement.published for name in FASTER] == [
        "10.9 times",
        "521.6 times, whose run had no GPU",
    ]


def test_detection_alone_is_refused() -> None:
    with pytest.raises(AnalysisError, match="detection trials only"):
        claims(make_frame(), "ridge")
