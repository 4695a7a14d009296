"""Effects against least squares, plain loops and worlds with a known answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from multirun_analysis.papers.ono_mori.study import choose_study
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.rendering.text import RENDERERS
from multirun_analysis.summary.configurations import best, configurations, pareto
from multirun_analysis.summary.effects import effects, marginals, shares
from multirun_analysis.summary.effects_tables import effects_tables
from multirun_analysis.summary.factorial import Factorial, full_factorial, variance_shares
from multirun_analysis.summary.study import DetectionStudy
from tests.support.trials import CATEGORIES, make_frame

MANY = tuple(f"c{number}" for number in range(6))


def study(frame: pd.DataFrame, **options: str) -> DetectionStudy:
    return choose_study(frame, **options)


def grid_of(frame: pd.DataFrame) -> Factorial:
    found = full_factorial(study(frame))
    assert found is not None
    return found


def test_shares_are_sums_of_squares() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)) + np.arange(4)[:, None]
    found = variance_shares(values)
    total = ((values - values.mean()) ** 2).sum()

    def explained(*axes: tuple[int, ...]) -> float:
        """By least squares on indicators of every combination along these axes."""
        index = np.indices(values.shape).reshape(3, -1)
        columns = [np.ones(values.size)]
        for subset in axes:
            cells = np.ravel_multi_index(index[list(subset)], [values.shape[i] for i in subset])
            columns += [(cells == cell).astype(float) for cell in range(cells.max() + 1)]
        design = np.stack(columns, axis=1)
        fitted = design @ np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
        return float(((fitted - values.mean()) ** 2).sum() / total)

    for axis in range(3):
        assert found[axis,] == pytest.approx(explained((axis,)))
    for pair in ((0, 1), (0, 2), (1, 2)):
        alone = explained((pair[0],), (pair[1],))
        assert found[pair] == pytest.approx(explained(pair) - alone)
    assert all(np.isnan(share) for share in variance_shares(np.ones((2, 2))).values())


def test_shares_are_those_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.formula.api", reason="statsmodels is not installed")
    from statsmodels.stats.anova import anova_lm

    values = np.random.default_rng(1).normal(size=(3, 4, 5))
    index = np.indices(values.shape).reshape(3, -1)
    frame = pd.DataFrame({"y": values.ravel(), "a": index[0], "b": index[1], "c": index[2]})
    table = anova_lm(api.ols("y ~ (C(a) + C(b) + C(c)) ** 2", frame).fit())["sum_sq"]
    theirs = (table / table.sum()).iloc[:-1]
    found = variance_shares(values)
    assert [found[key] for key in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))] == pytest.approx(list(theirs))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_full_grid_is_full_and_the_trials_themselves(data: st.DataObject) -> None:
    frame = make_frame()
    gone = data.draw(st.sets(st.integers(0, len(frame) - 1), max_size=12))
    left = frame.drop(index=list(gone))
    left = left[left["category"].isin(CATEGORIES)]
    if set(left["category"]) != set(CATEGORIES):
        return
    found = full_factorial(study(left, layer=str(left["layer"].iloc[0])))
    if found is None:
        return
    assert np.isfinite(found.values).all()
    assert found.values.shape == tuple(len(choices) for choices in found.choices)
    values = left.set_index(["layer", "pca_mode", "estimator", "category"])["image_auroc"].to_dict()
    dropped = {name.split("=")[0] for name in found.left_out}
    for where in np.ndindex(found.values.shape):
        chosen = {f: c[i] for f, c, i in zip(found.factors, found.choices, where, strict=True)}
        if len(chosen) == 4:
            key = tuple(chosen[name] for name in ("layer", "pca_mode", "estimator", "category"))
            assert found.values[where] == values[key]
        else:
            assert dropped  # a group is only left out where its choices were


def test_a_grid_with_another_experiment_beside_it_stays_the_grid() -> None:
    pooling = make_frame(
        {"layer": ("level7",), "pca_mode": ("npca50",), "pooling": ("min", "max", "min_max")}
    )
    found = grid_of(pd.concat([make_frame(), pooling], ignore_index=True))
    assert found.factors == ("layer", "pca_mode", "estimator", "category")
    assert set(found.left_out) == {"pooling=min", "pooling=max", "pooling=min_max"}
    assert found.values.shape == (3, 5, 2, 3)
    one = full_factorial(
        study(make_frame({"layer": ("level7",), "pca_mode": ("none",), "estimator": ("mvg",)}))
    )
    assert one is None


def test_planted_effects_are_found() -> None:
    frame = make_frame(categories=MANY)
    of_layer = frame["layer"].map({"level6": 0.1, "level7": 0.3, "all": 0.2}).astype(float)
    of_mode = (frame["pca_mode"] == "npca50").astype(float) * 0.05
    of_category = frame["category"].str.removeprefix("c").astype(int) * 0.07
    frame["image_auroc"] = of_layer + of_mode + of_category
    found = grid_of(frame)
    made = {share.factors: share for share in shares(found)}
    layer, mode, category = (
        float(np.var(v)) for v in ([0.1, 0.2, 0.3], [0.05, 0, 0, 0, 0], np.arange(6) * 0.07)
    )
    total = layer + mode + category
    assert made["layer",].of_all == pytest.approx(layer / total)
    assert made["category",].of_all == pytest.approx(category / total)
    assert made["category",].within is None
    within = made["layer",].within
    assert within is not None
    assert within.value == pytest.approx(layer / (layer + mode))
    assert within.low == pytest.approx(within.value) == within.high  # the same in every category
    assert made["layer", "pca_mode"].of_all == pytest.approx(0, abs=1e-12)
    assert next(iter(made)) == ("layer",)
    assert list(made)[-1] == ("category",)
    by_choice = {(m.factor, m.choice): m for m in marginals(found)}
    assert by_choice["layer", "level7"].effect.value == pytest.approx(10)
    assert by_choice["layer", "level7"].effect.low == pytest.approx(10)
    assert by_choice["pca_mode", "npca50"].effect.value == pytest.approx(4)


def test_intervals_of_shares_are_of_categories_in_general() -> None:
    """Three choices of true share 1/3 beside what each category has of its own.

    The interval misses by chance; a percentile bootstrap over these categories covers half of the time.
    """
    rng = np.random.default_rng(5)
    main = np.sqrt(1 / 2) * np.array([-1.0, 0.0, 1.0])  # of variance 1/3
    covered = 0
    for _ in range(300):
        own = rng.normal(size=(3, 10))  # of variance 2/3 about the category's mean
        values = main[:, None] + own + rng.normal(size=10)
        choices = (("a", "b", "c"), tuple(map(str, range(10))))
        made = {s.factors: s for s in shares(Factorial(("layer", "category"), choices, values, ()))}
        within = made["layer",].within
        assert within is not None
        covered += within.low <= 1 / 3 <= within.high
    assert covered >= stats.binom.ppf(1e-7, 300, 0.9)


def test_marginal_means_are_pandas() -> None:
    frame = make_frame(categories=MANY)
    for marginal in marginals(grid_of(frame)):
        plain = frame.groupby(marginal.factor)["image_auroc"].mean()
        assert marginal.auroc == pytest.approx(plain[marginal.choice])
        assert marginal.effect.value == pytest.approx(100 * (plain[marginal.choice] - plain.mean()))
        assert marginal.effect.low <= marginal.effect.value <= marginal.effect.high


def test_configurations_and_the_best_of_them() -> None:
    frame = make_frame(categories=MANY)
    hole = (frame["layer"] == "all") & (frame["estimator"] == "mvg") & (frame["category"] == "c2")
    frame = frame[~hole]
    rows = configurations(study(frame))
    whole = frame[~((frame["layer"] == "all") & (frame["estimator"] == "mvg"))]
    plain = (
        whole.groupby(["layer", "pca_mode", "estimator"])["image_auroc"].mean().sort_values(ascending=False)
    )
    assert len(rows) == len(plain) == 25
    assert rows["auroc"].tolist() == pytest.approx(plain.tolist())
    assert rows["label"].iloc[0] == " ".join(plain.index[0])
    assert rows["seconds"].tolist() == pytest.approx([0.25 / 30] * 25)
    found = best(rows, MANY)
    assert found.overall == (" ".join(plain.index[0]), pytest.approx(plain.iloc[0]))
    tops = whole.loc[whole.groupby("category")["image_auroc"].idxmax()].set_index("category")
    for category, (label, value) in found.by_category.items():
        row = tops.loc[category]
        assert (label, value) == (f"{row['layer']} {row['pca_mode']} {row['estimator']}", row["image_auroc"])
    assert found.loss == pytest.approx(tops["image_auroc"].mean() - plain.iloc[0])
    left_out = []
    for category in MANY:
        others = whole[whole["category"] != category].groupby(["layer", "pca_mode", "estimator"])[
            "image_auroc"
        ]
        layer, mode, estimator = others.mean().idxmax()
        own = whole[
            (whole["layer"] == layer) & (whole["pca_mode"] == mode) & (whole["estimator"] == estimator)
        ]
        left_out.append(own.set_index("category").at[category, "image_auroc"])
    assert found.left_out == pytest.approx(np.mean(left_out))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=12))
def test_the_front_is_what_none_beats(points: list[tuple[int, int]]) -> None:
    rows = pd.DataFrame({"seconds": [float(x) for x, _ in points], "auroc": [float(y) for _, y in points]})
    front = {(x, y) for x, y in pareto(rows)[["seconds", "auroc"]].itertuples(index=False)}
    better = {
        (x, y) for x, y in points if not any((a <= x and b >= y) and (a < x or b > y) for a, b in points)
    }
    assert front == better


def test_tables_of_effects_and_of_nothing() -> None:
    made = effects_tables(effects(study(make_frame(categories=MANY))), study(make_frame(categories=MANY)))
    assert [table.name for table in made] == ["importance", "marginal_means", "best", "pareto"]
    for table in made:
        assert isinstance(table, Table)
        for render in RENDERERS.values():
            assert render(table)
    text = "\n".join(RENDERERS[".txt"](table) for table in made if isinstance(table, Table))
    assert "3 layer x 5 pca_mode x 2 estimator x 6 category" in text
    assert "gives away" in text
    few = study(make_frame())
    shown = effects_tables(effects(few), few)
    assert isinstance(shown[0], Table)
    assert "no intervals with fewer than 5" in shown[0].caption[0]
    assert all(row.cells[1].printed in ("", None) for block in shown[0].blocks for row in block.rows)
    broken = study(make_frame(failed=lambda row: True))
    assert all(isinstance(table, Absent) for table in effects_tables(effects(broken), broken))
    untimed = make_frame()
    untimed["score_seconds"] = float("nan")
    assert isinstance(effects_tables(effects(study(untimed)), study(untimed))[3], Absent)
