"""Starting up: the help and the config come at once, without the heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.multirun import command

HEAVY = ("torch", "torchvision", "timm", "mlflow", "sklearn", "pandas", "optuna", "scipy")


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"]], ids=lambda flag: flag[0])
def test_starts_light(flag: list[str], tmp_path: Path) -> None:
    done = command(*flag, cwd=tmp_path, flags=["-X", "importtime"])
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "omegaconf" in imported  # the lines are what we take them for
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"]], ids=lambda flag: flag[0])
def test_who_reads_the_output_may_go(flag: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "anomaly_sweep.cli.sweep", *flag],
            cwd=tmp_path,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_lists_groups_and_options(tmp_path: Path) -> None:
    text = command("--help", cwd=tmp_path).stdout
    for group, option in (("backbone", "mobilenetv2_035"), ("layer", "level7"), ("estimator", "knn10")):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{group}: ")]
        assert option in line.removeprefix(f"{group}: ").split(", ")


def test_cfg_job_shows_choices(tmp_path: Path) -> None:
    done = command("--cfg", "job", "estimator=knn5", "pca_mode.rate=0.25", cwd=tmp_path)
    assert done.returncode == 0
    assert "k: 5" in done.stdout
    assert "rate: 0.25" in done.stdout
