"""What every executor keeps to. A new one is a line in ``EXECUTORS``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.run.configurations import run_configurations
from tests.support.sweeps import FLOW, KNN1, MVG, configuration, grid, runtime, tracking

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
