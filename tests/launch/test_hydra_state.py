"""``${hydra:...}`` in values, job callbacks, where relative paths count from, the completion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus

from anomaly_sweep.cli import sweep
from anomaly_sweep.cli.overrides import check_overrides
from anomaly_sweep.config import RuntimeConf, TrackingConf, anchored_configuration
from anomaly_sweep.config.anchor import anchored_runtime, anchored_tracking
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.launch.callbacks import call_for_each
from anomaly_sweep.launch.hydra_state import answering
from anomaly_sweep.launch.session import sweep_identity
from anomaly_sweep.sweep.search.record import _named
from anomaly_sweep.tasks import parse
from tests.support.multirun import Multirun


def test_what_all_jobs_share_is_composed_once() -> None:
    run = Multirun(
        "dataset.name=${hydra:job.name}", "dataset.root=${hydra:runtime.cwd}/d", "layer=level1,level2"
    )
    nodes = run.composer().jobs(run.jobs())
    assert [job["dataset"].name for job in nodes] == ["anomaly_sweep"] * 2
    assert nodes[0]["dataset"].root == f"{Path.cwd()}/d"
    assert nodes[0]["dataset"] is nodes[1]["dataset"]
    assert not HydraConfig.initialized()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("n${hydra:job.num}", ["n3", "n4"]),
        ("${hydra:job.id}", ["3", "4"]),
        ("${hydra:runtime.choices.layer}", ["level1", "level2"]),
    ],
)
def test_what_a_job_has_for_itself(value: str, wanted: list[str]) -> None:
    run = Multirun(f"dataset.name={value}", "layer=level1,level2")
    composer = run.composer()
    assert [job["dataset"].name for job in composer.jobs(run.jobs(), first=3)] == wanted
    before = run.composed
    composer.jobs(run.jobs(), first=3)
    assert run.composed == before
    with answering(run.config):
        assert sweep_identity(run.config, run.jobs())


class Seen:
    """A callback that writes down what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []

    def on_job_start(self, config: Any, **_: Any) -> None:
        self.calls.append(("start", config.layer.name, HydraConfig.get().job.num))

    def on_job_end(self, config: Any, job_return: JobReturn, **_: Any) -> None:
        assert job_return.cfg is not None
        assert job_return.hydra_cfg is not None
        assert "hydra" not in job_return.cfg
        self.calls.append(("end", job_return.cfg.layer.name, job_return.return_value))
        assert Path(config.hydra.runtime.output_dir, ".hydra", "config.yaml").is_file()


def test_job_callbacks(tmp_path: Path) -> None:
    run = Multirun(f"hydra.sweep.dir={tmp_path}", "layer=level1,level2")
    returns = []
    for job in run.jobs():
        returned = JobReturn(overrides=job, status=JobStatus.COMPLETED)
        returned.return_value = 0.5
        returns.append(returned)
    callbacks, composer = Callbacks(), run.composer()
    call_for_each(callbacks, lambda _: None, composer, returns, 4)
    assert run.composed == 0
    assert not list(tmp_path.iterdir())
    callbacks.callbacks = [seen := Seen()]
    call_for_each(callbacks, lambda _: None, composer, returns, 4)
    assert seen.calls == [
        ("start", "level1", 4),
        ("end", "level1", 0.5),
        ("start", "level2", 5),
        ("end", "level2", 0.5),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]
    assert not HydraConfig.initialized()


def test_relative_paths_count_from_the_launch(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    configuration, _, _ = parse(Multirun().compose(["backbone.weights=w.pth", "dataset.root=d"]))
    there = anchored_configuration(configuration, tmp_path)
    assert there.dataset.root == str(tmp_path / "d")
    assert there.backbone.weights == str(tmp_path / "w.pth")
    configuration, _, _ = parse(Multirun().compose(["backbone.weights=random", "dataset.root=/d"]))
    assert anchored_configuration(configuration, tmp_path) == configuration
    assert anchored_runtime(RuntimeConf(cache_dir="c"), tmp_path).cache_dir == str(tmp_path / "c")


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{}/mlflow.db"),
        ("sqlite:///a/b.db?timeout=3", "sqlite:///{}/a/b.db?timeout=3"),
        ("sqlite:////abs/b.db", "sqlite:////abs/b.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("mlruns", "{}/mlruns"),
        ("file:mlruns", "file://{}/mlruns"),
        ("file:///abs", "file:///abs"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ("databricks", "databricks"),
    ],
)
def test_tracking_uris(uri: str, wanted: str, tmp_path: Path) -> None:
    moved = anchored_tracking(TrackingConf(uri=uri, artifacts="a"), tmp_path)
    assert moved.uri == wanted.format(tmp_path)
    assert moved.artifacts == str(tmp_path / "a")


def test_names_that_mlflow_takes() -> None:
    assert _named("+estimator.n_jobs") == "estimator.n_jobs"
    assert _named("++layer@x") == "layer_x"
    assert _named("pca_mode.rate") == "pca_mode.rate"


def test_completion_and_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check_overrides(["-sc", "install=bash"], config_folder())
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "-sc", "install=bash"])
    sweep.main()
    assert "complete" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "-sc", "query=bash"])
    monkeypatch.setenv("COMP_LINE", "anomaly-sweep estimator=kn")
    sweep.main()
    assert capsys.readouterr().out.split() == ["estimator=knn1", "estimator=knn10", "estimator=knn5"]
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "--version"])
    sweep.main()
    assert capsys.readouterr().out.startswith("anomaly-sweep 0.")
    with pytest.raises(ConfigError, match=r"is runtime\.objectives"):
        check_overrides(["hydra.sweeper.objectives=[auc]"], config_folder())
