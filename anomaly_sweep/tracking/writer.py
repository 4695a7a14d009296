"""The single writer of a sweep's runs."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.errors import MissingArtifactError, TrackingError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.artifacts import as_json, local_artifacts, put_file, put_text
from anomaly_sweep.tracking.content import ConfigurationRun, Rows, UsedData, common_tags, used_data
from anomaly_sweep.tracking.page import SweepPage, varying
from anomaly_sweep.tracking.reader import Reader
from anomaly_sweep.tracking.scores import ImageScores, write_scores
from anomaly_sweep.tracking.state import State, changed, in_words
from anomaly_sweep.tracking.store import open_client, retrying, timestamp
from anomaly_sweep.tracking.view import COLUMNS, USUAL, VIEW_TAG, saved_view

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

#: Metrics a call, MLflow's limit.
_METRICS = 1000
#: Digits of a data set's digest, of at most 36.
_DIGEST = 12

log = logging.getLogger(__name__)


class Recorder:
    """Writes sweep and configuration runs.

    Parameters
    ----------
    tracking : TrackingConf

    Raises
    ------
    TrackingError
        If the store cannot be reached or written (here, and in every method).
    """

    def __init__(self, tracking: TrackingConf) -> None:
        self.tracking = tracking
        self.client, experiment = open_client(tracking)
        self.reader = Reader(self.client, tracking.uri)
        self.experiment = str(experiment.experiment_id)
        self._uris: dict[str, str] = {}  # run id -> where its artifacts are
        self._half_written: list[str] = []  # runs to take back once the store answers

    def start_sweep(
        self,
        name: str,
        identity: str,
        note: str,
        *,
        resume: bool,
        jobs: str = "",
        state: State | None = None,
    ) -> str:
        """The sweep's parent run: the latest one of the same identity when resuming, else a new one.

        Parameters
        ----------
        name : str
            Of a new one. One that another sweep has gets the run's first digits.
        identity : str
            Of the jobs and the state of their data.
        jobs : str
            Identity of the jobs alone.
        state : State
            Of the data, kept with the run (``names.DATA_STATE``).
        """
        sweeps = self._search(f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}'")
        # Later than every other one, whatever the clock says: tables take what was launched last.
        launched = str(max([timestamp(), *(_launched(run) + 1 for run in sweeps)]))
        earlier = [run for run in sweeps if run.data.tags.get(names.TAG_FINGERPRINT) == identity]
        if resume and earlier:
            run_id = str(earlier[0].info.run_id)
            retrying(lambda: self.client.set_tag(run_id, names.TAG_LAUNCHED, launched), self.tracking.uri)
            retrying(lambda: self.client.update_run(run_id, status="RUNNING"), self.tracking.uri)
            return run_id
        self._tell_changed(jobs, state or {}, sweeps)
        tags = {
            **common_tags(),
            names.TAG_KIND: names.KIND_SWEEP,
            names.TAG_SWEEP: name,
            names.TAG_FINGERPRINT: identity,
            names.TAG_JOBS: jobs,
            names.TAG_LAUNCHED: launched,
            names.TAG_NOTE: note,
        }
        run_id = self._create(name, tags)
        self._make_name_unique(run_id, name)
        if state:
            self.log_json(run_id, names.DATA_STATE, state)
        return run_id

    def _make_name_unique(self, run_id: str, name: str) -> None:
        """Sweeps are told apart by their names, which hold the second they began in."""
        same = self._search(
            f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}' and tags.`{names.TAG_SWEEP}` = '{name}'"
        )
        if len(same) > 1:
            own = f"{name}-{run_id[:6]}"
            retrying(lambda: self.client.set_tag(run_id, names.TAG_SWEEP, own), self.tracking.uri)
            retrying(lambda: self.client.update_run(run_id, name=own), self.tracking.uri)

    def _tell_changed(self, jobs: str, state: State, sweeps: Sequence[Run]) -> None:
        """Say that the same jobs were run before on other data."""
        before = [run for run in sweeps if jobs and run.data.tags.get(names.TAG_JOBS) == jobs]
        if not before:
            return
        last = max(before, key=_launched)
        try:
            then = json.loads(self._read_text(str(last.info.run_id), names.DATA_STATE))
        except (OSError, ValueError, TrackingError):
            then = {}
        differs = changed(then, state)
        if differs:
            log.warning(
                "the data has changed since sweep %s (%s): this is recorded as a sweep of its own, and that "
                "one stays as it is",
                last.data.tags.get(names.TAG_SWEEP),
                in_words(differs),
            )

    def sweep_name(self, run_id: str) -> str:
        """The name of a sweep's parent run."""
        run = retrying(lambda: self.client.get_run(run_id), self.tracking.uri)
        return str(run.data.tags[names.TAG_SWEEP])

    def recorded(self, parent: str) -> dict[str, tuple[str, str]]:
        """Configuration fingerprint -> (run id, status) of a sweep's child runs that were ended."""
        return _ended(self._search(f"tags.`{names.TAG_PARENT}` = '{parent}'"))

    def recorded_alone(self, name: str) -> dict[str, tuple[str, str]]:
        """The same of runs without a parent, which have but the name in common."""
        query = f"tags.`{names.TAG_KIND}` = '{names.KIND_CONFIGURATION}'"
        runs = self._search(query if "'" in name else f"{query} and tags.`{names.TAG_SWEEP}` = '{name}'")
        return _ended(
            run
            for run in runs
            if run.data.tags.get(names.TAG_SWEEP) == name and names.TAG_PARENT not in run.data.tags
        )

    def drop_unfinished(self, parent: str) -> None:
        """Take back child runs that a killed process had begun to write."""
        for run in self._search(f"tags.`{names.TAG_PARENT}` = '{parent}' and attributes.status = 'RUNNING'"):
            self.drop(str(run.info.run_id))

    def drop(self, run_id: str) -> None:
        """Take back a run that is being replaced (MLflow keeps it as deleted)."""
        retrying(lambda: self.client.delete_run(run_id), self.tracking.uri)

    def record(self, runs: Iterable[ConfigurationRun]) -> Iterator[tuple[int, str]]:
        """Write each configuration as one run, yielding its position and run id as soon as it is final."""
        self._drop_half_written()
        for position, run in enumerate(runs):
            if run.replaces is not None:
                self.drop(run.replaces)
            yield position, self.record_configuration(run)

    def record_configuration(self, run: ConfigurationRun) -> str:
        """Write one configuration. It is ended last: one left running is not whole.

        If that fails it is taken back, at once or when ``record`` is called again.
        """
        from mlflow.entities import Metric, Param

        begun, now = _span(run)
        run_id = self._create(run.name, run.tags, begun)
        try:
            metrics = [Metric(key, value, now, 0) for key, value in run.metrics.items()]
            params = [Param(key, value) for key, value in run.params.items()]
            self._log_artifacts(run_id, run)
            retrying(lambda: self.client.log_batch(run_id, metrics=metrics, params=params), self.tracking.uri)
            self._log_data(run_id, run.rows)
            self._end(run_id, run.status, now)
        except (TrackingError, KeyboardInterrupt):
            self._half_written.append(run_id)
            with suppress(TrackingError):
                self._drop_half_written()
            raise
        return run_id

    def _drop_half_written(self) -> None:
        while self._half_written:
            self.drop(self._half_written[-1])
            self._half_written.pop()

    def _log_artifacts(self, run_id: str, run: ConfigurationRun) -> None:
        for row in run.rows:
            row["run_id"] = run_id
        self.log_json(run_id, names.PER_CLASS_TABLE, run.rows)
        self.log_json(run_id, "config.json", run.config)
        for name, path in run.files.items():
            self._log_file(run_id, name, path)

    def _log_data(self, run_id: str, rows: Rows) -> None:
        """The data sets of a run, which the UI's Datasets column shows."""
        inputs = [_dataset_input(data) for data in used_data(rows)]
        retrying(lambda: self.client.log_inputs(run_id, inputs), self.tracking.uri)

    def log_page(self, run_id: str, page: SweepPage) -> None:
        """What a sweep's parent run shows. Params that it has already stay: MLflow never changes one."""
        from mlflow.entities import Metric, Param, RunTag

        run = retrying(lambda: self.client.get_run(run_id), self.tracking.uri)
        begun, now = int(run.info.start_time), timestamp()
        params = {**page.params, **_versions(run.data.tags)}
        tags = {names.TAG_NOTE: page.note(self.experiment)}
        if f"{names.TAG_BEST_PREFIX}trial" in run.data.tags:  # a search describes itself
            tags.clear()
        metrics = [Metric(key, value, now, 0) for key, value in page.metrics.items()]
        # At one time, so that a launch that changes nothing adds no second point.
        metrics += [Metric(point.key, point.value, begun, point.step) for point in page.curves]
        log_batch = partial(
            self.client.log_batch,
            run_id,
            params=[Param(key, value) for key, value in params.items() if key not in run.data.params],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        retrying(lambda: log_batch(metrics=metrics[:_METRICS]), self.tracking.uri)
        if run.inputs is None or not run.inputs.dataset_inputs:
            self._log_data(run_id, page.rows)
        self._show_what_varies()

    def _show_what_varies(self) -> None:
        """The saved view's columns: what sweeps, or the configurations of one, differ in."""
        sweeps = self._search(f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}'")
        view = saved_view(varying((run.data.params for run in sweeps if run.data.params), COLUMNS) or USUAL)
        experiment = retrying(lambda: self.client.get_experiment(self.experiment), self.tracking.uri)
        if experiment.tags.get(VIEW_TAG) != view:
            retrying(
                lambda: self.client.set_experiment_tag(self.experiment, VIEW_TAG, view), self.tracking.uri
            )

    def log_long_table(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The sweep's long table as Parquet on its parent run."""
        import pandas as pd

        frame = pd.DataFrame(list(rows), columns=names.columns_of(rows))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / names.LONG_TABLE
            retrying(lambda: frame.to_parquet(path, index=False), self.tracking.uri)
            retrying(lambda: self.client.log_artifact(run_id, str(path)), self.tracking.uri)

    def log_scores(self, run_id: str, trials: Sequence[ImageScores]) -> None:
        """The trials' scores of each test image as Parquet: on the parent run, or on a run without one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / names.SCORES_TABLE
            retrying(lambda: write_scores(path, trials), self.tracking.uri)
            retrying(lambda: self.client.log_artifact(run_id, str(path)), self.tracking.uri)

    def log_json(self, run_id: str, name: str, content: Any) -> None:
        """A JSON artifact."""
        folder = local_artifacts(self._artifact_uri(run_id))
        if folder is not None:
            put_text(folder, name, as_json(content))
        else:
            retrying(lambda: self.client.log_text(run_id, as_json(content), name), self.tracking.uri)

    def _log_file(self, run_id: str, name: str, path: Path) -> None:
        """A file as the artifact ``name``, whose last part is the file's own name."""
        folder = local_artifacts(self._artifact_uri(run_id))
        if folder is not None:
            put_file(folder, name, path)
        else:
            place = name.rpartition("/")[0] or None
            retrying(lambda: self.client.log_artifact(run_id, str(path), place), self.tracking.uri)

    def rows_of(self, parent: str, known: Mapping[str, Rows] | None = None) -> Rows:
        """The per-class rows of a sweep's child runs; read back, unless they are known by run id."""
        rows: Rows = []
        missing = 0
        known = known or {}
        for run_id, _status in self.recorded(parent).values():
            try:
                rows.extend(known[run_id] if run_id in known else self.read_rows(run_id))
            except MissingArtifactError:
                missing += 1
        if missing:
            log.warning(
                "%d runs have lost their artifacts, and are left out of %s", missing, names.LONG_TABLE
            )
        return rows

    def is_whole(self, run_id: str) -> bool:
        """Whether a run that is on this machine's disk still has its table."""
        folder = local_artifacts(self._artifact_uri(run_id))
        return folder is None or (folder / names.PER_CLASS_TABLE).is_file()

    def read_rows(self, run_id: str) -> Rows:
        """The per-class rows of one run."""
        found: Rows = json.loads(self._read_text(run_id, names.PER_CLASS_TABLE))
        return found

    def _read_text(self, run_id: str, name: str) -> str:
        """An artifact's text.

        Raises
        ------
        MissingArtifactError
            If it is not there or cannot be read.
        """

        def read() -> str:
            with self.reader.artifact(run, name) as path:
                return path.read_text()

        run = retrying(lambda: self.client.get_run(run_id), self.tracking.uri)
        try:
            return (
                read() if local_artifacts(str(run.info.artifact_uri)) else retrying(read, self.tracking.uri)
            )
        except OSError as error:
            raise MissingArtifactError(
                f"{name} of run {run_id} cannot be read ({error}): its artifacts have been removed, or moved "
                "without their database"
            ) from error

    def finish(self, run_id: str, *, failed: bool) -> None:
        """End a run."""
        self._end(run_id, "FAILED" if failed else "FINISHED")

    def _end(self, run_id: str, status: str, at: int | None = None) -> None:
        retrying(lambda: self.client.set_terminated(run_id, status, at), self.tracking.uri)

    def kill(self, run_id: str) -> None:
        """End a run that was interrupted."""
        self._end(run_id, "KILLED")

    def _create(self, name: str, tags: Mapping[str, str], begun: int | None = None) -> str:
        create = partial(
            self.client.create_run, self.experiment, start_time=begun, tags=dict(tags), run_name=name
        )
        run = retrying(create, self.tracking.uri)
        self._uris[str(run.info.run_id)] = str(run.info.artifact_uri)
        return str(run.info.run_id)

    def _artifact_uri(self, run_id: str) -> str:
        if run_id not in self._uris:
            run = retrying(lambda: self.client.get_run(run_id), self.tracking.uri)
            self._uris[run_id] = str(run.info.artifact_uri)
        return self._uris[run_id]

    def _search(self, query: str) -> list[Run]:
        """All runs that match, newest first."""
        runs = list(self.reader.runs([self.experiment], query, ["start_time DESC"]))
        self._uris |= {str(run.info.run_id): str(run.info.artifact_uri) for run in runs}
        return runs


def _span(run: ConfigurationRun) -> tuple[int, int]:
    """Start and end of a configuration's run, in milliseconds.

    It ends when it is recorded and lasts as long as its trials took in all: trials of a configuration are
    computed among those of others, so the time between the first's beginning and the last's end is not its.
    """
    now = timestamp()
    lasted = 1000 * run.seconds
    return now - (math.ceil(lasted) if 0 <= lasted <= now else 0), now


def _versions(tags: Mapping[str, str]) -> dict[str, str]:
    """Versions as params: this package's, then its libraries'."""
    libraries = (part.partition("==") for part in tags.get(names.TAG_VERSIONS, "").split(", ") if part)
    return {"anomaly_sweep": tags.get(names.TAG_VERSION, ""), **{name: own for name, _, own in libraries}}


def _dataset_input(data: UsedData) -> DatasetInput:
    """A data set as MLflow's Datasets column shows it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(
        Dataset(
            name=data.name,
            digest=fingerprint(sorted(data.categories.items()))[:_DIGEST],
            source_type="local",
            source=json.dumps({"uri": data.root}),
            profile=json.dumps({"categories": len(data.categories)}),
        ),
        [InputTag("mlflow.data.context", "training and testing")],
    )


def _launched(run: Run) -> int:
    """When a sweep was launched last, milliseconds since the epoch."""
    return int(run.data.tags.get(names.TAG_LAUNCHED) or run.info.start_time or 0)


def _ended(runs: Iterable[Run]) -> dict[str, tuple[str, str]]:
    """Configuration fingerprint -> (run id, status) of runs that were ended, the latest of each."""
    found: dict[str, tuple[str, str]] = {}
    for run in runs:
        identity = run.data.tags.get(names.TAG_FINGERPRINT)
        if identity is not None and run.info.status != "RUNNING":
            found.setdefault(identity, (str(run.info.run_id), str(run.info.status)))
    return found
