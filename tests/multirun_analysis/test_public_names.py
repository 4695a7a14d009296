"""The names that a notebook imports: there, light to import, and their examples run."""

from __future__ import annotations

import doctest
import subprocess
import sys

import multirun_analysis
from multirun_analysis.summary import pivot


def test_every_public_name_is_there() -> None:
    assert all(callable(getattr(multirun_analysis, name)) for name in multirun_analysis.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, multirun_analysis; print({'pandas', 'mlflow', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_examples() -> None:
    found = doctest.testmod(pivot)
    assert found.attempted > 0
    assert found.failed == 0
