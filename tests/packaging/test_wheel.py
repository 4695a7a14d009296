"""The wheel: what a user without a checkout gets."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_what_it_needs_and_no_more(unpacked: Path) -> None:
    shipped = {path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {path.relative_to(unpacked / "anomaly_sweep") for path in unpacked.rglob("*.yaml")} == shipped
    for package in ("anomaly_sweep", "multirun_analysis"):
        assert (unpacked / package / "py.typed").is_file()
    assert (unpacked / "hydra_plugins/anomaly_sweep_grid/launcher.py").is_file()
    assert not (unpacked / "hydra_plugins/__init__.py").exists()  # a namespace package, as Hydra demands
    assert {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")} == {
        "anomaly_sweep",
        "hydra_plugins",
        "multirun_analysis",
    }
    assert any(unpacked.rglob("LICENSE"))


def test_conf_is_found_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "anomaly_sweep.cli.sweep", "--info", "searchpath", "estimator=knn5"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert str(unpacked / "anomaly_sweep" / "conf") in told.stdout


def test_conf_is_found_from_the_checkout(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "anomaly_sweep.cli.sweep", "--cfg", "job", "estimator=knn5"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "name: knn5" in told.stdout
