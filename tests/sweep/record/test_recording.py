"""Recording a sweep: nothing is lost and nothing doubled, whatever becomes of the store or of others."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from anomaly_sweep.cli.sweep import main
from anomaly_sweep.config import Configuration, DatasetConf, PcaModeConf, TrackingConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.sweep.record import recording as recording_module
from anomaly_sweep.sweep.record.recording import Parent, Recording
from anomaly_sweep.sweep.run.configurations import run_configurations
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tasks.detection.task import Detection
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.content import ConfigurationRun
from anomaly_sweep.tracking.sqlite import prepare
from anomaly_sweep.tracking.writer import Recorder
from tests.support.sweeps import KNN1, MVG, configuration, grid, runtime, tracking


class Killed(BaseException):
    """As kill -9: nothing in the program sees it coming."""


def children(client: MlflowClient, parent: str | None = None) -> list[Run]:
    (experiment,) = client.search_experiments(filter_string="name = 'anomaly_sweep'")
    wanted = f"tags.`{names.TAG_KIND}` = '{names.KIND_CONFIGURATION}'"
    if parent is not None:
        wanted += f" and tags.`{names.TAG_PARENT}` = '{parent}'"
    return list(client.search_runs([experiment.experiment_id], wanted))


def parent_of(conf: TrackingConf) -> Parent:
    return Parent("sweep", Recorder(conf).start_sweep("sweep", "identity", "", resume=True))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Runs that are written together, each time before the computation goes on."""
    sizes: list[int] = []
    record, record_complete = Recorder.record, Recording.record_complete

    def counted(self: Recorder, runs: Iterable[ConfigurationRun]) -> Iterator[tuple[int, str]]:
        given = list(runs)
        sizes.append(len(given))
        return record(self, given)

    def waited_for(self: Recording, **given: bool) -> None:
        record_complete(self, **given)
        self.wait()

    monkeypatch.setattr(Recorder, "record", counted)
    monkeypatch.setattr(Recording, "record_complete", waited_for)
    return sizes


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials of each shard that is computed."""
    sizes: list[int] = []
    compute = Detection.run

    def counted(self: Detection, work: Any, *given: Any, **named: Any) -> Any:
        sizes.append(len(work.trials))
        return compute(self, work, *given, **named)

    monkeypatch.setattr(Detection, "run", counted)
    return sizes


def on_one_category_each(root: Path, *rates: float) -> list[Configuration]:
    """Configurations of which half is complete after the first shard."""
    return [
        configuration(
            root,
            dataset=DatasetConf(name="tiny", root=str(root), categories=[category], input_size=64),
            pca_mode=PcaModeConf(name="npca", mode="npca", rate=rate),
        )
        for category, rate in itertools.product(("washer", "linen"), rates)
    ]


def test_what_is_complete_is_recorded_together_as_shards_end(
    tiny_dataset: Path, tmp_path: Path, writes: list[int]
) -> None:
    run_configurations(
        on_one_category_each(tiny_dataset, 0.3, 0.5, 0.7), tracking(tmp_path), runtime(tmp_path), Parent("x")
    )
    assert [size for size in writes if size] == [3, 3]


@pytest.mark.parametrize("written", [False, True], ids=["before a run", "after a run"])
def test_killed_while_recording(
    written: bool, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    conf, chosen = tracking(tmp_path), grid(tiny_dataset, ["level1"], [0.5, 0.3], [MVG, KNN1])
    parent = parent_of(conf)
    record = Recorder.record_configuration

    def killed(self: Recorder, run: ConfigurationRun) -> str:
        if written:
            record(self, run)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "record_configuration", killed)
        with pytest.raises(Killed):
            run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == [4, 4]
    assert len(children(MlflowClient(conf.uri))) == (1 if written else 0)
    outcomes = run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == [4, 4]
    there = {run.info.run_id: run.data.metrics["auc/mean"] for run in children(MlflowClient(conf.uri))}
    assert there == {outcome.run_id: pytest.approx(outcome.mean_auc) for outcome in outcomes}


def all_known(root: Path, folder: Path) -> Recording:
    """Four configurations, all with made-up results, to be recorded."""
    (folder / "cache").mkdir()
    plan = make_plan(grid(root, ["level1"], [0.5, 0.3], [MVG, KNN1]), FileIndex(folder / "cache" / "files"))
    known = {trial_id: TrialResult(trial_id, "ok", 0.5) for trial_id in plan.fingerprints}
    return Recording(plan, Recorder(tracking(folder)), Parent("x"), known, folder / "cache")


def test_leaving_ends_after_the_run_that_is_being_written(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Ctrl-C does: what is written is whole, and nothing is begun any more."""
    recording = all_known(tiny_dataset, tmp_path)
    begun, left = threading.Event(), threading.Event()
    record = recording.recorder.record_configuration

    def slow(run: ConfigurationRun) -> str:
        begun.set()
        left.wait()
        return record(run)

    monkeypatch.setattr(recording.recorder, "record_configuration", slow)
    with recording:
        recording.record_complete()
        begun.wait()
        threading.Timer(0.2, left.set).start()
    assert [run.info.status for run in children(recording.recorder.client)] == ["FINISHED"]


def test_a_store_that_goes_away_is_left_alone_for_longer_each_time(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = 1e-9
    monkeypatch.setattr(recording_module, "_PAUSE_SECONDS", pause)
    recording = all_known(tiny_dataset, tmp_path)
    record = recording.recorder.record
    tries: list[int] = []

    def away(runs: Any) -> Iterator[tuple[int, str]]:
        given = list(runs)
        tries.append(len(given))
        if len(tries) == 2:  # two are recorded, then it goes away again
            yield from record(given[:2])
        if len(tries) < 4:
            raise TrackingError("gone")
        yield from record(given)

    monkeypatch.setattr(recording.recorder, "record", away)
    for count, expected in enumerate((2 * pause, 4 * pause, 8 * pause, pause), 1):
        recording.record_complete()
        recording.wait()
        assert len(tries) == count
        assert recording._pause == expected
    assert tries == [4, 4, 2, 2]
    recorded = {outcome.run_id for outcome in recording.outcomes()}
    assert {run.info.run_id for run in children(recording.recorder.client)} == recorded
    assert len(recorded) == 4


def test_a_store_that_went_away_is_not_asked_at_every_shard(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = all_known(tiny_dataset, tmp_path)
    tries: list[int] = []

    def away(runs: Any) -> Iterator[tuple[int, str]]:
        tries.append(len(list(runs)))
        raise TrackingError("gone")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(recording.recorder, "record", away)
        recording.record_complete()
        recording.record_complete()
        recording.wait()
        assert tries == [4]
    recording.record_complete(all_of_them=True)
    assert len(children(recording.recorder.client)) == 4


def test_a_store_that_stays_away_is_told_and_made_up_for(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    conf, chosen = tracking(tmp_path), on_one_category_each(tiny_dataset, 0.5, 0.3)
    parent = parent_of(conf)

    def away(*_: Any) -> Iterator[tuple[int, str]]:
        raise TrackingError("gone")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "record", away)
        with pytest.raises(TrackingError, match=r"gone\. All results are kept: launching"):
            run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == [2, 2]
    outcomes = run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == [2, 2]
    assert {run.info.run_id for run in children(MlflowClient(conf.uri))} == {o.run_id for o in outcomes}


def arguments(root: Path, estimators: str) -> list[str]:
    return [
        *("-m", "layer=level1,level2", f"estimator={estimators}", "backbone.weights=random"),
        *("dataset.categories=[washer,linen]", "dataset.input_size=64", f"dataset.root={root}"),
        *("dataset.generate=null", "runtime.workers=1", "runtime.device=cpu"),
    ]


def sweeps(folder: Path) -> list[dict[tuple[str, ...], dict[str, float]]]:
    """For each sweep in a folder its configurations' metrics; everything must be there once."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'anomaly_sweep'")
    is_sweep = f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}'"
    found = []
    for parent in client.search_runs([experiment.experiment_id], is_sweep):
        assert parent.info.status == "FINISHED"
        runs = children(client, parent.info.run_id)
        assert {run.info.status for run in runs} == {"FINISHED"}
        choices = [tuple(run.data.params[group] for group in names.GROUPS) for run in runs]
        assert set(Counter(choices).values()) == {1}
        metrics = [{k: v for k, v in r.data.metrics.items() if k.startswith(names.AUC_PREFIX)} for r in runs]
        found.append(dict(zip(choices, metrics, strict=True)))
        table = pd.read_parquet(
            folder / "mlartifacts" / parent.info.run_id / "artifacts" / names.LONG_TABLE, engine="pyarrow"
        )
        assert sorted(Counter(table["run_id"]).items()) == sorted((run.info.run_id, 2) for run in runs)
    return found


def test_two_sweeps_at_once_on_one_cache_and_one_database(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir()
    shared.mkdir()
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "anomaly_sweep.cli.sweep", *arguments(tiny_dataset, estimators)],
            cwd=shared,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for estimators in ("mvg,knn1", "knn1,knn5")
    ]
    for sweep in both:
        _, told = sweep.communicate(timeout=600)
        assert sweep.returncode == 0, told.decode()
    monkeypatch.chdir(alone)
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", *arguments(tiny_dataset, "mvg,knn1,knn5")])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    main()
    (expected,) = sweeps(alone)
    assert len(expected) == 6
    found = sweeps(shared)
    assert sorted(map(len, found)) == [4, 4]
    for metrics in found:
        assert metrics == {choices: expected[choices] for choices in metrics}
    assert set().union(*found) == set(expected)


class Server:
    """A real tracking server on this machine, with its artifacts behind it."""

    def __init__(self, folder: Path) -> None:
        prepare(folder / "server.db")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder

    def start(self) -> None:
        arguments = [
            *("--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"),
            *("--artifacts-destination", str(self.folder / "served"), "--port", str(self.port)),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", *arguments],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    found.start()
    yield found
    found.kill()


@pytest.mark.skipif(os.name != "posix", reason="kills a process group")
def test_a_server_that_is_killed_gets_everything_later(
    server: Server, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    conf = TrackingConf(uri=server.uri, artifacts=None)
    chosen = on_one_category_each(tiny_dataset, 0.7, 0.5, 0.3)
    parent = parent_of(conf)
    log_batch = MlflowClient.log_batch
    calls: list[str] = []

    def last_words(self: MlflowClient, run_id: str, **given: Any) -> object:
        calls.append(run_id)
        if len(calls) == 2:
            server.kill()
        return log_batch(self, run_id, **given)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", last_words)
        with pytest.raises(TrackingError, match="All results are kept"):
            run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == [3, 3]  # it went on computing
    server.start()
    client = MlflowClient(server.uri)
    assert Counter(run.info.status for run in children(client)) == {"FINISHED": 1, "RUNNING": 1}
    Recorder(conf).drop_unfinished(str(parent.run_id))
    outcomes = run_configurations(chosen, conf, runtime(tmp_path), parent)
    assert computed == [3, 3]
    there = {run.info.run_id: run for run in children(client)}
    assert there.keys() == {outcome.run_id for outcome in outcomes}
    assert len(there) == 6
    recorder = Recorder(conf)
    for outcome in outcomes:
        run = there[outcome.run_id]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["auc/mean"] == pytest.approx(outcome.mean_auc)
        assert [row["fingerprint"] for row in recorder.read_rows(run.info.run_id)] == [
            row["fingerprint"] for row in outcome.rows
        ]
