"""The formats of a table."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from multirun_analysis import tables
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
from tests.support.trials import make_frame

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
    assert "\N{EN DASH}" in ours
    assert "0.250*" in apart
    assert all(line == line.rstrip() for line in lines)


def test_a_table_prints_and_shows_itself_in_a_notebook() -> None:
    assert str(TABLE) == to_text(TABLE)
    assert TABLE._repr_markdown_() == to_markdown(TABLE)
    inside, whole = Page(TABLE._repr_html_()), Page(to_html(TABLE))
    assert inside.open == []
    assert inside.rows == whole.rows
    assert inside.values == whole.values
    assert "<style" not in TABLE._repr_html_()
    assert "<script" not in TABLE._repr_html_()


WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=120)


def wide(columns: int, header: str, words: str) -> Table:
    """A table with so many columns of numbers, every third one of words."""
    cells = tuple(Cell(text=words) if i % 3 == 2 else Cell(i + 0.125, bold=i == 3) for i in range(columns))
    rows = (Row(header, cells), Row("mean", cells, rule_before=True))
    names = tuple(f"column {i}" for i in range(columns))
    return Table("t", f"Title {words}", (words,), "corner", names, (Block(words, rows),), (words,), (words,))


@given(st.integers(1, 14), st.integers(50, 160), WORDS, WORDS)
def test_a_table_fits_the_terminal_and_loses_nothing(
    columns: int, width: int, header: str, words: str
) -> None:
    table = wide(columns, header, words)
    text = to_text(table, width)
    assert max(map(cell_len, text.splitlines())) <= width
    numbers = [f"{i}.125" for i in range(columns) if i % 3 != 2]
    for number in numbers:
        assert text.count(number) >= 2
    for i in range(columns):
        assert f"column {i} " in text or f"column {i}\n" in text


@pytest.mark.parametrize("columns", [1, 3, 11])
@pytest.mark.parametrize("words", ["short", "many words in a cell " * 8, "[bold]x[/bold]", "a\x1b[31mb"])
def test_off_a_terminal_nothing_is_broken(columns: int, words: str) -> None:
    text = to_text(wide(columns, "a long header of a row " * 5, words))
    assert sum("mean" in line for line in text.splitlines()) == 1
    assert "\x1b" not in text
    assert text == to_text(wide(columns, "a long header of a row " * 5, words), 5000)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, 200])
def test_the_papers_tables_fit(width: int) -> None:
    for table in tables(make_frame()):
        if isinstance(table, Table):
            assert max(map(cell_len, to_text(table, width).splitlines())) <= width


def test_columns_that_do_not_fit_stand_below() -> None:
    lines = to_text(wide(6, "row", "w"), 60).splitlines()
    heads = [line for line in lines if line.startswith("corner")]
    assert [re.findall(r"column \d", head) for head in heads] == [
        ["column 0", "column 1", "column 2", "column 3"],
        ["column 4", "column 5"],
    ]
    assert sum(line.startswith("  row") for line in lines) == 2


def test_wide_characters_stay_in_line() -> None:
    rows = (Row("部品", (Cell(0.5),)), Row("plain", (Cell(0.25),)))
    text = to_text(Table("t", "T", (), "c", ("v",), (Block("b", rows),)))
    ends = {cell_len(line) for line in text.splitlines() if re.search(r"0\.\d", line)}
    assert len(ends) == 1


def test_markdown_has_one_width_and_escapes_pipes() -> None:
    rows = [line for line in to_markdown(TABLE).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert "**0.250**" in rows[-1]
    assert r"metal_nut\|x" in rows[0]
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
    assert r"A \& B. WARNING: random npca\_50 at 50 \%" in text
    assert r"100\% of x\_y" in text


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
    assert text.startswith(r"\documentclass")
    assert text.endswith("\\end{document}\n")
    assert text.index(r"\usepackage{booktabs}") < text.index(r"\begin{document}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    assert begun.count("table") == len(made) == 3
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
    assert shown.open == []
    assert shown.fetched == []
    assert "http" not in text
    assert shown.rows == [
        ["metal_nut|x", "0.1", "0.2", "a_b"],
        ["ours"],
        ["PCA", "0.123", "\N{EN DASH}", ""],
        ["difference"],
        ["PCA", "-0.500", "0.250", ""],
    ]
    assert shown.values == ["0.123456", "-0.5", "0.25"]
    assert "A &amp; B" in text
    assert '<p class="warning">WARNING: random</p>' in text
    assert "<strong>0.250</strong>" in text


@given(st.text())
def test_html_escapes_whatever_a_name_holds(name: str) -> None:
    table = Table(
        "t", name, (name,), name, (name,), (Block(name, (Row(name, (Cell(0.5),)),)),), (name,), (name,)
    )
    shown = Page(to_html(table))
    assert shown.open == []
    assert len(shown.rows) == 3
    assert shown.values == ["0.5"]
