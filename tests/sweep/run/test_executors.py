"""What every executor keeps to. A new one is a line in ``EXECUTORS``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.sweep.plan.describe import forecast_of
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.run.configurations import run_configurations
from anomaly_sweep.sweep.run.executor import execute
from anomaly_sweep.sweep.run.local import Pool
from anomaly_sweep.sweep.run.piece import cut
from anomaly_sweep.sweep.run.progress import Progress
from anomaly_sweep.sweep.run.worker import changed_contents, differences, origin_of
from tests.support.sweeps import FLOW, KNN1, MVG, computed, configuration, grid, runtime, tracking

#: Fields of a row that say how long it took and where it is recorded.
NOT_RESULTS = {"run_id", "fit_seconds", "score_seconds"}
DEADLY = """
import os, signal
class Deadly:
    def fit(self, X):
        if not os.path.exists(MARKER):
            if MARKER.endswith("once"):
                open(MARKER, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self
    def score_samples(self, X):
        return X[:, 0]
"""


def options(name: str, folder: Path) -> dict[str, Any]:
    if name == "slurm":
        return {"name": name, "cluster": "local", "folder": str(folder / "slurm"), "lost_seconds": 6.0}
    return {"name": name}


def line(name: str, package: str) -> Any:
    skip = pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")
    return pytest.param(name, marks=[skip])


REMOTE = [line("ray", "ray"), line("slurm", "submitit")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of two nodes that all tests share: executors join it and leave it alone."""
    if find_spec("ray") is None:
        yield
        return
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    try:
        yield ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
    finally:
        ray.shutdown()
        nodes.shutdown()


def results(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    rows = [row for outcome in outcomes for row in outcome.rows]
    return [{key: value for key, value in row.items() if key not in NOT_RESULTS} for row in rows]


def run(conf: RuntimeConf, folder: Path, chosen: list[Any]) -> list[Outcome]:
    return run_configurations(chosen, tracking(folder), conf, Parent("alone"))


@pytest.mark.parametrize("name", REMOTE)
def test_numbers_are_those_of_one_process(
    name: str, cluster: None, tiny_dataset: Path, tmp_path: Path
) -> None:
    chosen = grid(tiny_dataset, ["level1", "level2"], [0.5], [MVG, KNN1, FLOW])
    expected = run(runtime(tmp_path / "one"), tmp_path, chosen)
    conf = runtime(tmp_path / "other", workers=2, executor=options(name, tmp_path))
    found = run(conf, tmp_path, chosen)
    assert results(found) == results(expected)
    assert all(outcome.computed for outcome in found)


@pytest.mark.skipif(
    "ANOMALY_SWEEP_KILLS" not in os.environ, reason="takes long: ANOMALY_SWEEP_KILLS=1 runs it"
)
@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize("times", ["once", "ever"])
def test_a_killed_worker_is_replaced_twice_and_then_a_hole(
    name: str, times: str, cluster: None, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"deadly_{name}_{times}"
    (tmp_path / f"{module}.py").write_text(f"MARKER = {str(tmp_path / times)!r}\n{DEADLY}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    estimator = {"name": "deadly", "_target_": f"{module}.Deadly"}
    chosen = [configuration(tiny_dataset, estimator=estimator), configuration(tiny_dataset)]
    chosen[0].dataset.categories = ["washer"]
    conf = runtime(tmp_path, workers=2, executor=options(name, tmp_path))
    deadly, good = run(conf, tmp_path, chosen)
    assert good.mean_auc is not None
    if times == "once":
        assert deadly.mean_auc is not None
    else:
        (reason,) = deadly.failures
        assert reason.startswith("washer: lost 3 times: its ")


def test_no_cluster_at_the_address_is_told(tiny_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    conf = runtime(tmp_path, executor={"name": "ray", "address": "127.0.0.1:1"})
    with pytest.raises(AnomalySweepError, match=r"runtime\.executor\.address=127\.0\.0\.1:1: no Ray cluster"):
        run(conf, tmp_path, [configuration(tiny_dataset)])


def test_a_queue_that_is_not_there_is_told(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    conf = runtime(tmp_path, executor={"name": "slurm", "folder": str(tmp_path / "slurm")})
    with pytest.raises(AnomalySweepError, match="the queue refuses the array"):
        run(conf, tmp_path, [configuration(tiny_dataset)])


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"name": "dask"}, "runtime.executor.name"),
        ({"name": "ray", "adress": "auto"}, "runtime.executor.adress does not exist"),
        ({"name": "slurm", "timeout_min": 0}, "runtime.executor.timeout_min=0"),
        ({"name": "slurm", "cluster": "pbs"}, "runtime.executor.cluster"),
    ],
)
def test_wrong_settings_are_told(node: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RuntimeConf(executor=node)


def test_an_unfit_machine_says_why(tiny_dataset: Path, tmp_path: Path) -> None:
    works = make_plan([configuration(tiny_dataset)], FileIndex(tmp_path / "index")).works
    with origin_of(works, runtime(tmp_path), 1e9) as origin:
        assert differences(origin) == []
        other = replace(origin, versions=origin.versions | {"torch": "0.1", "Python": "2.7"})
        assert [reason.partition(" ")[0] for reason in differences(other)] == ["Python", "torch"]
        (unseen,) = differences(replace(origin, files=(str(tmp_path / "gone.png"),)))
        assert unseen.startswith(str(tmp_path / "gone.png"))
        (cache,) = differences(replace(origin, mark="another"))
        assert cache.startswith("runtime.cache_dir=")
        (device,) = differences(replace(origin, runtime=replace(origin.runtime, device="cuda:7")))
        assert "runtime.device=cuda:7" in device


def test_images_that_have_changed_on_a_machine_are_named(tiny_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(tiny_dataset / "washer", root / "washer")
    chosen = configuration(root)
    chosen.dataset.categories = ["washer"]
    (work,) = make_plan([chosen], FileIndex(tmp_path / "index")).works
    assert changed_contents(replace(work, shard=replace(work.shard, train_manifest="another")))
    assert changed_contents(work) == {}


def test_big_shards_are_cut_and_nothing_is_lost(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = grid(tiny_dataset, ["level1", "level2", "level3"], [0.4, 1.0], [MVG, KNN1, FLOW])
    works = make_plan(chosen, FileIndex(tmp_path / "index")).works
    conf = runtime(tmp_path, workers=2)
    usual = forecast_of(works, conf, 8)
    slow = {
        key: replace(
            shard,
            image_seconds=10.0,
            trials={trial: (kind, 40.0) for trial, (kind, _) in shard.trials.items()},
        )
        for key, shard in usual.shards.items()
    }
    forecast = replace(usual, shards=slow)
    pieces = cut(works, forecast, cache_at(conf.cache_dir))
    assert len(cut(works, usual, cache_at(conf.cache_dir))) == len(works)
    features = [piece for piece in pieces if piece.images]
    assert len(features) > len(works)
    groups = [piece for piece in pieces if not piece.images]
    assert len(groups) > len(works)
    trials = [trial for piece in groups for trial in piece.work.trials]
    assert sorted(trials) == sorted(trial for work in works for trial in work.trials)
    for piece in groups:
        own = [one for one in features if one.shard == piece.shard]
        assert piece.needs == {one.id for one in own}
    expected = {
        result.fingerprint: result.numbers()
        for outcome in computed(works, runtime(tmp_path / "whole"), Progress(forecast_of(works, conf, 1)))
        for result in outcome.results
    }
    with Pool(conf, 2) as pool:
        outcomes = list(execute(pieces, pool, Progress(forecast)))
    found = {result.fingerprint: result.numbers() for outcome in outcomes for result in outcome.results}
    timed = ("fit_seconds", "score_seconds")
    for numbers in (*expected.values(), *found.values()):
        for key in timed:
            numbers.pop(key)
    assert found == expected
