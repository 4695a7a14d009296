"""A table as HTML, and pages that need nothing beside themselves."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from multirun_analysis.rendering.table import Block, Cell, Table, shown

#: Verdicts get a sign as well as their word.
MARKS = {"holds": "holds", "does not hold": "fails", "undecided": "open", "not enough runs": "open"}
_TEXT = ' class="text"'


def to_html(table: Table) -> str:
    """A page with one table."""
    return page(table.title, table_html(table))


def page(title: str, body: str, *, script: bool = True) -> str:
    """A whole document, with the style (and the sorting of tables) inside it."""
    folder = files("multirun_analysis") / "assets"
    style = (folder / "page.css").read_text(encoding="utf-8")
    sorting = (folder / "sort.js").read_text(encoding="utf-8")
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
    ]
    tail = [f"<script>\n{sorting}</script>"] if script else []
    return "\n".join([*head, body, *tail, "</body>", "</html>"]) + "\n"


def table_html(table: Table, level: int = 2, prefix: str = "") -> str:
    """A ``section`` with a table, under a heading of that level; its id begins with the prefix."""
    columns = "".join(
        f'<th scope="col"{_TEXT if table.is_text(i) else ""}>{escape(column)}</th>'
        for i, column in enumerate(table.columns)
    )
    lines = [
        f'<section class="table" id="{escape(prefix + table.name)}">',
        f"<h{level}>{escape(table.title)}</h{level}>",
        *(f'<p class="warning">{escape(text)}</p>' for text in table.warnings),
        *(f'<p class="caption">{escape(text)}</p>' for text in table.caption),
        '<div class="wide"><table class="sortable">',
        f'<thead><tr><th scope="col">{escape(table.corner)}</th>{columns}</tr></thead>',
        *(_block(block, 1 + len(table.columns)) for block in table.blocks),
        "</table></div>",
    ]
    if table.notes:
        lines.append(f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in table.notes)}</ul>')
    return "\n".join([*lines, "</section>"])


def _block(block: Block, width: int) -> str:
    label = f'<tr class="label"><th colspan="{width}" scope="rowgroup">{escape(block.label)}</th></tr>'
    rows = []
    for row in block.rows:
        kind = ' class="rule"' if row.rule_before else ""
        cells = "".join(map(_cell, row.cells))
        rows.append(f'<tr{kind}><th scope="row">{escape(row.header)}</th>{cells}</tr>')
    return "\n".join(["<tbody>", label, *rows, "</tbody>"])


def _cell(cell: Cell) -> str:
    text = escape(shown(cell))
    if cell.text is not None:
        mark = f" {MARKS[cell.text]}" if cell.text in MARKS else ""
        return f'<td class="text{mark}">{text}</td>'
    if cell.printed is None:
        return f"<td>{text}</td>"
    return f'<td data-value="{cell.value!r}">{f"<strong>{text}</strong>" if cell.bold else text}</td>'
