"""The examples of CONTRIBUTING.md run as they are printed, on tiny images and random weights."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from anomaly_sweep import compose, long_table, run_configurations
from multirun_analysis.cli import main
from multirun_analysis.trials.long_table import save_trials
from tests.support.trials import make_frame

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"```sh\nanomaly-sweep (.*?)\n```", TEXT)
TABLES = re.findall(r"```sh\nmultirun-analysis (.*?)\n```", TEXT)


def write_files(folder: Path) -> None:
    for name, text in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_example(command: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    for category in ("linen", "washer"):
        shutil.copytree(tiny_dataset / category, tmp_path / "parts" / category)
        line = tmp_path / "line" / category
        shutil.copytree(tiny_dataset / category, line)
        for old, new in (("train/good", "train/pass"), ("test/good", "test/pass")):
            (line / old).rename(line / new)
        (line / "test").rename(line / "inspected")
        (line / "ground_truth").rename(line / "marks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    flag, folder, *overrides = shlex.split(command)
    assert flag == "--config-dir"
    tiny = ("dataset=folder", "dataset.root=parts", "dataset.input_size=64")
    if not any(override.startswith("dataset=") for override in overrides):
        overrides += tiny
    overrides += ["backbone.weights=random", "runtime.workers=1", "runtime.device=cpu"]
    table = long_table(run_configurations(*compose(*overrides, config_dir=folder)))
    assert len(table) == 2
    assert set(table["status"]) == {"ok"}, table["reason"].to_list()


@pytest.mark.parametrize("command", TABLES)
def test_table(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    trials = make_frame()
    save_trials(trials, tmp_path / "trials.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main([*shlex.split(command), "--trials", "trials.csv"]) == 0
    (table,) = Path("results").glob("*.csv")
    deepest = trials[(trials["layer"] == "level7") & (trials["pca_mode"] == "npca50")]
    wanted = deepest.groupby("estimator")["image_auroc"].agg(["min", "max"])
    found = pd.read_csv(table, index_col="estimator")
    assert found.loc[wanted.index, ["hardest", "easiest"]].to_numpy() == pytest.approx(wanted.to_numpy())
