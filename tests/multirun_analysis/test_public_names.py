"""The names that a notebook imports: there, light to import, and their examples run."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pandas as pd
import pytest

import multirun_analysis
from multirun_analysis import claims, papers, tables
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers import analysis
from multirun_analysis.reporting import page
from multirun_analysis.summary import compare, pivot
from multirun_analysis.trials import read
from tests.support.trials import make_frame, make_localization


def test_every_public_name_is_there() -> None:
    assert all(callable(getattr(multirun_analysis, name)) for name in multirun_analysis.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, multirun_analysis; print({'pandas', 'mlflow', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_examples() -> None:
    for module in (pivot, compare, read, page):
        found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        assert found.attempted > 0
        assert found.failed == 0


def test_papers_are_found_by_name_and_their_examples_run() -> None:
    for module in (papers, analysis):
        found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        assert found.attempted > 0
        assert found.failed == 0
    for name in papers.PAPERS:
        assert papers.paper_named(name).name == name
    with pytest.raises(
        AnalysisError, match=r"there is no paper 'x' \(No module named 'x'\): there are ono_mori, ridge"
    ):
        papers.paper_named("x")


def test_the_paper_is_that_of_the_trials() -> None:
    assert tables(make_localization())[0].name == "ridge_table1"
    assert claims(make_frame())[0].statement.name == "deep_layers"
    both = pd.concat([make_frame(), make_localization()], ignore_index=True)
    with pytest.raises(AnalysisError, match="ono_mori, ridge; choose one with paper=NAME"):
        tables(both)
    with pytest.raises(AnalysisError, match="--layer has no part in --paper ridge"):
        tables(both, "ridge", layer="7")
