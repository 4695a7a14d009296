"""What is imported from the package itself: light at first, and every example of it runs."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

import anomaly_sweep
from anomaly_sweep import compose
from anomaly_sweep.config import register
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import ConfigError
from tests.support.multirun import Multirun

HEAVY = {"torch", "timm", "mlflow", "pandas", "numpy", "hydra", "omegaconf", "sklearn"}
FUNCTIONS = [n for n in anomaly_sweep.__all__ if inspect.isroutine(getattr(anomaly_sweep, n))]


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, anomaly_sweep; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_every_name_is_there() -> None:
    assert list(anomaly_sweep.__all__) == sorted(anomaly_sweep.__all__)
    for name in anomaly_sweep.__all__:
        assert getattr(anomaly_sweep, name) is not None
        assert name in dir(anomaly_sweep)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = anomaly_sweep.nothing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder(recurse=False).find(getattr(anomaly_sweep, name), name)
    examples = [test for test in found if test.examples]
    assert examples, f"{name} has no example"
    for test in examples:
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failures: list[str] = []
        runner.run(test, out=failures.append)
        assert not failures, "".join(failures)


def test_composes_what_the_command_line_would_run() -> None:
    arguments = ("experiment=ono_mori_pooling", "backbone.weights=random", "estimator=mvg,knn1")
    sweep = compose(*arguments)
    run = Multirun(*arguments)
    expected = [run.compose(job) for job in run.jobs()]
    assert len(sweep.configurations) == len(expected) > 2
    assert sweep.runtime.workers is None
    assert [c.labels["pooling"] for c in sweep.configurations] == [c.pooling.name for c in expected]


def test_a_folder_with_further_configs(tmp_path: Path) -> None:
    place = tmp_path / "my configs, 'these'" / "estimator"
    place.mkdir(parents=True)
    (place / "mine.yaml").write_text("name: mine\n_target_: sklearn.mixture.GaussianMixture\n")
    (configuration,) = compose("estimator=mine", config_dir=place.parent).configurations
    assert configuration.labels["estimator"] == "mine"


def test_hydra_around_it_stays_as_it_is(tmp_path: Path) -> None:
    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        before: Any = hydra_compose("config", ["estimator=knn5"])
        compose("estimator=mvg")
        with pytest.raises(ConfigError, match="is outside"):
            compose("dataset.input_size=3")
        assert hydra_compose("config", ["estimator=knn5"]) == before


def test_layers_that_a_backbone_lacks_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """As on the command line: who chooses the network of an experiment gets those of its layers."""
    sweep = compose(
        "experiment=ono_mori_grid", "backbone=wide_resnet50_2", "backbone.weights=random", "estimator=mvg"
    )
    layers = {configuration.labels["layer"] for configuration in sweep.configurations}
    assert layers == {"level1", "level2", "level3", "level4", "level5", "all"}
    assert "are left out" in caplog.text
