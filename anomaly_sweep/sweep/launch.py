"""The bodies of the Hydra plugins and of the task function."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.config import parse
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.sweep import grids, session
from anomaly_sweep.sweep.compose import compose_all, configurations_of

if TYPE_CHECKING:
    from anomaly_sweep.sweep.run import Outcome

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


def run_job(cfg: DictConfig) -> float:
    """One configuration: Hydra's task function, under any launcher. Returns its mean AUC.

    Raises
    ------
    SweepFailedError
        If a trial failed (after everything has been recorded), or nothing could be done.
    """
    from anomaly_sweep.sweep.run import Parent, run_configurations
    from anomaly_sweep.sweep.show import show_outcome

    hydra = HydraConfig.get()
    try:
        configuration, tracking, runtime = parse(cfg)
        parent = None
        if hydra.mode == RunMode.MULTIRUN:
            parent = session.of_folder(Path(hydra.sweep.dir))
        (outcome,) = run_configurations(
            [configuration], tracking, runtime, parent or Parent(Path(hydra.runtime.output_dir).name)
        )
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    if hydra.mode == RunMode.RUN:
        show_outcome(outcome)
    if outcome.mean_auc is None:
        raise _failed(outcome)
    return outcome.mean_auc


def launch_grid(
    config: DictConfig, loader: ConfigLoader, job_overrides: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """All jobs of a sweep as one computation."""
    from anomaly_sweep.sweep.run import Parent, run_configurations

    folder = Path(str(config.hydra.sweep.dir))
    try:
        jobs = compose_all(job_overrides, lambda overrides: loader.load_sweep_config(config, overrides))
        parent = session.of_folder(folder) or session.start(config, job_overrides)
        outcomes = run_configurations(
            configurations_of(jobs),
            jobs[0]["tracking"],
            jobs[0]["runtime"],
            Parent(parent.name, parent.run_id),
        )
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    returns = []
    for overrides, outcome in zip(job_overrides, outcomes, strict=True):
        job = JobReturn()
        job.overrides, job.working_dir, job.task_name = list(overrides), str(folder), config.hydra.job.name
        if outcome.mean_auc is None:
            job.status = JobStatus.FAILED
            job.return_value = _failed(outcome)
        else:
            job.status = JobStatus.COMPLETED
            job.return_value = outcome.mean_auc
        returns.append(job)
    return returns


def sweep_grid(
    config: DictConfig,
    launcher: Launcher,
    loader: ConfigLoader,
    *,
    grids_: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    arguments: Sequence[str],
    max_batch_size: int | None,
) -> list[Sequence[JobReturn]]:
    """Expand a union of grids, launch it, and finish the sweep's parent run whatever happened.

    Raises
    ------
    SweepFailedError
        If a trial failed: after all others are done and recorded.
    """
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    try:
        jobs = grids.expand(grids_, params, arguments, OverridesParser.create(config_loader=loader))
        parent = session.start(config, jobs)
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    returns: list[Sequence[JobReturn]] = []
    failed = True
    try:
        step = max_batch_size or len(jobs)
        for start in range(0, len(jobs), step):
            returns.append(launcher.launch(jobs[start : start + step], initial_job_idx=start))
        bad = [job for batch in returns for job in batch if job.status != JobStatus.COMPLETED]
        failed = bool(bad)
    finally:
        session.finish(config, parent, failed=failed)
    log.info("sweep %s: %d configurations, %d with failures", parent.name, len(jobs), len(bad))
    if bad:
        reasons = [reason for job in bad for reason in _reasons(job)]
        raise SweepFailedError(
            f"{len(bad)} of {len(jobs)} configurations have failed trials; everything else is recorded. Launching the "
            f"same sweep again does only what failed.\n{_grouped(reasons)}",
            reasons,
        )
    return returns


def _failed(outcome: Outcome) -> SweepFailedError:
    failures = outcome.failures
    return SweepFailedError(
        f"{len(failures)} of {len(outcome.rows)} trials failed:\n{_grouped(failures)}", failures
    )


def _reasons(job: JobReturn) -> Sequence[str]:
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
