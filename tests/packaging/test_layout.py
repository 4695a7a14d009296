"""The rooms of both packages: imports run downward, in no circle, and the heavy ones come late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

#: From the bottom up: a room imports from its own and from those above it in this list. A module or a
#: folder named by itself stands where it is named, not with the folder it is in.
FLOORS = (
    "anomaly_sweep.errors",
    "anomaly_sweep.unwritable",
    "anomaly_sweep.fingerprint",
    "anomaly_sweep.checks",
    "anomaly_sweep.memory",
    "anomaly_sweep.instantiate",
    "anomaly_sweep.terminal",
    "anomaly_sweep.config",
    "anomaly_sweep.datasets",
    "anomaly_sweep.metrics",
    "anomaly_sweep.features",
    "anomaly_sweep.estimators",
    "anomaly_sweep.localization",
    "anomaly_sweep.tracking",
    "anomaly_sweep.logs",
    "anomaly_sweep.tasks",
    "anomaly_sweep.sweep",
    "anomaly_sweep.launch",
    "anomaly_sweep.sweep.search",  # launches the points that it asks for
    "anomaly_sweep.cli",
    "hydra_plugins",
    "multirun_analysis.errors",
    "multirun_analysis.rendering",
    "multirun_analysis.stats",
    "multirun_analysis.trials",
    "multirun_analysis.summary",
    "multirun_analysis.figures",
    "multirun_analysis.papers",
    "multirun_analysis.reporting",
    "multirun_analysis.sweep_page",
    "multirun_analysis.callback",
    "multirun_analysis.ui",
    "multirun_analysis.commands",
    "multirun_analysis.cli",
)
PACKAGES = ("anomaly_sweep", "hydra_plugins", "multirun_analysis")
HEAVY = {"torch", "torchvision", "timm", "mlflow", "matplotlib", "pandas", "sklearn", "scipy", "optuna"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports(module: str, *, of_types: bool) -> Iterator[tuple[str, int]]:
    """Modules of these packages that a module imports, wherever it says so, and the lines."""
    nodes: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not of_types:
            nodes.extend(node.orelse)
            continue
        nodes.extend(ast.iter_child_nodes(node))
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in FILES:
                name = name.rpartition(".")[0]
            # The packages themselves offer what is beneath by name; their versions are read from anywhere.
            if name and name != module and name not in PACKAGES:
                yield name, getattr(node, "lineno", 0)


def floor(module: str) -> str:
    """The room of a module: the longest name in ``FLOORS`` that it begins with."""
    return max((room for room in FLOORS if f"{module}.".startswith(f"{room}.")), key=len, default="(no room)")


def test_every_module_is_in_a_room() -> None:
    outside = [module for module in FILES if module not in PACKAGES and floor(module) == "(no room)"]
    assert not outside, f"modules without a room; give each one, or FLOORS a line: {', '.join(outside)}"
    empty = [room for room in FLOORS if room not in set(map(floor, FILES))]
    assert not empty, f"FLOORS names rooms that are not there: {', '.join(empty)}"


def test_imports_run_downward() -> None:
    height = {room: number for number, room in enumerate(FLOORS)}
    upward = [
        f"{FILES[module].relative_to(ROOT)}:{line} ({floor(module)}) imports {name} ({floor(name)})"
        for module in FILES
        if module not in PACKAGES
        for name, line in imports(module, of_types=True)
        if height[floor(name)] > height[floor(module)]
    ]
    assert not upward, "imports that run upward:\n" + "\n".join(upward)


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        module: {name for name, _ in imports(module, of_types=False)}
        for module in FILES
        if module not in PACKAGES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("modules import each other in a circle: " + " <- ".join(error.args[1]))


def test_nobody_above_the_tasks_asks_which_task_it_is() -> None:
    """What differs between tasks is a method of `tasks.base.Task`."""
    tasks = [module for module in FILES if module.startswith("anomaly_sweep.tasks.")]
    kinds = {"DetectionTrial", "LocalizationTrial", "Configuration", "LocalizationConfiguration"} | {
        node.name
        for module in tasks
        for node in ast.parse(FILES[module].read_text()).body
        if isinstance(node, ast.ClassDef) and module.count(".") > 2  # tasks.<task>.<module>
    }
    asked = [
        f"{path.relative_to(ROOT)}:{node.lineno}: isinstance(..., {ast.unparse(node.args[1])})"
        for module, path in FILES.items()
        if not module.startswith("anomaly_sweep.tasks.")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in ("isinstance", "issubclass") and len(node.args) == 2
        if {n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "") for n in ast.walk(node.args[1])}
        & kinds
    ]
    assert not asked, "these ask which task it is; make it a method of Task:\n" + "\n".join(asked)


@pytest.mark.parametrize(
    "module",
    [
        "anomaly_sweep",
        "anomaly_sweep.cli.sweep",
        "anomaly_sweep.cli.cache",
        "multirun_analysis",
        "multirun_analysis.cli",
        "multirun_analysis.callback",
        *(module for module in FILES if module.startswith("hydra_plugins.") and module.count(".") > 1),
    ],
)
def test_starting_up_is_light(module: str) -> None:
    code = f"import sys, {module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert module.partition(".")[0] in found
    heavy = HEAVY & set(found)
    assert not heavy, (
        f"importing {module} imports {', '.join(sorted(heavy))}; import them where they are used. Who does: "
        f"python -X importtime -c 'import {module}'"
    )


def test_benchmarks_are_no_tests() -> None:
    """A benchmark is started by its target in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    names = sorted(path.name for path in (ROOT / "tests" / "benchmarks").glob("*.py"))
    assert names
    assert all(name.startswith("bench_") for name in names)
    lost = [name for name in names if f"tests/benchmarks/{name}" not in makefile]
    assert not lost, f"no target of the Makefile runs {', '.join(lost)}"


def test_tests_stand_where_what_they_test_does() -> None:
    """A folder of tests is named as the folder of the package is."""
    rooms = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    lost = [
        str(room)
        for room in sorted(rooms - {Path("packaging")})
        if not any((ROOT / package / room).is_dir() for package in ("anomaly_sweep", "."))
    ]
    assert not lost, f"folders of tests that no package has: {', '.join(lost)}"
