"""The bodies of the Hydra plugins and of the task function."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig

from anomaly_sweep import logs, terminal
from anomaly_sweep.config import (
    AnyConfiguration,
    RuntimeConf,
    TrackingConf,
    anchored_configuration,
    anchored_runtime,
    anchored_tracking,
    in_range,
)
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.launch import session
from anomaly_sweep.launch.callbacks import call_for_each
from anomaly_sweep.launch.compose import Composer, configurations_of, possible
from anomaly_sweep.launch.experiments import expand_all
from anomaly_sweep.launch.hydra_state import answering
from anomaly_sweep.launch.summary import Candidate, summary
from anomaly_sweep.tasks import parse

if TYPE_CHECKING:
    from anomaly_sweep.sweep.record.recording import Outcome, Parent

log = logging.getLogger(__name__)

_SHOWN = 10


class SweepFailedError(CompactHydraException):
    """Some trials failed. Hydra prints it without a stack trace and exits with a non-zero code.

    Attributes
    ----------
    reasons : tuple of str
        ``category: reason`` of each failed trial.
    """

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(message, tuple(reasons))  # both in args, so that it survives pickling
        self.message = message
        self.reasons = tuple(reasons)

    def __str__(self) -> str:
        return self.message


def run_job(cfg: DictConfig) -> float | tuple[float, ...]:
    """One configuration: Hydra's task function, under any launcher.

    Returns
    -------
    float or tuple of float
        What ``runtime.objectives`` asks for: the mean AUC, or as many numbers as it names.

    Raises
    ------
    SweepFailedError
        If a trial failed (after everything has been recorded), or nothing could be done.
    """
    hydra = HydraConfig.get()
    with terminal.busy("loading"):
        from anomaly_sweep.launch.show import show_outcome
        from anomaly_sweep.sweep.record.recording import Parent
        from anomaly_sweep.sweep.run.configurations import describe_configurations, run_configurations
    logs.calm()
    try:
        configuration, tracking, runtime = parse(cfg)
        launched = Path(str(hydra.runtime.cwd))
        if Path.cwd() != launched:  # hydra.job.chdir
            configuration = anchored_configuration(configuration, launched)
            tracking = anchored_tracking(tracking, launched)
            runtime = anchored_runtime(runtime, launched)
        if runtime.plan_only:
            terminal.say(describe_configurations([configuration], runtime))
            return float("nan")
        parent = None
        if hydra.mode == RunMode.RUN:
            logs.log_start()
        if hydra.mode == RunMode.MULTIRUN:
            parent = session.current(launched / str(hydra.sweep.dir))
        (outcome,) = run_configurations(
            [configuration], tracking, runtime, parent or Parent(Path(hydra.runtime.output_dir).name)
        )
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    if hydra.mode == RunMode.RUN:
        show_outcome(outcome)
    return _objectives(outcome, runtime)


def launch_grid(
    config: DictConfig,
    composer: Composer,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    callbacks: Callbacks,
    task_function: TaskFunction,
) -> list[JobReturn]:
    """All jobs of a sweep as one computation.

    Under a sweeper that starts no parent run (Hydra's own), each call is a sweep of its own.

    Parameters
    ----------
    first : int
        The first job's number.
    """
    with terminal.busy("loading"):
        from anomaly_sweep.sweep.run.configurations import run_configurations

    if not job_overrides:
        return []
    try:
        with answering(config):
            jobs = composer.jobs(job_overrides, first)
            _same_for_all(jobs)
            runtime: RuntimeConf = jobs[0]["runtime"]
            tracking: TrackingConf = jobs[0]["tracking"]
            different, place = _different(jobs)
            configurations = configurations_of(different)
            parent = session.current(Path(str(config.hydra.sweep.dir)))
            if parent is not None:
                outcomes = run_configurations(configurations, tracking, runtime, parent)
                session.keep(outcomes)
            else:
                with open_sweep(config, job_overrides, configurations) as sweep:
                    outcomes = run_configurations(configurations, tracking, runtime, sweep.parent)
                    session.keep(outcomes)
                    sweep.failed = any(outcome.mean_auc is None for outcome in outcomes)
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    returns = []
    for overrides, index in zip(job_overrides, place, strict=True):
        job = JobReturn()
        job.overrides, job.task_name = list(overrides), config.hydra.job.name
        job.working_dir = str(Path.cwd())
        try:
            job.return_value, job.status = _objectives(outcomes[index], runtime), JobStatus.COMPLETED
        except SweepFailedError as error:
            job.return_value, job.status = error, JobStatus.FAILED
        returns.append(job)
    call_for_each(callbacks, task_function, composer, returns, first)
    return returns


def _different(jobs: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """The jobs that are not the same configuration in other words, and each job's place among them."""
    prints: dict[int, str] = {}
    for node in (node for job in jobs for node in job.values()):
        if id(node) not in prints:  # jobs share their nodes
            prints[id(node)] = fingerprint(node)
    places: dict[tuple[str, ...], int] = {}
    different: list[dict[str, Any]] = []
    place = []
    for job in jobs:
        key = tuple(prints[id(node)] for node in job.values())
        if key not in places:
            places[key] = len(different)
            different.append(job)
        place.append(places[key])
    return different, place


def _same_for_all(jobs: Sequence[Mapping[str, Any]]) -> None:
    """How a sweep runs and where it is recorded is one choice for all its jobs."""
    for name in ("tracking", "runtime"):
        for job in jobs:
            if job[name] is not jobs[0][name] and job[name] != jobs[0][name]:
                raise ConfigError(
                    f"{name} differs between jobs, but hydra/launcher=grid runs them together; give {name}.* "
                    "one value, or use hydra/launcher=basic"
                )


def composer_of(config: DictConfig, launcher: Launcher, loader: ConfigLoader) -> Composer:
    """The launcher's composer where it has one, so that nothing is composed twice."""
    own = getattr(launcher, "composer", None)
    if isinstance(own, Composer):
        return own
    return Composer(lambda overrides: loader.load_sweep_config(config, overrides))


def check_all(nodes: Sequence[dict[str, Any]]) -> None:
    """What is wrong between nodes, or with the arguments of an open node, told before anything starts."""
    from anomaly_sweep.sweep.plan.checks import check_objectives, check_settings, check_told_apart

    configurations = configurations_of(nodes)
    check_settings(configurations)
    check_objectives(configurations, nodes[0]["runtime"])
    check_told_apart(configurations)


def describe_sweep(nodes: Sequence[dict[str, Any]]) -> str:
    """The plan of a sweep in words (``runtime.plan_only``)."""
    from anomaly_sweep.sweep.run.configurations import describe_configurations

    return describe_configurations(configurations_of(nodes), nodes[0]["runtime"])


@dataclass
class OpenSweep:
    """A sweep in progress: its parent run and what has failed so far."""

    parent: Parent
    bad: list[JobReturn] = field(default_factory=list)
    failed: bool = True

    def add(self, returns: Sequence[JobReturn]) -> None:
        """Count what a launcher returned."""
        self.bad.extend(job for job in returns if job.status != JobStatus.COMPLETED)

    def check(self, total: int) -> None:
        """Raise SweepFailedError if a job failed."""
        if self.bad:
            reasons = [reason for job in self.bad for reason in failure_reasons(job)]
            raise SweepFailedError(
                f"{len(self.bad)} of {total} configurations have failed trials; everything else is recorded. "
                f"Launching the same sweep again does only what failed.\n{_grouped(reasons)}",
                reasons,
            )


@contextmanager
def open_sweep(
    config: DictConfig, jobs: Sequence[Sequence[str]], configurations: Sequence[AnyConfiguration]
) -> Iterator[OpenSweep]:
    """A sweep's parent run and folder; the run is ended whatever happens (as killed, when interrupted).

    Parameters
    ----------
    jobs : sequence of sequences of str
        What identifies the sweep beside the config it starts from (see ``session.start``).
    configurations : sequence of Configuration
        Those of the jobs, or some with every data set among them.
    """
    with terminal.busy("opening the tracking store"):
        sweep = OpenSweep(session.start(config, jobs, configurations))
    try:
        logs.log_into(Path(str(config.hydra.sweep.dir)), config)
        logs.log_start()
        try:
            yield sweep
        except Exception:
            session.finish(config, sweep.parent, failed=True)
            raise
        with terminal.busy("recording the tables"):
            session.finish(config, sweep.parent, failed=sweep.failed)
    except KeyboardInterrupt:
        session.interrupt(config, sweep.parent)
        raise


@contextmanager
def ending_callbacks(callbacks: Callbacks, config: DictConfig) -> Iterator[None]:
    """``on_multirun_end`` for a sweep that is over although trials failed: Hydra leaves it out then."""
    try:
        yield
    except SweepFailedError as error:
        if error.reasons:
            callbacks.on_multirun_end(config=config)
        raise


def sweep_grid(
    config: DictConfig,
    launcher: Launcher,
    loader: ConfigLoader,
    *,
    grids: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    arguments: Sequence[str],
    max_batch_size: int = -1,
) -> list[Sequence[JobReturn]]:
    """Expand a union of grids, launch it, and finish the sweep's parent run whatever happened.

    Parameters
    ----------
    max_batch_size : int
        Jobs handed to the launcher at once; -1 for all.

    Raises
    ------
    SweepFailedError
        If a trial failed: after all others are done and recorded.
    """
    try:
        if max_batch_size != -1:  # all
            in_range("hydra.sweeper.max_batch_size", max_batch_size, 1)
        jobs = expand_all(config, loader, arguments, grids, params)
        # Composed before anything starts, so that a wrong value leaves nothing behind.
        with terminal.busy(f"composing {len(jobs)} configurations"):
            nodes = composer_of(config, launcher, loader).jobs(jobs)
        jobs, nodes = possible(jobs, nodes, arguments)
        nodes, place = _different(nodes)
        first = dict(zip(reversed(place), reversed(jobs), strict=True))
        jobs = [first[index] for index in range(len(nodes))]
        if config.runtime.plan_only:
            terminal.say(describe_sweep(nodes))
            return []
        check_all(nodes)
        if hasattr(launcher, "composer"):
            _same_for_all(nodes)
        returns: list[Sequence[JobReturn]] = []
        with open_sweep(config, jobs, configurations_of(nodes)) as sweep:
            step = len(jobs) if max_batch_size == -1 else max_batch_size
            for start in range(0, len(jobs), step):
                returns.append(launcher.launch(jobs[start : start + step], initial_job_idx=start))
                logs.log_into(Path(str(config.hydra.sweep.dir)), config)  # Hydra's launchers log elsewhere
                sweep.add(returns[-1])
            sweep.failed = bool(sweep.bad)
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    done = [job for batch in returns for job in batch]
    good = [index for index, job in enumerate(done) if job.status == JobStatus.COMPLETED]
    show_summary(
        sweep,
        nodes[0]["tracking"],
        [nodes[index] for index in good],
        [jobs[index] for index in good],
        [_first(done[index].return_value) for index in good],
        failed=len(done) - len(good),
        objective=nodes[0]["runtime"].objectives[0],
    )
    log.info("sweep %s: %d configurations, %d with failures", sweep.parent.name, len(jobs), len(sweep.bad))
    sweep.check(len(jobs))
    return returns


def _first(value: Any) -> float:
    """The first objective of a job."""
    return float(value[0] if isinstance(value, Sequence) else value)


def show_summary(
    sweep: OpenSweep,
    tracking: TrackingConf,
    nodes: Sequence[dict[str, Any]],
    jobs: Sequence[Sequence[str]],
    values: Sequence[float],
    *,
    failed: int,
    objective: str,
) -> None:
    """What a sweep ends with, on the terminal and in its log.

    Parameters
    ----------
    nodes, jobs, values
        Of each configuration that did not fail, in any order: its nodes, its overrides, its objective.
    failed : int
        How many did.
    """
    found = [
        Candidate(configuration, job, value)
        for configuration, job, value in zip(configurations_of(nodes), jobs, values, strict=True)
    ]

    def text(width: int) -> str:
        return summary(
            found,
            objective=objective,
            failed=failed,
            lost=sum(len(failure_reasons(job)) for job in sweep.bad),
            sweep=sweep.parent.name,
            tracking=tracking,
            log_file=logs.log_file(),
            width=width,
        )

    log.info("summary:\n%s", text(terminal.UNLIMITED), extra=logs.FILE_ONLY)
    terminal.say(text(terminal.columns()))


def _objectives(outcome: Outcome, runtime: RuntimeConf) -> float | tuple[float, ...]:
    """What a sweeper wants to know of an outcome; SweepFailedError if there is no mean AUC."""
    values = [outcome.objective(name) for name in runtime.objectives]
    if outcome.mean_auc is None or None in values:
        raise _failed(outcome)
    return values[0] if len(values) == 1 else tuple(values)  # type: ignore[arg-type,return-value]


def _failed(outcome: Outcome) -> SweepFailedError:
    failures = outcome.failures
    return SweepFailedError(
        f"{len(failures)} of {len(outcome.rows)} trials failed:\n{_grouped(failures)}", failures
    )


def failure_reasons(job: JobReturn) -> Sequence[str]:
    """Why a job failed: ``where: reason`` for each of its failed trials."""
    error = job._return_value
    if isinstance(error, SweepFailedError) and error.reasons:
        return error.reasons
    return [f"{' '.join(job.overrides or ())}: {error}"]


def _grouped(failures: Sequence[str]) -> str:
    """One line a distinct reason: how often, where, why."""
    where: dict[str, list[str]] = {}
    for failure in failures:
        place, _, reason = failure.partition(": ")
        where.setdefault(reason, []).append(place)
    lines = []
    for reason, places in sorted(where.items(), key=lambda item: -len(item[1]))[:_SHOWN]:
        distinct = list(dict.fromkeys(places))
        more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
        lines.append(f"  {len(places)} x {', '.join(distinct[:3])}{more}: {reason}")
    if len(where) > _SHOWN:
        lines.append(f"  and {len(where) - _SHOWN} other reasons")
    return "\n".join(lines)
