"""Ctrl-C and SIGTERM: one line, the sweep's run killed, nothing lost; a second launch goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from anomaly_sweep.cli.interrupt import Terminated, exit_code, terminable
from tests.support.multirun import arguments, runs

SWEEP = ("layer=level1,level2,level3,level4", "estimator=mvg,knn1,flow")


def planning(folder: Path) -> bool:
    return True


def store(folder: Path) -> bool:
    return (folder / "mlflow.db.lock").exists()


def trials(folder: Path) -> bool:
    return any((folder / ".anomaly_sweep").glob("features/**/*.safetensors"))


MOMENTS = [
    (planning, signal.SIGINT, 1, 130, None),
    (store, signal.SIGTERM, 1, 143, None),
    (trials, signal.SIGINT, 1, 130, "KILLED"),
    (trials, signal.SIGINT, 2, 130, "KILLED"),
    (trials, signal.SIGTERM, 2, 143, "KILLED"),
]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("moment", "signum", "workers", "code", "status"), MOMENTS)
def test_interrupted(
    moment: Callable[[Path], bool],
    signum: signal.Signals,
    workers: int,
    code: int,
    status: str | None,
    tiny_dataset: Path,
    tmp_path: Path,
) -> None:
    given = [*arguments(tiny_dataset), f"runtime.workers={workers}", *SWEEP]
    command = [sys.executable, "-m", "anomaly_sweep.cli.sweep", "-m", *given]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
        # A shell starts what it puts in the background with SIGINT ignored, which is inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    # The handlers are there when the first folder is.
    while process.poll() is None and not ((tmp_path / ".anomaly_sweep").exists() and moment(tmp_path)):
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signum)  # as a terminal does: all processes of the group
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    assert err.strip().splitlines()[-1] == "interrupted; launch again to go on"
    assert "Traceback" not in out + err
    if status is not None:
        (parent,) = runs(tmp_path, "sweep")
        assert parent.info.status == status
        assert not [run for run in runs(tmp_path) if run.info.status == "RUNNING"]


def test_a_second_launch_goes_on(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted when the first configurations are recorded: the parent is the same one, and whole."""
    from anomaly_sweep.cli import sweep
    from anomaly_sweep.sweep.record.recording import Recording

    monkeypatch.chdir(tmp_path)
    given = ["anomaly-sweep", "-m", *arguments(tiny_dataset), "layer=level2", "estimator=mvg,knn1"]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    plain = Recording.record_complete
    calls = []

    def interrupted(self: Recording, *, all_of_them: bool = False) -> None:
        calls.append(all_of_them)
        if len(calls) == 2:
            raise KeyboardInterrupt
        plain(self, all_of_them=all_of_them)

    monkeypatch.setattr(Recording, "record_complete", interrupted)
    for expected in (130, None):
        monkeypatch.setattr(sys, "argv", list(given))
        if expected is None:
            sweep.main()
        else:
            with pytest.raises(SystemExit) as caught:
                sweep.main()
            assert caught.value.code == expected
            (parent,) = runs(tmp_path, "sweep")
            assert parent.info.status == "KILLED"
    (parent,) = runs(tmp_path, "sweep")
    assert parent.info.status == "FINISHED"
    assert len(runs(tmp_path)) == 2
    assert os.environ["HYDRA_FULL_ERROR"] == "0"  # as it was


def test_signals_are_left_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def killed() -> None:
        with terminable():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(Terminated) as caught:
        killed()
    assert exit_code(caught.value) == 143
    assert exit_code(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with terminable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
