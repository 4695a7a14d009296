"""What stands in a table: cells, rows, blocks, and the words around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cell:
    """One value, or words; None is a missing one. A blank cell has no place for a value."""

    value: float | None = None
    decimals: int = 3
    signed: bool = False
    bold: bool = False
    blank: bool = False
    text: str | None = None

    @property
    def printed(self) -> str | None:
        """The value as it is printed, without any mark; None where there is none."""
        if self.text is not None:
            return self.text
        if self.blank or self.value is None:
            return None
        number = round(self.value, self.decimals) + 0.0  # no minus sign before a printed zero
        text = f"{number:.{self.decimals}f}"
        return f"+{text}" if self.signed and number > 0 else text


BLANK = Cell(blank=True)
MISSING = "\N{EN DASH}"


def shown(cell: Cell) -> str:
    """The text of a cell: empty where blank, a dash where missing."""
    if cell.blank:
        return ""
    return MISSING if cell.printed is None else cell.printed


@dataclass(frozen=True)
class Row:
    """A line of a table: its header and one cell for each column."""

    header: str
    cells: tuple[Cell, ...]
    rule_before: bool = False


@dataclass(frozen=True)
class Block:
    """Lines that belong together, under a label: ours, published, their difference."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class TableContent:
    """What a table holds, for the renderers; :class:`~multirun_analysis.rendering.table.Table` shows itself.

    Attributes
    ----------
    name
        Stem of its files.
    title, caption
        What it shows, in one line and in more.
    corner, columns
        Header over the row headers, headers over the cells.
    blocks
        The lines.
    notes
        Coverage and provenance, under the table.
    warnings
        What makes its values not what they seem.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    corner: str
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def is_text(self, column: int) -> bool:
        """Whether a column holds words."""
        return any(row.cells[column].text is not None for block in self.blocks for row in block.rows)


def significant(value: float | None, *, least: int = 0) -> Cell:
    """A cell with three significant digits, and no fewer decimals than ``least``."""
    if value is None or not math.isfinite(value):
        return Cell()
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return Cell(float(value), max(least, digits))


def mark_best(cells: Sequence[Cell], *, lowest: bool = False) -> tuple[Cell, ...]:
    """Set the highest (or lowest) values in bold, all of them where several are equal as printed."""
    printed = [float(cell.printed) for cell in cells if cell.printed is not None]
    if not printed:
        return tuple(cells)
    best = min(printed) if lowest else max(printed)
    return tuple(
        replace(cell, bold=cell.printed is not None and float(cell.printed) == best) for cell in cells
    )


def difference(ours: Cell, theirs: Cell) -> Cell:
    """Ours minus theirs; blank where theirs is."""
    if ours.blank or theirs.blank or theirs.value is None:
        return BLANK
    value = None if ours.value is None else ours.value - theirs.value
    return Cell(value, ours.decimals, signed=True)


def difference_block(label: str, ours: Block, theirs: Block) -> Block:
    """Cell by cell difference of two blocks of one shape."""
    return Block(
        label,
        tuple(
            Row(a.header, tuple(map(difference, a.cells, b.cells)), a.rule_before)
            for a, b in zip(ours.rows, theirs.rows, strict=True)
        ),
    )


def p_text(p: float) -> str:
    """A p value as it is printed; empty where there is none (NaN)."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
