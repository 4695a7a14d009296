"""A sweep's parent run, shared by the processes of an ordinary Hydra launcher through the sweep's folder."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.config import NODES, RuntimeConf, TrackingConf, parse_node
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.record.recording import KEPT, Parent
from anomaly_sweep.sweep.record.scores import record_scores
from anomaly_sweep.tracking.writer import Recorder

_FILE = "sweep.json"
#: What a sweep starts from, but for how and where it runs.
_NODES = tuple(name for name in NODES if name not in ("tracking", "runtime"))


def start(config: DictConfig, jobs: Sequence[Sequence[str]]) -> Parent:
    """The parent run of a sweep: a new one, or (``runtime.resume``) the one an earlier launch left.

    A launch is the same sweep when it has the same jobs on the same data set settings.

    Parameters
    ----------
    config : DictConfig
        Hydra's master config of the multirun.
    jobs : sequence of sequences of str
        The override list of each job.

    Raises
    ------
    TrackingError
        If the tracking store cannot be reached or written.
    """
    tracking: TrackingConf = parse_node("tracking", config.tracking)
    runtime: RuntimeConf = parse_node("runtime", config.runtime)
    identity = sweep_identity(config, jobs)
    if runtime.resume:
        _hold(identity, Path(runtime.cache_dir).expanduser())
    recorder = Recorder(tracking)
    command = " ".join(OmegaConf.to_container(config.hydra.overrides.task))  # type: ignore[arg-type]
    name = f"{_short_name(config)}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    run_id = recorder.start_sweep(
        name,
        identity,
        f"`anomaly-sweep -m {command}`",
        resume=runtime.resume,
    )
    recorder.drop_unfinished(run_id)
    parent = Parent(recorder.sweep_name(run_id), run_id)
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(json.dumps({"name": parent.name, "run_id": parent.run_id}))
    _started[:] = [parent]
    return parent


_started: list[Parent] = []
_held: list[FileLock] = []


def _hold(identity: str, cache_dir: Path) -> None:
    """Hold a sweep until this process ends: two must not write the same one.

    Raises
    ------
    TrackingError
        If another process has it.
    """
    folder = cache_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"sweep-{identity}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrackingError(
            "the same sweep is running already (another process holds "
            f"{lock.lock_file}); wait for it, or change something about this one"
        ) from error
    _held.append(lock)


def current(folder: Path) -> Parent | None:
    """The sweep this process started, or (in a launcher's worker) the one started in a sweep folder."""
    if _started:
        return _started[0]
    path = folder / _FILE
    return Parent(**json.loads(path.read_text())) if path.is_file() else None


def finish(config: DictConfig, parent: Parent, *, failed: bool) -> None:
    """Put the long table, read back from the child runs, and the scores on the parent run and end it."""
    if parent.run_id is None:
        return
    _started.clear()
    (Path(str(config.hydra.sweep.dir)) / _FILE).unlink(missing_ok=True)
    try:
        recorder = Recorder(parse_node("tracking", config.tracking))
        runtime: RuntimeConf = parse_node("runtime", config.runtime)
        rows = recorder.rows_of(parent.run_id)
        recorder.log_long_table(parent.run_id, rows)
        record_scores(recorder, parent.run_id, rows, Path(runtime.cache_dir).expanduser())
        recorder.finish(parent.run_id, failed=failed)
    except TrackingError as error:
        raise TrackingError(f"{error}. {KEPT}") from error
    finally:
        while _held:
            _held.pop().release()


def sweep_identity(config: DictConfig, jobs: Sequence[Sequence[str]]) -> str:
    """Identity of a sweep: its jobs, and the config they start from but for how and where they run."""
    base = {name: OmegaConf.to_container(config[name], resolve=True) for name in _NODES}
    about = re.compile(r"^[+~]*(runtime|tracking|hydra)\b")
    return fingerprint(base, sorted(sorted(o for o in job if not about.match(o)) for job in jobs))


def _short_name(config: DictConfig) -> str:
    experiment = config.hydra.runtime.choices.get("experiment")
    return str(experiment) if experiment else "sweep"
