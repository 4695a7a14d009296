"""What MLflow holds of the sweeps: one frame of trials and when each run ended. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.reader import Reader
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.connection import connect, experiment_ids
from multirun_analysis.trials.run_info import Origin, RunEnd
from multirun_analysis.trials.tasks import name_of

FINISHED = "FINISHED"
RUNNING = "RUNNING"
TABLE_ERRORS = (OSError, ValueError, MlflowException)


@dataclass
class StoreReading:
    """Rows as they were recorded, the end of each run by its id, and what is worth telling the user.

    ``origins`` are the parent runs of the sweeps that rows are of.
    """

    rows: pd.DataFrame
    ends: dict[str, RunEnd]
    notes: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)


def read_store(
    tracking_uri: str,
    *,
    experiment: str | None = None,
    sweep: str | None = None,
    latest: bool = False,
    task: str | None = None,
) -> StoreReading:
    """Read the rows of every configuration run.

    Parameters
    ----------
    tracking_uri
        MLflow tracking URI.
    experiment
        Name of the experiment; all of them when None.
    sweep
        Name of the sweep; all of them when None.
    latest
        Read only the sweep that was launched last. Not together with ``sweep``.
    task
        The latest of those with trials of this task, if there is one.
    """
    reader = connect(tracking_uri)
    ids = experiment_ids(reader, experiment)
    parents = list(search(reader, ids, names.KIND_SWEEP))
    notes: list[str] = []
    if latest:
        sweep = _latest(parents, task)
        others = {name for name in map(_sweep_name, parents) if name} - {sweep}
        if sweep is not None and others:
            notes.append(
                f"sweep {sweep!r}, the latest of {len(others) + 1} "
                "(--sweep NAME for another, --sweep all for all of them)"
            )
        if sweep is not None:
            notes += _single_runs_left_out(reader, ids, max(_launched(run) for run in parents))
    children = [run for run in search(reader, ids, names.KIND_CONFIGURATION, sweep) if _belongs(run, sweep)]
    if sweep is not None:
        known = {name for name in map(_sweep_name, parents) if name}
        if sweep not in known and not children:
            raise _unknown_sweep(tracking_uri, sweep, known)
        parents = [run for run in parents if _belongs(run, sweep)]
    ended = {_sweep_name(run) for run in parents if run.info.status != RUNNING}
    notes += [
        f"sweep {name!r} has not ended (it is running, or was killed): what it has recorded so far is read"
        for name in sorted({str(_sweep_name(run)) for run in parents if _sweep_name(run) not in ended})
    ]
    frames = _parent_tables(reader, parents, {run.info.run_id for run in children}, notes)
    covered = {run_id for frame in frames for run_id in frame["run_id"].dropna().unique()}
    rest = [run for run in children if run.info.run_id not in covered]
    frames.append(_child_rows(reader, rest, notes))
    filled = [frame for frame in frames if len(frame)]
    rows = pd.concat(filled, ignore_index=True) if filled else frames[-1]
    launched = {str(run.info.run_id): _launched(run) for run in parents}
    ends = {run.info.run_id: _end(run, launched) for run in children}
    recorded = set(rows["sweep"].dropna()) if len(rows) else set()
    return StoreReading(rows, ends, notes, [_origin(run) for run in parents if _sweep_name(run) in recorded])


def search(reader: Reader, ids: list[str], kind: str, sweep: str | None = None) -> Iterator[Run]:
    """All active runs of one kind, page by page; of one sweep where its name can stand in a filter."""
    query = f"tags.`{names.TAG_KIND}` = '{kind}'"
    if sweep is not None and "'" not in sweep:
        query += f" and tags.`{names.TAG_SWEEP}` = '{sweep}'"
    return reader.runs(ids, query)


def _single_runs_left_out(reader: Reader, ids: list[str], since: int) -> list[str]:
    """What is said of configurations that were run on their own, where one sweep is read."""
    query = f"tags.`{names.TAG_KIND}` = '{names.KIND_CONFIGURATION}'"
    try:
        found = list(reader.runs(ids, f"{query} and tags.`{names.TAG_PARENT}` IS NULL"))
    except TrackingError:  # a server whose filters do not know of missing tags
        found = [run for run in reader.runs(ids, query) if names.TAG_PARENT not in run.data.tags]
    if not found:
        return []
    later = sum(int(run.info.start_time) > since for run in found)
    newer = f", {later} of them later than it," if later else ""
    return [
        f"{len(found)} single run{'' if len(found) == 1 else 's'}{newer} left out: a sweep is read by itself "
        "(--sweep all reads single runs too)"
    ]


def _sweep_name(run: Run) -> str | None:
    name: str | None = run.data.tags.get(names.TAG_SWEEP)
    return name


def _origin(run: Run) -> Origin:
    tags = run.data.tags
    version = tags.get(names.TAG_VERSION, "version not recorded")
    parts = [f"anomaly_sweep {version}", tags.get(names.TAG_VERSIONS), tags.get(names.TAG_GIT)]
    if tags.get(names.TAG_GIT_DIRTY) == "true":
        parts.append("with changes that are not committed")
    return Origin(str(_sweep_name(run)), str(run.info.run_id), ", ".join(filter(None, parts)))


def _belongs(run: Run, sweep: str | None) -> bool:
    return sweep is None or _sweep_name(run) == sweep


def _latest(parents: list[Run], task: str | None) -> str | None:
    named = [run for run in parents if _sweep_name(run)]
    named = [run for run in named if task is None or task in _tasks(run)] or named
    return _sweep_name(max(named, key=_launched)) if named else None


def _tasks(run: Run) -> list[str]:
    """The tasks of a sweep that has ended, from its parent run's param."""
    return [name_of(label) for label in run.data.params.get("task", "").split(", ")]


def _launched(run: Run) -> int:
    """When a sweep was launched last: it may have found everything known, and have changed nothing else."""
    return int(run.data.tags.get(names.TAG_LAUNCHED) or run.info.start_time or 0)


def _unknown_sweep(uri: str, sweep: str, known: set[str]) -> AnalysisError:
    available = f"it has: {', '.join(sorted(known))}" if known else "it has no sweep"
    return AnalysisError(f"{uri} has no sweep named {sweep!r}; {available}")


def _end(run: Run, launched: Mapping[str, int]) -> RunEnd:
    time = int(run.info.end_time or run.info.start_time or 0)
    parent = run.data.tags.get(names.TAG_PARENT)
    return RunEnd(run.info.status == FINISHED, time, launched.get(str(parent), time))


def _parent_tables(
    reader: Reader, parents: list[Run], active: set[str], notes: list[str]
) -> list[pd.DataFrame]:
    """Long tables of the finished sweeps, without the rows of runs that were deleted since."""
    frames = []
    for run in parents:
        if run.info.status != FINISHED:
            continue
        try:
            with reader.artifact(run, names.LONG_TABLE) as path:
                frame = pd.read_parquet(path)
        except TABLE_ERRORS:
            continue  # its children hold the same rows
        if "run_id" not in frame:
            continue
        elsewhere = set(frame["run_id"].dropna()) - active
        here = ~frame["run_id"].isin({run_id for run_id in elsewhere if _is_gone(reader.client, run_id)})
        if not here.all():
            notes.append(f"sweep {_sweep_name(run)!r}: {int((~here).sum())} trials of deleted runs left out")
        frames.append(frame[here])
    return frames


def _is_gone(client: MlflowClient, run_id: str) -> bool:
    """Whether a run was deleted; a resumed sweep's table may hold runs of an earlier one, still there."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED)
    except MlflowException:
        return True


def _child_rows(reader: Reader, children: list[Run], notes: list[str]) -> pd.DataFrame:
    """Rows of the runs' own tables; of their params and metrics where a run has no readable table."""
    rows: list[dict[str, Any]] = []
    without = 0
    for run in children:
        try:
            with reader.artifact(run, names.PER_CLASS_TABLE) as path:
                table = json.loads(path.read_text(encoding="utf-8"))
            if not (isinstance(table, list) and all(isinstance(row, dict) for row in table)):
                raise ValueError("not a list of rows")
            rows += [row | {"run_id": run.info.run_id} for row in table]
        except TABLE_ERRORS:
            without += 1
            rows += _rows_of_metrics(run)
    if without:
        notes.append(
            f"{without} of {len(children)} runs have no readable {names.PER_CLASS_TABLE}: "
            "their values were read from the runs' metrics"
        )
    return pd.DataFrame(rows, columns=names.columns_of(rows))


def _rows_of_metrics(run: Run) -> list[dict[str, Any]]:
    """A row for each category that has a metric, with its metrics and the run's params."""
    recorded = (*names.GROUPS, *names.LOCALIZATION_GROUPS, *names.CONTEXT_PARAMS, "root")
    params = {name: run.data.params.get(name) for name in recorded}
    common = {"sweep": _sweep_name(run), "run_id": run.info.run_id, "status": names.STATUS_OK, "reason": ""}
    values: dict[str, dict[str, float]] = {}
    for column, prefix in names.PREFIXES.items():
        for name, value in run.data.metrics.items():
            if name.startswith(prefix) and name != prefix + names.MEAN:
                values.setdefault(name.removeprefix(prefix), {})[column] = value
    return [common | params | {"category": category} | values[category] for category in sorted(values)]
