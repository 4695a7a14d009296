"""A table as HTML, and pages that need nothing beside themselves, from the templates of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from multirun_analysis.rendering.content import TableContent, shown

#: Verdicts get a sign as well as their word: the class that the style sheet marks.
MARKS = {"holds": "holds", "does not hold": "fails", "undecided": "open", "not enough runs": "open"}


def to_html(table: TableContent) -> str:
    """A page with one table."""
    return page(table.title, [table])


def to_fragment(table: TableContent) -> str:
    """A table within a page that has a style of its own, such as a notebook."""
    return rendered("fragment.html.j2", table=table)


def page(title: str, tables: Sequence[TableContent]) -> str:
    """A page with tables."""
    return rendered("page.html.j2", title=title, tables=tables)


def rendered(template: str, **values: Any) -> str:
    """A page from a template: with the style and the sorting of tables inside it, all text escaped."""
    return _environment().get_template(template).render(**values).lstrip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("multirun_analysis.rendering"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = shown
    folder = files("multirun_analysis") / "assets"
    environment.globals["marks"] = MARKS
    environment.globals["style"] = (folder / "page.css").read_text(encoding="utf-8")
    environment.globals["script"] = (folder / "sort.js").read_text(encoding="utf-8")
    return environment
