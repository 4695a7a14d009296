"""Wrong keys and values fail at once, in one message that says what is allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from anomaly_sweep.cli import sweep
from anomaly_sweep.cli.overrides import check_overrides
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import ConfigError
from tests.support.multirun import command

KEYS = [
    ("pca_mode.rat=0.3", "Did you mean pca_mode.rate? Allowed keys of pca_mode: name, mode, rate, basis"),
    ("runtime.worker=2", "Did you mean runtime.workers?"),
    (
        "dataset.generate.sed=1",
        "Did you mean dataset.generate.seed? Allowed keys of dataset.generate: seed, size",
    ),
    ("dataset.root.x=1,2", None),  # below a value: Hydra's to say
    ("pooing=max", "Did you mean pooling? Allowed config groups: augmentation, backbone"),
    (
        "estimator.shrinkge=oas",
        "Did you mean estimator.shrinkage? Allowed settings of mvg: name, _target_, shrinkage",
    ),
    ("estimator.shrinkge=oas,x estimator=mvg,knn1", "Allowed settings of the estimators"),
    ("estimator=knn1 estimator.shrinkage=oas", "Allowed settings of knn1: name, _target_, k, aggregation"),
    ("estimator=knn1,mvg estimator.shrinkage=oas", None),
    ("estimator=mine estimator.anything=1", None),
    ("experiment=ono_mori_grid estimator.k=3", None),
    ("pca_mode.rate=interval(0,1)", None),
    ("backbone.levels.level9=x", None),
    ("augmentation.exclude.bottle=[flip]", None),
    ("+pca_mode.rat=1 ~pooling ++runtime.x=1 hydra.sweeper.params=1 --cfg job -m pca_mode.rate=[", None),
    ("--config-dir=mine pca_mode.rat=0.3", None),
    ("localizer=padim", "localizer has no part in task=detection; leave it out, or choose task=localization"),
    ("task.sigma=2", "task.sigma has no part in task=detection; leave it out, or choose task=localization"),
    ("task=localization pca_mode.rate=0.3", "pca_mode.rate has no part in task=localization"),
    ("task=localization layer=level1,level2", "layer has no part in task=localization"),
    ("task=localization localizer=padim localizer.chanels=9", "Did you mean localizer.channels?"),
    ("task=localization localizer=ridge,padim task.sigma=2 backbone=resnet18", None),
    ("task=localization task.sgma=2", "Did you mean task.sigma? Allowed keys of task: name, sigma"),
    ("experiment=ridge_table1 localizer=padim", None),
]


@pytest.mark.parametrize(("line", "message"), KEYS, ids=[line for line, _ in KEYS])
def test_keys(line: str, message: str | None) -> None:
    if message is None:
        check_overrides(line.split(), config_folder())
        return
    with pytest.raises(ConfigError) as caught:
        check_overrides(line.split(), config_folder())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = [
    ("pca_mode.rat=0.3", "pca_mode.rat does not exist"),
    ("pca_mode.rate=2", "pca_mode.rate=2.0 is outside (0, 1]"),
    ("pca_mode.rate=abc", "pca_mode.rate=abc: Value 'abc' of type 'str' could not be converted to Float"),
    ("pca_mode.basis=x", "pca_mode.basis=x is not allowed; allowed: rank, dims, variance"),
    ("runtime.on_error=maybe", "runtime.on_error=maybe is not allowed; allowed: continue, stop"),
    ("runtime.objectives=[x]", "allowed: auc, pixel_auroc, aupro, aupro_mvtec, score_seconds, fit_seconds"),
    ("runtime.workers=0", "runtime.workers=0 is outside [1, inf]"),
    (
        "estimator.shrinkage=foo",
        "estimator.shrinkage=foo is not allowed; allowed: ledoit_wolf, oas, empirical",
    ),
    ("estimator=knn1 estimator.k=0", "estimator.k=0 is outside [1, inf]"),
    ("+estimator.bla=1", "estimator.bla is not an argument of"),
    (
        "layer=level7",
        "backbone resnet18 has no level7; it has level1, level2, level3, level4, level5 and all",
    ),
    ("pooling.kinds=[avg,sum]", "pooling.kinds=sum is not allowed; allowed: min, max, avg"),
    ("dataset.categories=[]", "dataset.categories=[] names no category"),
    ("dataset=folder", "dataset.root must be given"),
    ("task=localization task.fpr_limit=0", "task.fpr_limit=0.0 is outside (0, 1]"),
    ("task=localization task.connectivity=6", "task.connectivity=6 is not allowed; allowed: 4, 8"),
    ("runtime.objectives=[aupro]", "runtime.objectives=aupro needs task=localization"),
    ("pca_mode=npca35", "npca50"),  # Hydra's list
]


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["single", "multirun"])
@pytest.mark.parametrize(("line", "message"), VALUES, ids=[line for line, _ in VALUES])
def test_values(
    mode: list[str],
    line: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", *mode, *line.split()])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as caught:
        sweep.main()
    told = str(caught.value)
    assert told.startswith("error: ")
    assert message in told
    assert "Traceback" not in told + capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()  # before anything was started
    assert not (tmp_path / "data").exists()


def test_values_of_a_sweep(tmp_path: Path) -> None:
    done = command("-m", "pca_mode=npca50", "pca_mode.rate=0.5,2", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "error: pca_mode.rate=2.0 is outside (0, 1]"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


def test_settings_of_the_whole_sweep_cannot_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "-m", "runtime.batch_size=1,2"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit, match="runtime differs between jobs"):
        sweep.main()


def test_full_error_shows_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "pca_mode.rat=1"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigError):
        sweep.main()
