"""What every Hydra launcher keeps to. A new one is a line in ``LAUNCHERS``."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from anomaly_sweep.cli import sweep
from anomaly_sweep.tracking import names
from tests.support.launching import CALLS, FITS
from tests.support.multirun import arguments, runs
from tests.support.paths import ROOT
from tests.support.tracking import store

#: Two levels by two estimators: one that the grid launcher shares, one that is fitted by itself.
GRID = ("layer=level2,level4", "estimator=mvg,counted")
#: Of two configurations one fails, on each of the two categories.
BROKEN = ("layer=level4", "estimator=counted,broken")
OPTION = "name: {}\n_target_: tests.support.launching.Counted\nbroken: {}\nhigher_is_anomalous: true\n"
#: Columns of the long table that say how long it took, and in which sweep and run.
NOT_RESULTS = ["sweep", "run_id", "fit_seconds", "score_seconds"]


def line(name: str, *overrides: str, plugin: str | None = None) -> Any:
    missing = plugin is not None and find_spec(f"hydra_plugins.{plugin}") is None
    marks = [pytest.mark.skipif(missing, reason=f"{plugin} is not installed")]
    return pytest.param((f"hydra/launcher={name}", *overrides), id=name, marks=marks)


LAUNCHERS = [
    line("grid"),
    line("basic"),
    line("joblib", "hydra.launcher.n_jobs=2", plugin="hydra_joblib_launcher"),
    line("submitit_local", plugin="hydra_submitit_launcher"),
    line("ray", plugin="hydra_ray_launcher"),
]


@dataclass(frozen=True)
class Launch:
    """What there is after a command."""

    said: str
    exit: str | int | None
    sweeps: list[Any]  # all, the newest first
    jobs: list[Any]
    fits: int  # of this command
    calls: list[str]  # of its callback

    @property
    def parent(self) -> Any:
        return self.sweeps[0]

    @property
    def children(self) -> list[Any]:
        """Runs of the newest sweep's jobs."""
        return [run for run in self.jobs if run.data.tags[names.TAG_PARENT] == self.parent.info.run_id]


@dataclass(frozen=True)
class Launched:
    """A folder in which a sweep was launched twice, and then one of which a job fails."""

    folder: Path
    first: Launch
    again: Launch
    broken: Launch

    def table(self, launch: Launch) -> pd.DataFrame:
        """The newest sweep's long table, in an order of its own."""
        artifacts = self.folder / "mlartifacts" / launch.parent.info.run_id / "artifacts"
        return pd.read_parquet(artifacts / names.LONG_TABLE).sort_values(
            ["layer", "estimator", "category"], ignore_index=True
        )


class Launcher:
    """Launches sweeps in a folder, as the command line does."""

    def __init__(self, folder: Path, dataset: Path, overrides: tuple[str, ...]) -> None:
        self.folder = folder
        told = "+hydra.callbacks.told._target_=tests.support.launching.Told"
        self._fixed = [*arguments(dataset), *overrides, "hydra.callbacks.analysis.enabled=false", told]
        (folder / "conf" / "estimator").mkdir(parents=True)
        for name, broken in (("counted", "false"), ("broken", "true")):
            (folder / "conf" / "estimator" / f"{name}.yaml").write_text(OPTION.format(name, broken))
        store(folder)

    def launch(self, *jobs: str) -> Launch:
        said, end = io.StringIO(), None
        sys.argv[:] = ["anomaly-sweep", "-m", "--config-dir", "conf", *self._fixed, *jobs]
        with redirect_stdout(said), redirect_stderr(said):
            try:
                sweep.main()
            except SystemExit as exit:
                end = exit.code
        sweeps = sorted(runs(self.folder, "sweep"), key=lambda run: -int(run.data.tags[names.TAG_LAUNCHED]))
        return Launch(said.getvalue(), end, sweeps, runs(self.folder), len(taken(FITS)), taken(CALLS))


def taken(variable: str) -> list[str]:
    """The lines told since they were last taken."""
    path = Path(os.environ[variable])
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def launched_by(overrides: tuple[str, ...], folder: Path, dataset: Path) -> Launched:
    """The three launches; workers that outlive them are ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HYDRA_FULL_ERROR", "0")
        patch.setenv(FITS, str(folder / "fits.txt"))
        patch.setenv(CALLS, str(folder / "calls.txt"))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        patch.setattr(sys, "argv", [])
        launcher = Launcher(folder, dataset, overrides)
        done = Launched(folder, launcher.launch(*GRID), launcher.launch(*GRID), launcher.launch(*BROKEN))
        if "hydra/launcher=joblib" in overrides:
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown()
        return done


@pytest.fixture(scope="module", params=LAUNCHERS)
def launched(
    request: pytest.FixtureRequest, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Launched:
    return launched_by(request.param, tmp_path_factory.mktemp("launched"), tiny_dataset)


@pytest.fixture(scope="module")
def expected(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """By Hydra's own: one job after the other, each by itself."""
    return launched_by(("hydra/launcher=basic",), tmp_path_factory.mktemp("expected"), tiny_dataset)


def test_a_sweep_is_one_run_and_its_jobs_its_children(launched: Launched) -> None:
    first = launched.first
    assert first.exit is None, first.said
    assert len(first.sweeps) == 1
    assert first.parent.info.status == "FINISHED"
    assert len(first.jobs) == len(first.children) == 4
    assert {(run.data.params["layer"], run.data.params["estimator"]) for run in first.children} == {
        (layer, estimator) for layer in ("level2", "level4") for estimator in ("mvg", "counted")
    }
    assert {run.info.status for run in first.children} == {"FINISHED"}
    assert {run.data.tags[names.TAG_SWEEP] for run in first.children} == {first.parent.info.run_name}


def test_each_trial_is_computed_once(launched: Launched) -> None:
    assert launched.first.fits == 2 * 2  # levels, categories


def test_numbers_are_those_of_any_launcher(launched: Launched, expected: Launched) -> None:
    for launch, wanted in ((launched.first, expected.first), (launched.broken, expected.broken)):
        pd.testing.assert_frame_equal(
            launched.table(launch).drop(columns=NOT_RESULTS),
            expected.table(wanted).drop(columns=NOT_RESULTS),
            check_exact=True,
        )
        assert metrics(launch) == metrics(wanted)


def metrics(launch: Launch) -> dict[str, dict[str, float]]:
    """Label -> metric -> value, of all but times."""
    return {
        f"{run.data.params['layer']} {run.data.params['estimator']}": {
            name: value for name, value in run.data.metrics.items() if name not in names.TOTALS
        }
        for run in launch.children
    }


def test_the_parent_has_what_its_jobs_have(launched: Launched) -> None:
    table = launched.table(launched.first)
    assert len(table) == 4 * 2
    assert set(table["run_id"]) == {run.info.run_id for run in launched.first.children}
    assert set(table["status"]) == {names.STATUS_OK}
    best = max(run.data.metrics[names.AUC_MEAN] for run in launched.first.children)
    assert launched.first.parent.data.metrics[names.BEST_AUC] == best


def test_launched_again_it_computes_nothing_and_leaves_no_run(launched: Launched) -> None:
    first, again = launched.first, launched.again
    assert again.exit is None, again.said
    assert again.fits == 0
    assert [run.info.run_id for run in again.sweeps] == [run.info.run_id for run in first.sweeps]
    assert again.parent.info.status == "FINISHED"
    assert {run.info.run_id for run in again.jobs} == {run.info.run_id for run in first.jobs}


def test_a_failure_is_told_and_costs_its_job_alone(launched: Launched) -> None:
    broken = launched.broken
    assert str(broken.exit).startswith("error: 1 of 2 configurations have failed trials")
    assert "2 x linen, washer: Counted: broken on purpose" in str(broken.exit)
    assert "Traceback" not in broken.said
    assert broken.fits == 2  # the other job's trials are known from the sweep before
    assert len(broken.sweeps) == 2
    assert broken.parent.info.status == "FAILED"
    good, bad = sorted(broken.children, key=lambda run: run.info.status, reverse=True)
    assert (good.info.status, bad.info.status) == ("FINISHED", "FAILED")
    assert bad.data.metrics[names.FAILED_TRIALS] == 2
    assert names.AUC_MEAN not in bad.data.metrics
    table = launched.table(broken)
    assert set(table[table["run_id"] == bad.info.run_id]["reason"]) == {"Counted: broken on purpose"}


def test_callbacks_are_called_in_pairs(launched: Launched) -> None:
    for launch in (launched.first, launched.again, launched.broken):
        begun, *jobs, ended = launch.calls
        assert (begun, ended) == ("sweep start", "sweep end")
        pairs: dict[str, list[str]] = {}
        for call in jobs:
            job, _, what = call.rpartition(" ")
            pairs.setdefault(job, []).append(what)
        assert pairs == {
            f"{run.data.params['layer']} {run.data.params['estimator']}": [
                "start",
                "COMPLETED" if run.info.status == "FINISHED" else "FAILED",
            ]
            for run in launch.children
        }
