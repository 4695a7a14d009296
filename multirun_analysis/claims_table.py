"""The claims as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from multirun_analysis.stats import RESAMPLES, Interval
from multirun_analysis.study import Study
from multirun_analysis.table import BLANK, Block, Cell, Row, Table
from multirun_analysis.verdicts import MIN_CATEGORIES, Claim


def claims_table(made: Sequence[Claim], study: Study) -> Table:
    """A line for each statement: the verdict, the figure, its interval, p, and the paper's own figure."""
    rows = tuple(
        Row(
            claim.statement,
            (
                Cell(text=claim.verdict),
                Cell(text=_figure(claim.interval)) if claim.interval else BLANK,
                Cell(text=_p(claim.p)) if claim.interval else BLANK,
                Cell(text=_p(claim.friedman_p)) if claim.interval else BLANK,
                Cell(text=claim.published),
            ),
        )
        for claim in made
    )
    details = [
        f"{claim.statement}: {'; '.join(filter(None, (claim.setting, claim.why)))}."
        for claim in made
        if claim.setting or claim.why
    ]
    return Table(
        name="claims",
        title="Statements of Ono & Mori, checked",
        caption=(
            f"Figures are differences in points (0.01 of AUROC) with 95 % intervals: {RESAMPLES} paired "
            "resamples of the categories. A statement holds, or does not, where the whole interval is on one "
            f"side of its bound; with fewer than {MIN_CATEGORIES} categories there is no verdict. "
            "p: Wilcoxon's signed ranks over categories, of no difference; where one choice is set against "
            "several, of the strongest of them, Holm-corrected. "
            "Friedman: that all choices compared are the same.",
            study.comparison(),
        ),
        corner="statement",
        columns=("verdict", "points [95 %]", "p", "Friedman p", "paper"),
        blocks=(Block(f"{study.backbone}, {len(study.categories)} categories", rows),),
        notes=tuple(details),
        warnings=study.warnings(),
    )


def _figure(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
