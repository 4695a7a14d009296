"""The papers whose tables and statements are made: each a folder here, with its `Paper` in ``paper.py``."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from multirun_analysis.errors import AnalysisError

if TYPE_CHECKING:
    from multirun_analysis.papers.base import Paper

#: The papers there are, by name: the module of each, whose ``PAPER`` is the paper; imported when asked for.
PAPERS = {
    "ono_mori": "multirun_analysis.papers.ono_mori.paper",
    "ridge": "multirun_analysis.papers.ridge.paper",
}


@cache
def paper_named(name: str) -> Paper[Any]:
    """A paper by its name in `PAPERS`, or by the module of it (``my_package.my_paper``).

    Raises
    ------
    AnalysisError
        If there is none.

    Examples
    --------
    >>> paper_named("ridge").task
    'localization'
    """
    try:
        found: Paper[Any] = import_module(PAPERS.get(name, name)).PAPER
    except (ImportError, AttributeError) as error:
        raise AnalysisError(
            f"there is no paper {name!r} ({error}): there are {', '.join(PAPERS)}; "
            "or name a module with a PAPER"
        ) from error
    return found


def papers_of(tasks: list[str]) -> list[Paper[Any]]:
    """The papers that concern these tasks, in the order of `PAPERS`."""
    return [paper for paper in map(paper_named, PAPERS) if paper.task in tasks]
