"""A table of the analysis: its content, which shows itself on a terminal and in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from multirun_analysis.rendering.content import (
    BLANK,
    MISSING,
    Block,
    Cell,
    Row,
    TableContent,
    difference,
    difference_block,
    mark_best,
    p_text,
    shown,
    significant,
)
from multirun_analysis.rendering.html import to_fragment
from multirun_analysis.rendering.text import to_markdown, to_text

__all__ = [
    "BLANK",
    "MISSING",
    "Absent",
    "Block",
    "Cell",
    "Row",
    "Table",
    "difference",
    "difference_block",
    "mark_best",
    "p_text",
    "shown",
    "significant",
]


class Table(TableContent):
    """A table of the analysis: printed as aligned text, shown by a notebook as HTML.

    Examples
    --------
    >>> block = Block("mean", (Row("mvg", (Cell(0.9),)),))
    >>> print(Table("example", "AUROC", (), "estimator", ("level3",), (block,)))
    AUROC
    <BLANKLINE>
    estimator  level3
    ------------------
    mean
      mvg       0.900
    ------------------
    * best as printed   – missing
    <BLANKLINE>
    """

    def __str__(self) -> str:
        return to_text(self)

    def _repr_html_(self) -> str:
        return to_fragment(self)

    def _repr_markdown_(self) -> str:
        return to_markdown(self)


@dataclass(frozen=True)
class Absent:
    """A table for which there are no trials, and what to run to have them."""

    name: str
    title: str
    reason: str

    def __str__(self) -> str:
        return f"{self.title}\n  not made: {self.reason}\n"
