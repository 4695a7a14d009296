"""A sweep's lock and folder: let go of when something fails, and never two sweeps' at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from anomaly_sweep.errors import ConfigError, TrackingError
from anomaly_sweep.launch import session
from anomaly_sweep.tasks import configuration_of
from anomaly_sweep.tracking.writer import Recorder
from tests.support.multirun import Multirun


@pytest.fixture(autouse=True)
def _no_sweep() -> Iterator[None]:
    yield
    while session._started:
        session._started.pop()[1].close()


def multirun(folder: Path, root: Path, *arguments: str) -> tuple[Multirun, list[Any]]:
    """A multirun with everything in a folder, and its configurations."""
    found = Multirun(
        *("dataset=folder", f"dataset.root={root}", "dataset.categories=[linen]"),
        *("backbone.weights=random", f"tracking.uri=sqlite:///{folder}/mlflow.db"),
        *(f"runtime.cache_dir={folder}/cache", f"hydra.sweep.dir={folder}/sweep", *arguments),
    )
    return found, [configuration_of(job) for job in found.composer().jobs([[]])]


def test_a_store_that_cannot_be_opened_does_not_keep_the_lock(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, configurations = multirun(tmp_path, tiny_dataset)

    def away(*_: Any, **__: Any) -> None:
        raise TrackingError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "__init__", away)
        with pytest.raises(TrackingError, match="away"):
            session.start(found.config, [["a=1"]], configurations)
    parent = session.start(found.config, [["a=1"]], configurations)
    with pytest.raises(TrackingError, match="the same sweep is running already"):
        session.start(found.config, [["a=1"]], configurations)
    session.finish(found.config, parent, failed=False)
    assert session.start(found.config, [["a=1"]], configurations) == parent


def test_two_sweeps_at_once_have_folders_of_their_own(tiny_dataset: Path, tmp_path: Path) -> None:
    held = FileLock(tmp_path / "sweep's" / session._FOLDER_LOCK)
    (tmp_path / "sweep's").mkdir()
    code = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print(1, flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, held.lock_file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        found, configurations = multirun(tmp_path, tiny_dataset, f'hydra.sweep.dir="{tmp_path}/sweep\'s"')
        parent = session.start(found.config, [["a=1"]], configurations)
        own = tmp_path / "sweep's-2"
        assert found.config.hydra.sweep.dir == str(own)
        assert (own / "multirun.yaml").is_file()
        assert not (tmp_path / "sweep's" / "multirun.yaml").exists()
        # jobs of any launcher find the sweep there
        assert found.compose([]).hydra.sweep.dir == str(own)
        (held_open,) = session._started
        session._started.clear()
        assert session.current(own) == parent
        session._started.append(held_open)
        session.finish(found.config, parent, failed=False)
        other.communicate(b"")
    found, configurations = multirun(tmp_path, tiny_dataset, f'hydra.sweep.dir="{tmp_path}/sweep\'s"')
    session.start(found.config, [["a=1"]], configurations)
    assert found.config.hydra.sweep.dir == str(tmp_path / "sweep's")


def test_a_sweep_folder_that_cannot_be_written_is_told(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, configurations = multirun(tmp_path, tiny_dataset)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(OmegaConf, "save", full)
        with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir=.*/sweep cannot be written \(No space"):
            session.start(found.config, [["a=1"]], configurations)
    session.start(found.config, [["a=1"]], configurations)
