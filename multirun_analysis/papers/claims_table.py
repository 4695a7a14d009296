"""The claims as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from multirun_analysis.papers.verdicts import ALPHA, MIN_CATEGORIES, Claim
from multirun_analysis.rendering.table import BLANK, Block, Cell, Row, Table, p_text
from multirun_analysis.summary.study import Study

CORNER = ("verdict", "figure [95 %]", "bound", "p", "Holm p", "paper")


def how(claims: Sequence[Claim]) -> str:
    """What intervals, p and verdicts are, in words."""
    count = sum(not math.isnan(claim.holm_p) for claim in claims)
    return (
        "with 95 % intervals over categories, each statement taken alone (Student's t; where several "
        "differences have to be on one side of the bound, the least favourable, its farther end corrected "
        "for their number). p: two-sided, of the figure being at its bound. "
        f"Holm p: corrected for the {count} statements of this table. A statement holds, or does not, where "
        f"that is at most {ALPHA:.2f}; undecided is no proof of either. With fewer than {MIN_CATEGORIES} "
        "categories there is no verdict. Categories whose differences are strongly skewed make a wrong "
        "verdict likelier than that."
    )


def claims_table(
    claims: Sequence[Claim],
    study: Study,
    *,
    name: str,
    title: str,
    figures: str,
    comparison: str,
    notes: Sequence[str] = (),
) -> Table:
    """A line for each statement: the verdict, the figure, its interval, p, and the paper's own figure.

    Parameters
    ----------
    claims
        The statements of a paper, decided together.
    study
        What they were checked on.
    name, title
        Of the table.
    figures
        What the figures are, in words.
    comparison
        What the published figures are of.
    notes
        What else stands under the table.
    """
    return Table(
        name=name,
        title=title,
        caption=(f"Figures are {figures} {how(claims)}", comparison),
        corner="statement",
        columns=CORNER,
        blocks=(_block(claims, study),),
        notes=(*_details(claims), *notes, *study.provenance()),
        warnings=study.warnings(),
    )


def _block(claims: Sequence[Claim], study: Study) -> Block:
    rows = []
    for claim in claims:
        measured = claim.interval is not None
        cells = (
            Cell(text=claim.verdict),
            Cell(text=_figure(claim)) if measured else BLANK,
            Cell(text=claim.statement.asked),
            Cell(text=p_text(claim.p)) if measured else BLANK,
            Cell(text=p_text(claim.holm_p)) if measured else BLANK,
            Cell(text=claim.statement.published),
        )
        rows.append(Row(claim.statement.text, cells))
    return Block(f"{study.backbone}, {len(study.categories)} categories", tuple(rows))


def _details(claims: Sequence[Claim]) -> list[str]:
    return [
        f"{claim.statement.text}: {'; '.join(filter(None, (claim.statement.setting, claim.why)))}."
        for claim in claims
        if claim.statement.setting or claim.why
    ]


def _figure(claim: Claim) -> str:
    interval = claim.interval
    assert interval is not None
    times = claim.statement.unit == "times"
    form = ".1f" if times else ".2f" if claim.statement.side == "within" else "+.2f"
    bounded = math.isfinite(interval.low) and math.isfinite(interval.high)
    spread = f" [{interval.low:{form}}, {interval.high:{form}}]" if bounded else ""
    return f"{interval.value:{form}}{spread}{' times' if times else ''}"
