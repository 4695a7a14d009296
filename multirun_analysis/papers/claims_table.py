"""The claims as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from multirun_analysis.papers.verdicts import MIN_CATEGORIES, Claim
from multirun_analysis.rendering.table import BLANK, Block, Cell, Row, Table
from multirun_analysis.stats.intervals import RESAMPLES
from multirun_analysis.summary.localizers import LocalizationStudy
from multirun_analysis.summary.study import Study

HOW = (
    f"with 95 % intervals: {RESAMPLES} paired resamples of the categories. A statement holds, or does not, "
    "where the whole interval is on one side of its bound; with fewer than "
    f"{MIN_CATEGORIES} categories there is no verdict."
)


def claims_table(made: Sequence[Claim], study: Study) -> Table:
    """A line for each statement: the verdict, the figure, its interval, p, and the paper's own figure."""
    return Table(
        name="claims",
        title="Statements of Ono & Mori, checked",
        caption=(
            f"Figures are differences in points (0.01 of AUROC) {HOW} "
            "p: Wilcoxon's signed ranks over categories, of no difference; where one choice is set against "
            "several, of the strongest of them, Holm-corrected. "
            "Friedman: that all choices compared are the same.",
            study.comparison(),
        ),
        corner="statement",
        columns=("verdict", "points [95 %]", "p", "Friedman p", "paper"),
        blocks=(_block(made, study, friedman=True),),
        notes=(*_details(made), *study.provenance()),
        warnings=study.warnings(),
    )


def ridge_claims_table(made: Sequence[Claim], study: LocalizationStudy) -> Table:
    """As `claims_table`, of the statements of the ridge paper."""
    return Table(
        name="ridge_claims",
        title="Statements of the ridge paper, checked",
        caption=(
            "Figures are differences in points (0.01 of ROCAUC or PRO), and ratios of the seconds in all, "
            f"{HOW} p: Wilcoxon's signed ranks over categories, of no difference (of times: of logarithms).",
            study.comparison(),
        ),
        corner="statement",
        columns=("verdict", "figure [95 %]", "p", "paper"),
        blocks=(_block(made, study, friedman=False),),
        notes=(*_details(made), *study.provenance()),
        warnings=study.warnings(),
    )


def _block(made: Sequence[Claim], study: Study | LocalizationStudy, *, friedman: bool) -> Block:
    rows = []
    for claim in made:
        there = claim.interval is not None
        cells = [
            Cell(text=claim.verdict),
            Cell(text=_figure(claim)) if there else BLANK,
            Cell(text=_p(claim.p)) if there else BLANK,
        ]
        if friedman:
            cells.append(Cell(text=_p(claim.friedman_p)) if there else BLANK)
        rows.append(Row(claim.statement, (*cells, Cell(text=claim.published))))
    return Block(f"{study.backbone}, {len(study.categories)} categories", tuple(rows))


def _details(made: Sequence[Claim]) -> list[str]:
    return [
        f"{claim.statement}: {'; '.join(filter(None, (claim.setting, claim.why)))}."
        for claim in made
        if claim.setting or claim.why
    ]


def _figure(claim: Claim) -> str:
    interval = claim.interval
    assert interval is not None
    if claim.unit == "points":
        return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}] times"


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
