"""What a sweep ends with: the best five, notes that are due, commands that can be given to a shell."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.launch.compose import configurations_of
from anomaly_sweep.launch.summary import Candidate, summary
from tests.support.multirun import Multirun
from tests.support.multirun import command as run

RANDOM_NOTE = "random weights: these numbers say nothing about ImageNet features"


def candidates(*arguments: str, values: list[float] | None = None) -> list[Candidate]:
    """The configurations of a command line, valued 0.50, 0.51, ... unless said."""
    multirun = Multirun(*arguments)
    jobs = multirun.jobs()
    configurations = configurations_of(multirun.composer().jobs(jobs))
    values = values or [0.5 + 0.01 * i for i in range(len(jobs))]
    return [Candidate(*one) for one in zip(configurations, jobs, values, strict=True)]


def text(found: list[Candidate], **changes: Any) -> str:
    told: dict[str, Any] = {
        "objective": "auc", "failed": 0, "lost": 0, "sweep": "sweep-1",
        "tracking": TrackingConf(), "log_file": None,
    }  # fmt: skip
    return summary(found, **{**told, **changes})


def ranked(words: str) -> list[str]:
    """The lines of the ranking."""
    return [line for line in words.splitlines() if line.startswith("  0.")]


def again(words: str) -> list[str]:
    """The command of the best, as a shell splits it."""
    return shlex.split(words.split("the best one again:\n")[1].splitlines()[0])


def test_the_five_best_best_first() -> None:
    words = text(candidates("layer=level1,level2,level3", "estimator=mvg,knn1", "backbone.weights=random"))
    assert ranked(words) == [
        "  0.5500  level3 · knn1",
        "  0.5400  level3 · mvg",
        "  0.5300  level2 · knn1",
        "  0.5200  level2 · mvg",
        "  0.5100  level1 · knn1",
    ]
    assert words.startswith(
        "mean image AUROC, best of 6 configurations\nall: resnet18 · avg · none · npca50 ·"
    )
    assert again(words) == ["anomaly-sweep", "layer=level3", "estimator=knn1", "backbone.weights=random"]


@pytest.mark.parametrize(
    ("objective", "first", "shown"),
    [
        ("auc", "mean image AUROC", "  0.9000  "),
        ("pixel_auroc", "mean pixel AUROC", "  0.9000  "),
        ("aupro", "mean AUPRO", "  0.9000  "),
        ("score_seconds", "score_seconds", "  0.100  "),
        ("fit_seconds", "fit_seconds", "  0.100  "),
    ],
)
def test_the_best_is_the_highest_but_of_seconds_the_lowest(objective: str, first: str, shown: str) -> None:
    words = text(candidates("layer=level1,level2,level3", values=[0.5, 0.1, 0.9]), objective=objective)
    assert words.startswith(first)
    assert words.splitlines()[2].startswith(shown)
    assert ("chosen on the test images" in words) == (not objective.endswith("seconds"))


def test_equals_stay_in_the_sweeps_order() -> None:
    words = text(candidates("layer=level1,level2,level3", values=[0.5, 0.5, 0.5]))
    assert [line.split()[-1] for line in ranked(words)] == ["level1", "level2", "level3"]


def test_random_weights_are_told() -> None:
    assert RANDOM_NOTE in text(candidates("layer=level1,level2", "backbone.weights=random"))
    mixed = text(candidates("backbone.weights=random,/w.pth", "layer=level1"))
    assert f"1 of these with {RANDOM_NOTE}" in mixed
    assert "random" not in text(candidates("layer=level1,level2", "backbone.weights=/w.pth"))


def test_incomplete_ones_are_told() -> None:
    found = candidates("layer=level1,level2")
    assert "incomplete" not in text(found)
    words = text(found, failed=3, lost=7)
    assert "best of 5 configurations" in words
    assert "! incomplete: 3 configurations have failed trials, 7 in all; no mean is shown for them" in words
    assert "incomplete: 1 configuration has failed trials, 1 in all" in text(found, failed=1, lost=1)
    none = text([], failed=2, lost=4)
    assert none.startswith("no configuration has a mean over all categories (2 configurations have")
    assert "again" not in none


def test_one_configuration_is_no_selection() -> None:
    words = text(candidates("layer=level1"))
    assert "chosen" not in words
    assert "best of" not in words
    assert ranked(words)[0].startswith("  0.5000  resnet18 · level1 ·")


@pytest.mark.parametrize(
    "override",
    [
        "dataset.categories=[bolt,nut]",
        "backbone.weights=/weights/${backbone.name}.safetensors",
        "dataset.name='my parts'",
        "dataset.root=/data/it's here",
        "dataset.name=a$b",
        "backbone.weights=/w/*.pth",
        "dataset.name=semi;colon",
        "dataset.name=a&b",
        "dataset.name=`x`",
        'dataset.name="quoted"',
        "dataset.name=back\\slash",
    ],
)
def test_the_command_again_survives_a_shell(override: str) -> None:
    (found,) = candidates("layer=level1")
    found = Candidate(found.configuration, [*found.overrides, override], 0.5)
    assert again(text([found]))[-1] == override


def test_an_experiment_is_narrowed() -> None:
    (found,) = candidates("layer=level1")
    found = Candidate(found.configuration, ["experiment=ono_mori_grid", *found.overrides], 0.5)
    assert again(text([found]))[:3] == ["anomaly-sweep", "-m", "experiment=ono_mori_grid"]


@pytest.mark.parametrize("option", [["--config-dir", "/my conf"], ["--config-dir=/my"], ["-cn", "mine"]])
def test_where_configs_are_found_is_said_again(monkeypatch: pytest.MonkeyPatch, option: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "-m", *option, "layer=level1"])
    assert again(text(candidates("layer=level1")))[1 : 1 + len(option)] == option


def test_another_store_and_task_are_said() -> None:
    store = TrackingConf(uri="http://host:5000", experiment="my parts")
    words = text(candidates("layer=level1"), tracking=store, sweep="a sweep")
    options = "--tracking-uri http://host:5000 --experiment 'my parts'"
    assert f"multirun-analysis ui {options}" in words
    assert f"tables --paper ono_mori --sweep 'a sweep' --out results {options}" in words
    places = candidates("task=localization", "localizer=ridge,padim")
    assert "--paper ridge" in text(places)
    assert "ridge" in ranked(text(places))[1]


def test_the_log_is_named_as_seen_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = candidates("layer=level1")
    assert text(found, log_file=tmp_path / "multirun/x.log").endswith("the log:\n  multirun/x.log")
    assert text(found, log_file=Path("/else/x.log")).endswith("the log:\n  /else/x.log")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_ranking_fits(width: int) -> None:
    found = candidates("estimator=mvg,knn1", "layer=level1,all", "backbone.weights=random")
    words = text(found, width=width, failed=1, lost=1).split("\n\n")[0]
    assert max(map(cell_len, words.splitlines())) <= width


def test_a_sweep_ends_with_it_and_its_log_holds_everything(tiny_dataset: Path, tmp_path: Path) -> None:
    done = run(
        "-m", "dataset=folder", f"dataset.root={tiny_dataset}", "dataset.name=tiny", "dataset.input_size=64",
        "dataset.categories=[washer,linen]", "backbone.weights=random", "layer=level1,level2",
        "estimator=mvg,knn10", "runtime.workers=2", "runtime.device=cpu", cwd=tmp_path,
    )  # fmt: skip
    (log,) = tmp_path.glob("multirun/*/*/anomaly_sweep.log")
    written = log.read_text()
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert "mean image AUROC, best of 4 configurations" in done.stdout
    assert "incomplete: 2 configurations have failed trials, 4 in all" in done.stdout
    assert f"the log:\n  {log.relative_to(tmp_path)}" in done.stdout
    for told in ("command: ", "layer=level1,level2", "torch==", "python 3", "expected time", "summary:"):
        assert told in written
    assert written.count("2 trials failed: ") == 2  # 10-NN of 6 images, on each category
    assert done.stdout.count("2 trials failed: ") == 1  # a reason is told once on the terminal
    assert "Traceback" not in done.stdout
    line = done.stdout.split("the best one again:\n")[1].splitlines()[0]
    again_ = run(*shlex.split(line)[1:], cwd=tmp_path)
    assert again_.returncode == 0, again_.stderr
    assert "(0 to compute in 0 shards, 2 known)" in again_.stdout
