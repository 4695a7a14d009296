"""A table as text, Markdown, LaTeX (booktabs) or CSV; HTML is in `html`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence

from multirun_analysis.rendering.html import to_html
from multirun_analysis.rendering.table import MISSING, Block, Cell, Table, shown

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


def to_text(table: Table) -> str:
    """Aligned columns for a terminal; ``*`` marks the best values."""
    columns = [f"{column} " for column in table.columns]  # the room of a mark, as in the cells
    grid = [(table.corner, columns)]
    for block in table.blocks:
        grid += [(f"  {row.header}", [_plain(cell) for cell in row.cells]) for row in block.rows]
    head = max(len(header) for header, _ in grid)
    texts = [table.is_text(column) for column in range(len(table.columns))]
    widths = [max(len(cells[i]) for _, cells in grid) for i in range(len(table.columns))]

    def line(header: str, cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(cells, widths, texts, strict=True)
        ]
        return "  ".join([header.ljust(head), *padded]).rstrip()

    rule = "-" * (head + sum(width + 2 for width in widths))
    lines = [table.title, *table.warnings, *table.caption, "", line(table.corner, columns), rule]
    for block in table.blocks:
        lines.append(block.label)
        for row in block.rows:
            if row.rule_before:
                lines.append("  " + "-" * (len(rule) - 2))
            lines.append(line(f"  {row.header}", [_plain(cell) for cell in row.cells]))
    marks = [f"* best as printed   {MISSING} missing"] if not all(texts) else []
    lines += [rule, *marks, *table.notes]
    return "\n".join(lines) + "\n"


def to_markdown(table: Table) -> str:
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


def to_latex(table: Table) -> str:
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


def to_csv(table: Table) -> str:
    """Unrounded values, one line a row; missing values are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["block", table.corner, *table.columns])
    for block in table.blocks:
        for row in block.rows:
            writer.writerow([block.label, row.header, *map(_exact, row.cells)])
    return out.getvalue()


def latex_document(tables: Sequence[Table]) -> str:
    """A document that compiles by itself, with each table on its page."""
    bodies = [
        r"\clearpage" + "\n" + to_latex(table).replace(r"\begin{table}", r"\begin{table}[p]")
        for table in tables
    ]
    return DOCUMENT_HEAD + "\n".join(bodies) + "\\end{document}\n"


#: Renderer by the suffix of the file it makes.
RENDERERS: Mapping[str, Callable[[Table], str]] = {
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
    return "" if cell.blank or cell.value is None else repr(cell.value)


def _plain(cell: Cell) -> str:
    """The value with its mark, or the room of one, so that the digits stay in line."""
    return shown(cell) + ("*" if cell.bold else " ")


def _pipes(text: str) -> str:
    return text.replace("|", r"\|")
