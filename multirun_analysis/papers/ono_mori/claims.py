"""The statements of Ono & Mori as checks on the runs, each with its figure, uncertainty and verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers import claims_table as claims_tables
from multirun_analysis.papers.ono_mori.study import choose_study, comparison
from multirun_analysis.papers.published import PAPER_BACKBONE
from multirun_analysis.papers.verdicts import Claim, Statement, check, judge, together, without
from multirun_analysis.rendering.table import Cell, Table
from multirun_analysis.stats.intervals import POINTS, Floats, mean_interval
from multirun_analysis.summary.category_matrix import Lacking, category_matrix
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.labels import estimator_name, layer_order

#: How much worse still counts as "as good" where the paper gives no figure, in points.
MARGIN = 1.0
TABLE3 = {"pooling": "avg", "augmentation": "none", "pca_mode": "npca50", "estimator": "knn1"}
RATES = (10, 20, 30, 40, 50)
ESTIMATORS = ("mvg", "knn1")
POOLINGS = ("min", "max", "min_max", "min_avg", "max_avg", "min_max_avg")


def check_claims(study: DetectionStudy) -> list[Claim]:
    """Every statement of the paper on image AUROC, decided together."""
    checks: list[Callable[[DetectionStudy], Claim]] = [
        _deep_beats_shallow,
        _deepest_is_best,
        _npca_beats_none,
        _none_beats_pca,
        _twenty_to_fifty,
        _more_neighbours,
        _mvg_beats_knn,
        _simple_is_enough,
        _avg_pooling,
        _noise_by_a_thousandth,
        _noise_by_a_tenth,
        _backbones,
    ]
    return together([one(study) for one in checks])


def claims_table(claims: Sequence[Claim], study: DetectionStudy) -> Table:
    """The statements as a table."""
    return claims_tables.claims_table(
        claims,
        study,
        name="claims",
        title="Statements of Ono & Mori, checked",
        figures="differences in points (0.01 of AUROC)",
        comparison=comparison(study),
    )


def _deep_beats_shallow(study: DetectionStudy) -> Claim:
    statement = Statement("deep_layers", "deep levels beat shallow ones", "+25.7 (levels 5-7 - 1-3)")
    levels = _levels(study)
    half = len(levels) // 2
    if not half:
        return without(statement, f"only {len(levels)} levels have trials")
    shallow, deep = levels[:half], levels[-half:]
    statement = replace(
        statement, setting=f"{_at(study, TABLE3)}; mean of {_range(deep)} - mean of {_range(shallow)}"
    )
    return check(
        study,
        statement,
        "layer",
        levels,
        TABLE3,
        lambda v: (v[:, -half:].mean(axis=1) - v[:, :half].mean(axis=1))[:, None],
    )


def _deepest_is_best(study: DetectionStudy) -> Claim:
    statement = Statement("deepest_level", "the deepest single level is best", "+5 (level 7 - level 6)")
    levels = _levels(study)
    if len(levels) < 2:
        return without(statement, f"only {len(levels)} levels have trials")
    statement = replace(
        statement, setting=f"{_at(study, TABLE3)}; {levels[-1]} - each other level, the least"
    )
    return check(study, statement, "layer", [levels[-1], *levels[:-1]], TABLE3, _first_over_each)


def _npca_beats_none(study: DetectionStudy) -> Claim:
    statement = Statement("npca_beats_none", "NPCA beats no reduction", "+6.7 (mean of rates - none)")
    modes = [f"npca{rate}" for rate in RATES]
    return _reductions(
        study,
        statement,
        modes,
        lambda v: v[:, 1:].mean(axis=1, keepdims=True) - v[:, :1],
        "mean of NPCA 10-50 % - none",
    )


def _none_beats_pca(study: DetectionStudy) -> Claim:
    statement = Statement("none_beats_pca", "no reduction beats PCA", "+3.5 (none - mean of rates)")
    modes = [f"pca{rate}" for rate in RATES]
    return _reductions(
        study,
        statement,
        modes,
        lambda v: v[:, :1] - v[:, 1:].mean(axis=1, keepdims=True),
        "none - mean of PCA 10-50 %",
    )


def _twenty_to_fifty(study: DetectionStudy) -> Claim:
    statement = Statement(
        "npca_20_to_50", "NPCA 20-50 % is enough: it loses nothing", "+6.7 (NPCA 20 % - none)", bound=-MARGIN
    )
    modes = [f"npca{rate}" for rate in RATES[1:]]
    figure = f"each of NPCA 20-50 % - none, the least, no worse than {MARGIN:g} point"
    return _reductions(study, statement, modes, _each_over_first, figure)


def _reductions(
    study: DetectionStudy,
    statement: Statement,
    modes: list[str],
    differences: Callable[[Floats], Floats],
    words: str,
) -> Claim:
    """A comparison with no reduction in which every estimator counts the same."""
    at = {"layer": study.layer, "pooling": "avg", "augmentation": "none"}
    statement = replace(statement, setting=f"{_at(study, at)}, mean of the estimators; {words}")
    return check(study, statement, "pca_mode", ["none", *modes], at, differences, average_over="estimator")


def _more_neighbours(study: DetectionStudy) -> Claim:
    statement = Statement(
        "more_neighbours", "k = 5, 10 do not beat k = 1", "no gain (no figure)", bound=MARGIN, side="below"
    )
    figure = f"each of k = 5, 10 - k = 1, the largest, below {MARGIN:g} point"
    return _estimators(study, statement, ["knn1", "knn5", "knn10"], _each_over_first, figure)


def _mvg_beats_knn(study: DetectionStudy) -> Claim:
    statement = Statement("mvg_beats_knn", "MVG beats k-NN", "+0.2 (MVG - k-NN)")
    return _estimators(study, statement, ["mvg", "knn1"], _first_over_each, "MVG - k-NN (k = 1)")


def _simple_is_enough(study: DetectionStudy) -> Claim:
    statement = Statement(
        "simple_is_enough", "MVG and k-NN are as good as the flow", "no figure", bound=-MARGIN
    )
    figure = f"each of MVG and k-NN - flow, the least, no worse than {MARGIN:g} point"
    return _estimators(study, statement, ["flow", "mvg", "knn1"], _each_over_first, figure)


def _estimators(
    study: DetectionStudy,
    statement: Statement,
    names: list[str],
    differences: Callable[[Floats], Floats],
    words: str,
) -> Claim:
    at = {"layer": study.layer, "pooling": "avg", "augmentation": "none", "pca_mode": "npca50"}
    return check(
        study, replace(statement, setting=f"{_at(study, at)}; {words}"), "estimator", names, at, differences
    )


def _avg_pooling(study: DetectionStudy) -> Claim:
    statement = Statement("avg_pooling", "avg pooling is best", "+0.2 MVG, +1.1 k-NN (avg - next best)")
    at = {"layer": study.layer, "augmentation": "none", "pca_mode": "npca50"}
    statement = replace(
        statement, setting=f"{_at(study, at)}, mean of MVG and k-NN; avg - each other pooling, the least"
    )
    names = ["avg", *POOLINGS]
    return check(
        study, statement, "pooling", names, at, _first_over_each, average_over="estimator", of=ESTIMATORS
    )


def _noise_by_a_thousandth(study: DetectionStudy) -> Claim:
    return _noise(
        study,
        Statement(
            "augmentation",
            "noise changes AUC by less than 0.1 point (0.001)",
            "below 0.1 point, MVG and k-NN",
            setting="0.1 point read as 0.1 of these points",
            bound=0.1,
            side="within",
        ),
    )


def _noise_by_a_tenth(study: DetectionStudy) -> Claim:
    return _noise(
        study,
        Statement(
            "augmentation_tenth",
            "noise changes AUC by less than 0.1 (10 points)",
            "below 0.1 point, MVG and k-NN",
            setting="0.1 point read on the scale of the paper's tables, where AUC ends at 1",
            bound=10.0,
            side="within",
        ),
    )


def _noise(study: DetectionStudy, statement: Statement) -> Claim:
    """Equivalence: noise - none is above minus the bound and below it for either estimator."""
    at = {"layer": study.layer, "pooling": "avg", "pca_mode": "npca50"}
    differences = []
    for estimator in ESTIMATORS:
        found = category_matrix(study, "augmentation", ["none", "noise"], at | {"estimator": estimator})
        if isinstance(found, Lacking):
            return without(statement, found.why)
        differences.append(found.values[:, 1] - found.values[:, 0])
    each = "; ".join(
        f"{estimator_name(name)} {Cell(mean, 2, signed=True).printed} [{low:+.2f}, {high:+.2f}]"
        for name, values in zip(ESTIMATORS, differences, strict=True)
        for mean, low, high in [_ends(POINTS * values)]
    )
    words = f"{_at(study, at)}, noise - none: {each}; the larger of the two sizes; {statement.setting}"
    return judge(replace(statement, setting=words), np.column_stack(differences))


def _ends(values: Floats) -> tuple[float, float, float]:
    interval = mean_interval(values)
    return interval.value, interval.low, interval.high


def _backbones(study: DetectionStudy) -> Claim:
    statement = Statement("backbone", "EfficientNet-B5 beats ResNet-18", "no figure")
    statement = replace(
        statement, setting="k-NN (k = 1), NPCA 50 %, each at its deepest level; EfficientNet-B5 - ResNet-18"
    )
    columns = []
    for name in (PAPER_BACKBONE, "resnet18"):
        try:
            backbone_study = study if name == study.backbone else choose_study(study.frame, backbone=name)
        except AnalysisError as error:
            return without(statement, str(error))
        found = category_matrix(
            backbone_study,
            "layer",
            [_levels(backbone_study)[-1] if _levels(backbone_study) else backbone_study.layer],
            TABLE3,
        )
        if isinstance(found, Lacking):
            return without(statement, f"{name}: {found.why}")
        columns.append(found.values)
    return judge(statement, columns[0] - columns[1])


def _first_over_each(values: Floats) -> Floats:
    """The first choice minus each of the others, by category."""
    return values[:, :1] - values[:, 1:]


def _each_over_first(values: Floats) -> Floats:
    """Each of the others minus the first choice, by category."""
    return values[:, 1:] - values[:, :1]


def _levels(study: DetectionStudy) -> list[str]:
    """The single levels at which a trial of Table 3 did not fail, the shallowest first."""
    return sorted((n for n in study.works("layer", **TABLE3) if layer_order(n)[0] == 0), key=layer_order)


def _at(study: DetectionStudy, choices: dict[str, str]) -> str:
    return ", ".join([study.backbone, *(f"{name}={value}" for name, value in choices.items())])


def _range(levels: list[str]) -> str:
    return levels[0] if len(levels) == 1 else f"{levels[0]}-{levels[-1].removeprefix('level')}"
