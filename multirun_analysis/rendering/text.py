"""A table as text, Markdown, LaTeX (booktabs) or CSV; HTML is in `html`."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.cells import cell_len

from anomaly_sweep.terminal import UNLIMITED, visible
from multirun_analysis.rendering.content import MISSING, Block, Cell, Row, TableContent, shown
from multirun_analysis.rendering.html import to_html

#: Columns that a table takes at the least for its row headers, and for a column of words.
_LEAST = 20
LATEX_SPECIALS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MISSING: "--",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
}
DOCUMENT_HEAD = r"""\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=15mm]{geometry}
\usepackage{booktabs}
\begin{document}
\small
"""


def to_text(table: TableContent, width: int = UNLIMITED) -> str:
    """Aligned columns for a terminal; ``*`` marks the best values.

    Parameters
    ----------
    width : int
        Columns of the terminal. A wider table is cut into groups of columns, one under the other, each with
        the row headers; words are broken over lines, numbers never.
    """
    table = _visible(table)
    columns = [f"{column} " for column in table.columns]  # the room of a mark, as in the cells
    texts = [table.is_text(column) for column in range(len(columns))]
    rows = [row for block in table.blocks for row in block.rows]
    head = max(cell_len(header) for header in (table.corner, *(f"  {row.header}" for row in rows)))
    head = min(head, max(_LEAST, width // 2))
    available = max(_LEAST, width - head - 2)
    widths = []
    for i, column in enumerate(columns):
        natural = max(map(cell_len, (column, *(_plain(row.cells[i]) for row in rows))))
        widths.append(min(natural, available) if texts[i] else natural)
    lines = _broken([table.title, *table.warnings, *table.caption], width)
    for group in _groups(widths, available):
        lines += ["", *_group(table, columns, texts, widths, head, group)]
    marks = [f"* best as printed   {MISSING} missing"] if not all(texts) else []
    lines += _broken([*marks, *table.notes], width)
    return "\n".join(lines) + "\n"


def _visible(table: TableContent) -> TableContent:
    """The table without control characters in anything it says."""

    def cell(one: Cell) -> Cell:
        return one if one.text is None else replace(one, text=visible(one.text))

    def row(one: Row) -> Row:
        return replace(one, header=visible(one.header), cells=tuple(map(cell, one.cells)))

    return replace(
        table,
        title=visible(table.title),
        caption=tuple(map(visible, table.caption)),
        corner=visible(table.corner),
        columns=tuple(map(visible, table.columns)),
        blocks=tuple(Block(visible(one.label), tuple(map(row, one.rows))) for one in table.blocks),
        notes=tuple(map(visible, table.notes)),
        warnings=tuple(map(visible, table.warnings)),
    )


def _groups(widths: Sequence[int], available: int) -> list[list[int]]:
    """Columns that stand beside each other, in order; at least one a group."""
    groups: list[list[int]] = [[]]
    left = available
    for column, width in enumerate(widths):
        if groups[-1] and width > left:
            groups.append([])
            left = available
        groups[-1].append(column)
        left -= width + 2
    return groups


def _group(
    table: TableContent,
    columns: Sequence[str],
    texts: Sequence[bool],
    widths: Sequence[int],
    head: int,
    group: Sequence[int],
) -> list[str]:
    """The lines of the table with some of its columns."""

    def padded(text: str, column: int) -> str:
        gap = " " * (widths[column] - cell_len(text))
        return text + gap if texts[column] else gap + text

    def line(header: str, cells: Sequence[str], indent: str = "") -> list[str]:
        parts = [_wrapped(header, head, indent)]
        parts += [_wrapped(cells[i], widths[i]) if texts[i] else [cells[i]] for i in group]
        high = max(map(len, parts))
        found = []
        for one in zip(*([*part, *[""] * (high - len(part))] for part in parts), strict=True):
            cut = [padded(text, column) for text, column in zip(one[1:], group, strict=True)]
            found.append("  ".join([one[0] + " " * (head - cell_len(one[0])), *cut]).rstrip())
        return found

    whole = head + sum(widths[i] + 2 for i in group)
    lines = [*line(table.corner, columns), "-" * whole]
    for block in table.blocks:
        lines += _wrapped(block.label, whole)
        for row in block.rows:
            if row.rule_before:
                lines.append("  " + "-" * (whole - 2))
            lines += line(f"  {row.header}", [_plain(cell) for cell in row.cells], "    ")
    return [*lines, "-" * whole]


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A text over lines of so many columns; as it is where it fits."""
    if cell_len(text) <= width:
        return [text]
    leading = text[: len(text) - len(text.lstrip())]
    available = max(1, width - (cell_len(text) - len(text)))  # a wide character takes two
    return textwrap.wrap(
        text.strip(), available, initial_indent=leading, subsequent_indent=indent, break_on_hyphens=False
    )


def _broken(lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in _wrapped(line, width)]


def to_markdown(table: TableContent) -> str:
    """A pipe table with its title, caption and notes."""

    def cell_text(cell: Cell) -> str:
        text = _pipes(shown(cell))
        return f"**{text}**" if cell.bold else text

    def line(header: str, cells: list[str]) -> str:
        return "| " + " | ".join([header, *cells]) + " |"

    lines = [f"### {_pipes(table.title)}", ""]
    lines += [f"**{warning}**\n" for warning in table.warnings]
    lines += [*(f"{text}  " for text in table.caption), ""]
    lines.append(line(_pipes(table.corner), [_pipes(column) for column in table.columns]))
    lines.append("|:---" + "|---:" * len(table.columns) + "|")
    for block in table.blocks:
        lines.append(line(f"*{_pipes(block.label)}*", [""] * len(table.columns)))
        lines += [line(_pipes(row.header), [cell_text(cell) for cell in row.cells]) for row in block.rows]
    lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: TableContent) -> str:
    """A ``table`` environment for a document that loads booktabs."""
    width = 1 + len(table.columns)
    columns = "".join("l" if table.is_text(column) else "r" for column in range(len(table.columns)))
    # LaTeX numbers its own tables: "Table 3: Table 2: ..." would be two.
    title = re.sub(r"^Table (\d+): ", r"The paper's Table \1: ", table.title)
    caption = " ".join(escape_latex(text) for text in (f"{title}.", *table.warnings, *table.caption))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{l{columns}}}",
        r"\toprule",
        _latex_line([escape_latex(text) for text in (table.corner, *table.columns)]),
    ]
    for block in table.blocks:
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(block.label)}}}}} \\"]
        lines += _latex_rows(block)
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        notes = r" \\ ".join(escape_latex(note) for note in table.notes)
        lines += [r"\par\smallskip", rf"{{\footnotesize\raggedright {notes}\par}}"]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def to_csv(table: TableContent) -> str:
    """Unrounded values, one line a row; missing values are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["block", table.corner, *table.columns])
    for block in table.blocks:
        for row in block.rows:
            writer.writerow([block.label, row.header, *map(_exact, row.cells)])
    return out.getvalue()


def latex_document(tables: Sequence[TableContent]) -> str:
    """A document that compiles by itself, with each table on its page."""
    bodies = [
        r"\clearpage" + "\n" + to_latex(table).replace(r"\begin{table}", r"\begin{table}[p]")
        for table in tables
    ]
    return DOCUMENT_HEAD + "\n".join(bodies) + "\\end{document}\n"


#: Renderer by the suffix of the file it makes.
RENDERERS: Mapping[str, Callable[[TableContent], str]] = {
    ".txt": to_text,
    ".md": to_markdown,
    ".tex": to_latex,
    ".csv": to_csv,
    ".html": to_html,
}


def escape_latex(text: str) -> str:
    """Make text safe in LaTeX, character by character."""
    return "".join(LATEX_SPECIALS.get(character, character) for character in text)


def _latex_rows(block: Block) -> list[str]:
    lines = []
    for row in block.rows:
        if row.rule_before:
            lines.append(r"\addlinespace")
        lines.append(_latex_line([escape_latex(row.header), *map(_latex_cell, row.cells)]))
    return lines


def _latex_line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = shown(cell)
    if cell.printed is None or cell.text is not None:
        return escape_latex(text)
    if cell.bold:
        return rf"\textbf{{{text}}}"
    return f"${text}$" if text[0] in "+-" else text


def _exact(cell: Cell) -> str:
    """The value with every digit, the words as they are; empty where there is nothing."""
    if cell.text is not None:
        return cell.text
    return "" if cell.blank or cell.value is None else repr(float(cell.value))


def _plain(cell: Cell) -> str:
    """The value with its mark, or the room of one, so that the digits stay in line."""
    return shown(cell) + ("*" if cell.bold else " ")


def _pipes(text: str) -> str:
    return text.replace("|", r"\|")
