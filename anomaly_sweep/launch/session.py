"""A sweep's parent run, shared by the processes of an ordinary Hydra launcher through the sweep's folder."""

from __future__ import annotations

import datetime
import json
import logging
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from anomaly_sweep.config import NODES, SUBSET, AnyConfiguration, RuntimeConf, TrackingConf, parse_node
from anomaly_sweep.errors import ConfigError, TrackingError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.folders import cache_folder, file_index, machine_folder
from anomaly_sweep.sweep.plan.planner import data_state
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.record.results import RESULTS, storage_notice
from anomaly_sweep.sweep.record.scores import record_scores
from anomaly_sweep.tracking.content import Rows
from anomaly_sweep.tracking.page import Launch, SweepPage
from anomaly_sweep.tracking.writer import Recorder
from anomaly_sweep.unwritable import is_unwritable, say_once

log = logging.getLogger(__name__)

_FILE = "sweep.json"
_FOLDER_LOCK = ".sweep.lock"
#: What a sweep starts from, but for how and where it runs.
_NODES = tuple(name for name in NODES if name not in ("tracking", "runtime"))


def start(
    config: DictConfig, jobs: Sequence[Sequence[str]], configurations: Sequence[AnyConfiguration]
) -> Parent:
    """The parent run of a sweep: a new one, or (``runtime.resume``) the one an earlier launch left.

    A launch is the same sweep when it has the same jobs on the same images: where they have changed it is
    another sweep, beside the earlier one, which a launch on the earlier images goes on with.

    Parameters
    ----------
    config : DictConfig
        Hydra's master config of the multirun. Its ``hydra.sweep.dir`` is changed where another sweep that is
        running has that folder.
    jobs : sequence of sequences of str
        The override list of each job.
    configurations : sequence of Configuration
        Theirs, as far as they are known: every data set has to be among them.

    Raises
    ------
    TrackingError
        If the tracking store cannot be reached or written, or the same sweep is running.
    ConfigError
        If the sweep's folder cannot be written.
    """
    tracking: TrackingConf = parse_node("tracking", config.tracking)
    runtime: RuntimeConf = parse_node("runtime", config.runtime)
    cache_dir = cache_folder(runtime)
    begun = time.monotonic()
    state = data_state(configurations, file_index(runtime))
    launched = sweep_identity(config, jobs)
    identity = fingerprint(launched, state)
    with ExitStack() as held:  # let go of if anything fails
        if runtime.resume:
            held.enter_context(_only_one(identity, cache_dir))
        folder = held.enter_context(_own_folder(config))
        recorder = Recorder(tracking)
        run_id = recorder.start_sweep(
            f"{_short_name(config)}-{datetime.datetime.now():%Y%m%d-%H%M%S}",
            identity,
            f"`{_command(config)}`",
            resume=runtime.resume,
            jobs=launched,
            state=state,
        )
        try:
            recorder.drop_unfinished(run_id)
            parent = Parent(recorder.sweep_name(run_id), run_id)
        except KeyboardInterrupt:
            recorder.kill(run_id)
            raise
        with _writing(folder):
            (folder / _FILE).write_text(json.dumps({"name": parent.name, "run_id": parent.run_id}))
        _started[:] = [(parent, held.pop_all())]
        _done.begin(begun)
    return parent


_started: list[tuple[Parent, ExitStack]] = []


@dataclass
class _Done:
    """What this process knows of the sweep it started: when, its rows by run, the trials it has computed."""

    begun: float = 0.0
    rows: dict[str, Rows] = field(default_factory=dict)
    computed: set[str] | None = None
    parent: Parent | None = None  # once it has ended

    def begin(self, now: float) -> None:
        """Another sweep: nothing is known of it."""
        self.begun, self.rows, self.computed, self.parent = now, {}, None, None


_done = _Done()


def keep(outcomes: Sequence[Outcome]) -> None:
    """Remember what became of configurations, so that it need not be read back."""
    for outcome in outcomes:
        if outcome.run_id is not None:
            _done.rows[outcome.run_id] = outcome.rows
        if _done.computed is None:
            _done.computed = set()
        _done.computed |= outcome.computed


def _command(config: DictConfig) -> str:
    return shlex.join(["anomaly-sweep", "-m", *map(str, config.hydra.overrides.task)])


def _launch(config: DictConfig) -> Launch:
    computed = None if _done.computed is None else len(_done.computed)
    seconds = time.monotonic() - _done.begun if _done.begun else None
    return Launch(_short_name(config), _command(config), seconds, computed)


@contextmanager
def _only_one(identity: str, cache_dir: Path) -> Iterator[None]:
    """Hold a sweep: two processes must not write the same one.

    Raises
    ------
    TrackingError
        If another process has it.
    """
    try:
        lock = _acquired(cache_dir / "locks", identity)
    except OSError as error:
        if not is_unwritable(error, cache_dir):
            raise
        say_once(cache_dir, error)
        lock = _acquired(machine_folder(), identity)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path, identity: str) -> BaseFileLock:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"sweep-{identity}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrackingError(
            "the same sweep is running already (another process holds "
            f"{lock.lock_file}); wait for it, or change something about this one"
        ) from error
    return lock


@contextmanager
def _own_folder(config: DictConfig) -> Iterator[Path]:
    """The sweep's folder, made, with the config in it; another one where a sweep that is running has it.

    Hydra names it by the second, and jobs find their sweep by it.
    """
    wanted = Path(str(config.hydra.sweep.dir))
    folder, number = wanted, 1
    while True:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / _FOLDER_LOCK, timeout=0)
            try:
                lock.acquire()
                break
            except Timeout:
                number += 1
                folder = wanted.with_name(f"{wanted.name}-{number}")
    try:
        if folder != wanted:
            log.warning("%s is the folder of a sweep that is running: this one's is %s", wanted, folder)
            quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
            with read_write(config), read_write(config.hydra), open_dict(config):
                config.hydra.sweep.dir = str(folder)
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        with _writing(folder):
            OmegaConf.save(config, folder / "multirun.yaml")
        yield folder
    finally:
        lock.release()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"hydra.sweep.dir={folder} cannot be written ({error.strerror or error}); make room, or set "
            "hydra.sweep.dir to a folder that can be"
        ) from error


def current(folder: Path) -> Parent | None:
    """The sweep this process started, or (in a launcher's worker) the one started in a sweep folder."""
    if _started:
        return _started[0][0]
    path = folder / _FILE
    return Parent(**json.loads(path.read_text())) if path.is_file() else None


def ended() -> Parent | None:
    """The sweep that this process started last, once it has ended and is recorded."""
    return _done.parent


def finish(config: DictConfig, parent: Parent, *, failed: bool) -> None:
    """Put the long table, the scores and what its page shows on the parent run, and end it."""
    with ExitStack() as held:
        for _, own in _started:
            held.push(own)
        _started.clear()
        if parent.run_id is None:
            return
        (Path(str(config.hydra.sweep.dir)) / _FILE).unlink(missing_ok=True)
        cache_dir = cache_folder(parse_node("runtime", config.runtime))
        try:
            recorder = Recorder(parse_node("tracking", config.tracking))
            rows = recorder.rows_of(parent.run_id, _done.rows)
            recorder.log_long_table(parent.run_id, rows)
            record_scores(recorder, parent.run_id, rows, cache_dir)
            if rows:  # params stay as they are first written
                recorder.log_page(parent.run_id, SweepPage(parent.name, rows, _launch(config)))
            recorder.finish(parent.run_id, failed=failed)
            _done.parent = parent
        except TrackingError as error:
            raise TrackingError(f"{error}. {storage_notice(cache_dir / RESULTS)}") from error


def interrupt(config: DictConfig, parent: Parent) -> None:
    """End a sweep's parent run as killed, at once: launching the same sweep again goes on with it."""
    with ExitStack() as held:
        for _, own in _started:
            held.push(own)
        _started.clear()
        (Path(str(config.hydra.sweep.dir)) / _FILE).unlink(missing_ok=True)
        try:
            if parent.run_id is not None:
                recorder = Recorder(parse_node("tracking", config.tracking))
                recorder.kill(parent.run_id)
                recorder.drop_unfinished(parent.run_id)
        except TrackingError as error:
            log.warning("the sweep's run could not be ended: %s", error)


def sweep_identity(config: DictConfig, jobs: Sequence[Sequence[str]]) -> str:
    """Identity of a sweep: its jobs, and the config they start from but for how and where they run."""
    base = {name: _settled(config[name]) for name in _NODES}
    if isinstance(base["dataset"], dict):  # as before there were these keys, where they say nothing
        base["dataset"] = {k: v for k, v in base["dataset"].items() if k not in SUBSET or v != SUBSET[k]}
    run_option = re.compile(r"^[+~]*(runtime|tracking|hydra)\b")
    return fingerprint(base, sorted(sorted(o for o in job if not run_option.match(o)) for job in jobs))


def _settled(node: DictConfig) -> Any:
    """A node's values; as they are written where only a job can resolve them (``${hydra:job.num}``)."""
    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(node, resolve=False)


def _short_name(config: DictConfig) -> str:
    experiment = config.hydra.runtime.choices.get("experiment")
    return str(experiment) if experiment else "sweep"
