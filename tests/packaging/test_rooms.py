"""Rooms that take values know nothing of config nodes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import anomaly_sweep

#: Whose functions and classes take values: they can be used without Hydra and without a config.
PURE = ("metrics", "estimators", "localization", "checks", "memory", "fingerprint", "errors")
ROOT = Path(anomaly_sweep.__file__).parent


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_import_no_config(room: str) -> None:
    folder = ROOT / room
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert files
    for path in files:
        config = {
            name for name in imported(path) if name.startswith(("anomaly_sweep.config", "omegaconf", "hydra"))
        }
        assert not config, f"{path.relative_to(ROOT)} imports {', '.join(sorted(config))}"
