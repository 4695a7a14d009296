"""The formats of a table."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

from analysis_stores import make_frame
from hypothesis import given
from hypothesis import strategies as st

from multirun_analysis.papers.ono_mori.tables import tables
from multirun_analysis.rendering.html import to_html
from multirun_analysis.rendering.table import BLANK, Block, Cell, Row, Table
from multirun_analysis.rendering.text import (
    RENDERERS,
    escape_latex,
    latex_document,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
)

TABLE = Table(
    name="t",
    title="A & B",
    caption=("npca_50 at 50 %",),
    corner="metal_nut|x",
    columns=("0.1", "0.2", "a_b"),
    blocks=(
        Block("ours", (Row("PCA", (Cell(0.123456), Cell(None), BLANK)),)),
        Block("difference", (Row("PCA", (Cell(-0.5, signed=True), Cell(0.25, bold=True), BLANK), True),)),
    ),
    notes=("100% of x_y",),
    warnings=("WARNING: random",),
)


def test_text_is_aligned_and_says_missing() -> None:
    text = to_text(TABLE)
    lines = text.splitlines()
    assert lines[:3] == ["A & B", "WARNING: random", "npca_50 at 50 %"]
    ours, apart = (line for line in lines if line.startswith("  PCA"))
    assert ours.index("0.123") + 5 == apart.index("-0.500") + 6
    assert "\N{EN DASH}" in ours and "0.250*" in apart
    assert all(line == line.rstrip() for line in lines)


def test_markdown_has_one_width_and_escapes_pipes() -> None:
    rows = [line for line in to_markdown(TABLE).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert "**0.250**" in rows[-1] and r"metal_nut\|x" in rows[0]
    assert "**WARNING: random**" in to_markdown(TABLE)


def test_latex_is_booktabs_and_balanced() -> None:
    text = to_latex(TABLE)
    for word in ("toprule", "midrule", "bottomrule", r"\begin{tabular}{lrrr}", r"\label{tab:t}"):
        assert word in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert r"metal\_nut|x & 0.1 & 0.2 & a\_b \\" in text
    assert r"PCA & 0.123 & -- &  \\" in text
    assert r"PCA & $-0.500$ & \textbf{0.250} &  \\" in text
    assert r"A \& B. WARNING: random npca\_50 at 50 \%" in text and r"100\% of x\_y" in text


@given(st.text(st.characters(codec="ascii")))
def test_no_special_of_latex_is_left_alone(text: str) -> None:
    left = re.sub(
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}", "", escape_latex(text)
    )
    left = re.sub(r"\\[&%$#_{}]", "", left)
    assert not set(left) & set("\\&%$#_{}~^<>")


def test_csv_has_every_digit() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ["block", "metal_nut|x", "0.1", "0.2", "a_b"]
    assert rows[1] == ["ours", "PCA", "0.123456", "", ""]
    assert float(rows[2][2]) == -0.5


def test_every_table_goes_into_every_format() -> None:
    for table in tables(make_frame()):
        if isinstance(table, Table):
            for render in RENDERERS.values():
                assert render(table).endswith("\n")
            width = 1 + len(table.columns)
            body = to_latex(table).split(r"\begin{tabular}")[1].split(r"\end{tabular}")[0]
            cells = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
            assert {line.count("&") for line in cells} == {width - 1}


def test_a_latex_document_has_all_that_its_tables_use() -> None:
    made = [table for table in tables(make_frame()) if isinstance(table, Table)]
    text = latex_document(made)
    assert text.startswith(r"\documentclass") and text.endswith("\\end{document}\n")
    assert text.index(r"\usepackage{booktabs}") < text.index(r"\begin{document}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended) and begun.count("table") == len(made) == 3
    assert len(re.findall(r"\\begin{table}\[p\]", text)) == 3


class Page(HTMLParser):
    """Cells by row, the nesting, and everything that would be fetched."""

    void = ("meta", "br", "link", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.values: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.values += [value or "" for name, value in attrs if name == "data-value"]
        self.fetched += [value or "" for name, value in attrs if name in ("src", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_html_has_every_cell_and_fetches_nothing() -> None:
    text = to_html(TABLE)
    shown = Page(text)
    assert shown.open == [] and shown.fetched == [] and "http" not in text
    assert shown.rows == [
        ["metal_nut|x", "0.1", "0.2", "a_b"],
        ["ours"],
        ["PCA", "0.123", "\N{EN DASH}", ""],
        ["difference"],
        ["PCA", "-0.500", "0.250", ""],
    ]
    assert shown.values == ["0.123456", "-0.5", "0.25"]
    assert "A &amp; B" in text and '<p class="warning">WARNING: random</p>' in text
    assert "<strong>0.250</strong>" in text


@given(st.text())
def test_html_escapes_whatever_a_name_holds(name: str) -> None:
    table = Table(
        "t", name, (name,), name, (name,), (Block(name, (Row(name, (Cell(0.5),)),)),), (name,), (name,)
    )
    shown = Page(to_html(table))
    assert shown.open == []
    assert len(shown.rows) == 3 and shown.values == ["0.5"]
