"""The effects as tables."""

from __future__ import annotations

import math
from itertools import groupby

from multirun_analysis.rendering.table import BLANK, Absent, Block, Cell, Row, Table, mark_best
from multirun_analysis.stats.intervals import INTERVAL_CATEGORIES, POINTS, Interval
from multirun_analysis.summary.effects import Effects
from multirun_analysis.summary.study import DetectionStudy

NOT_FULL = "no two choices of any group ran in every combination with complete categories"
SHOWN_PAIRS = 12
#: What a detection trial's seconds are.
SHARED_TIME = (
    "Time is that of scoring one image from its features, without the network's pass, as the sweep recorded "
    "it: trials computed together have equal shares of the time they took together, so that all reductions "
    "of one layer and estimator cost the same. A launcher of one configuration a job measures it alone."
)


def effects_tables(found: Effects, study: DetectionStudy) -> list[Table | Absent]:
    """Importance, marginal means, best configurations and the Pareto front."""
    return [_importance(found, study), _marginals(found, study), _best(found, study), _front(found, study)]


def _importance(found: Effects, study: DetectionStudy) -> Table | Absent:
    title = "Which group explains how much of the AUROC"
    if found.factorial is None:
        return Absent("importance", title, NOT_FULL)
    rows = []
    for share in found.shares:
        within = share.within
        interval = Cell(text=_interval(within, study, POINTS, 1)) if within else BLANK
        cells = (
            Cell(POINTS * within.value, 1) if within else BLANK,
            interval,
            Cell(POINTS * share.of_all, 1),
        )
        rows.append(Row(" x ".join(share.factors), cells))
    mains = [row for row in rows if " x " not in row.header]
    pairs = [row for row in rows if " x " in row.header]
    rest = POINTS * (1 - sum(share.of_all for share in found.shares))
    return Table(
        name="importance",
        title=title,
        caption=(
            "Functional ANOVA over the full grid: shares of the variance in per cent, interactions of two "
            f"beyond their groups; {_intervals(study)}, for categories in general: chance among the few seen "
            "makes shares that all have in common look larger than their intervals. Where a group "
            "interacts with the category, its best choice depends on the product.",
            _grid(found, study),
        ),
        corner="group",
        columns=("within categories %", "[95 %]", "of all %"),
        blocks=(Block("groups", tuple(mains)), Block("interactions of two", tuple(pairs[:SHOWN_PAIRS]))),
        notes=(f"Interactions of three and more: {rest:.1f} % of all.", *study.provenance()),
        warnings=study.warnings(),
    )


def _marginals(found: Effects, study: DetectionStudy) -> Table | Absent:
    title = "Marginal means"
    if found.factorial is None:
        return Absent("marginal_means", title, NOT_FULL)
    blocks = []
    for factor, group in groupby(found.marginals, key=lambda marginal: marginal.factor):
        levels = list(group)
        means = mark_best([Cell(marginal.auroc) for marginal in levels])
        rows = [
            Row(
                m.choice,
                (mean, Cell(m.effect.value, 2, signed=True), Cell(text=_interval(m.effect, study, 1, 2))),
            )
            for m, mean in zip(levels, means, strict=True)
        ]
        blocks.append(Block(factor, tuple(rows)))
    return Table(
        name="marginal_means",
        title=title,
        caption=(
            "Each choice averaged over all choices of the other groups and over the categories; its effect "
            f"is the difference to the mean of its group in points (0.01 of AUROC); {_intervals(study)}.",
            _grid(found, study),
        ),
        corner="choice",
        columns=("mean AUROC", "effect", "[95 %]"),
        blocks=tuple(blocks),
        notes=study.provenance(),
        warnings=study.warnings(),
    )


def _best(found: Effects, study: DetectionStudy) -> Table | Absent:
    title = "Best configurations (chosen on the test images)"
    if found.best is None:
        return Absent("best", title, "no configuration has a value for every category")
    label, mean = found.best.overall
    one = found.configurations.iloc[0]
    rows = [
        Row(name, (Cell(value), Cell(text=config), Cell(float(one[name]))))
        for name, (config, value) in found.best.by_category.items()
    ]
    average = sum(value for _, value in found.best.by_category.values()) / len(rows)
    rows.append(Row("mean", (Cell(average), Cell(text=""), Cell(mean)), rule_before=True))
    top = [
        Row(str(row["label"]), (Cell(float(row["auroc"])), BLANK, BLANK))
        for _, row in found.configurations.head(5).iterrows()
    ]
    notes = [
        f"One configuration for all, {label}, gives away {POINTS * found.best.loss:.2f} points against the "
        "best of each category.",
    ]
    if len(study.categories) > 1:
        notes.append(
            f"Chosen on the other categories only, a configuration has a mean of {found.best.left_out:.3f}: "
            "what to expect of a new product. Those above were chosen on the images they are measured on."
        )
    return Table(
        name="best",
        title=title,
        caption=(
            f"Out of {len(found.configurations)} configurations with complete categories; "
            f"backbone {study.backbone}.",
        ),
        corner="category",
        columns=("best AUROC", "its configuration", f"AUROC of {label}"),
        blocks=(Block("by category", tuple(rows)), Block("best over all categories", tuple(top))),
        notes=(*notes, *study.provenance()),
        warnings=study.warnings(),
    )


def _front(found: Effects, study: DetectionStudy) -> Table | Absent:
    title = "Accuracy against scoring time: configurations that none beats in both, by these test images"
    if found.front.empty:
        return Absent("pareto", title, "no configuration has every category's AUROC and scoring time")
    rows = [
        Row(str(row["label"]), (Cell(1e6 * float(row["seconds"]), 2), Cell(float(row["auroc"]))))
        for _, row in found.front.iterrows()
    ]
    return Table(
        name="pareto",
        title=title,
        caption=(f"{SHARED_TIME} The order of near values would change with other images.",),
        corner="configuration",
        columns=("microseconds an image, shared", "mean AUROC"),
        blocks=(Block("the fastest first", tuple(rows)),),
        notes=study.provenance(),
        warnings=study.warnings(),
    )


def _grid(found: Effects, study: DetectionStudy) -> str:
    assert found.factorial is not None
    sizes = [f"{len(c)} {f}" for f, c in zip(found.factorial.factors, found.factorial.choices, strict=True)]
    without = found.factorial.left_out
    left = f" Left out, because combinations lack: {', '.join(without)}." if without else ""
    return f"Backbone {study.backbone}: {' x '.join(sizes)}.{left}"


def _intervals(study: DetectionStudy) -> str:
    if len(study.categories) < INTERVAL_CATEGORIES:
        return f"no intervals with fewer than {INTERVAL_CATEGORIES} categories"
    return "95 % intervals over categories, each line's alone (of many lines some miss by chance)"


def _interval(interval: Interval, study: DetectionStudy, scale: float, decimals: int) -> str:
    if len(study.categories) < INTERVAL_CATEGORIES or math.isnan(interval.low):
        return ""
    return f"[{scale * interval.low:.{decimals}f}, {scale * interval.high:.{decimals}f}]"
