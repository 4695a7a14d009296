"""Data that changes between launches, and several sets under one name."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from anomaly_sweep.cli.sweep import main
from anomaly_sweep.config import DatasetConf, GenerateConf, LocalizationConf, LocalizationConfiguration
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.sweep.plan.checks import check_told_apart
from anomaly_sweep.sweep.plan.planner import data_state, make_plan
from anomaly_sweep.tracking import names
from multirun_analysis.trials.read import collect
from tests.support.sweeps import configuration

RIDGE = {"name": "ridge", "_target_": "anomaly_sweep.localization.ridge.localizer.Ridge"}


@pytest.fixture
def images(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A set of two categories that may be changed."""
    for category in ("washer", "linen"):
        shutil.copytree(tiny_dataset / category, tmp_path / "images" / category)
    return tmp_path / "images"


def state_of(root: Path, index: Path, *, localization: bool = False, **changes: Any) -> dict[str, str]:
    """Category -> digest."""
    dataset = DatasetConf(**{"name": "own", "root": str(root), **changes})
    base = configuration(root, dataset=dataset)
    chosen = (
        LocalizationConfiguration(dataset, base.backbone, LocalizationConf(name="localization"), RIDGE)
        if localization
        else base
    )
    ((_, tasks),) = data_state([chosen], FileIndex(index)).items()
    ((_, categories),) = tasks.items()
    return categories


def change(image: Path) -> None:
    image.write_bytes(image.read_bytes() + b"\0")


def test_the_state_is_of_contents_and_names_alone(images: Path, tmp_path: Path) -> None:
    index = tmp_path / "files.sqlite"
    before = state_of(images, index)
    assert set(before) == {"washer", "linen"}
    assert len(set(before.values())) == 2
    shutil.copytree(images, tmp_path / "copy")
    (tmp_path / "link").symlink_to(images)
    for same in (tmp_path / "copy", tmp_path / "link", f"{images}/", images / ".." / "images"):
        assert state_of(Path(same), index) == before
    assert state_of(images, index, name="renamed") == before
    first = images / "washer" / "train" / "good" / "000.png"
    content = first.read_bytes()
    first.unlink()
    less = state_of(images, index)
    assert less["linen"] == before["linen"]
    assert less["washer"] != before["washer"]
    first.write_bytes(content)
    assert state_of(images, index) == before
    first.rename(first.with_name("900.png"))
    assert state_of(images, index)["washer"] != before["washer"]
    shutil.copytree(images / "linen", images / "wool")
    assert state_of(images, index)["wool"] != ""


def test_masks_belong_to_localization_alone(images: Path, tmp_path: Path) -> None:
    index = tmp_path / "files.sqlite"
    detection, localization = state_of(images, index), state_of(images, index, localization=True)
    change(next((images / "washer" / "ground_truth").rglob("*.png")))
    assert state_of(images, index) == detection
    after = state_of(images, index, localization=True)
    assert after["linen"] == localization["linen"]
    assert after["washer"] != localization["washer"]


def test_the_plan_records_the_same_digests(images: Path, tmp_path: Path) -> None:
    shutil.rmtree(images / "linen" / "train")
    chosen = configuration(images)
    index = FileIndex(tmp_path / "files.sqlite")
    plan = make_plan([chosen], index)
    state = data_state([chosen], index)
    assert plan.data == [state[str(images)]["detection"]]
    assert plan.data[0]["linen"] == ""


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A multirun of two estimators in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def launched(*arguments: str) -> None:
        fixed = ["layer=level1", "backbone.weights=random", "dataset=folder", "dataset.input_size=64"]
        fixed += [
            f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
            "runtime.workers=1",
            "runtime.device=cpu",
            "estimator=mvg,knn1",
        ]
        monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "-m", *fixed, *arguments])
        main()

    return launched


def read(folder: Path, **how: Any) -> tuple[list[tuple[str, ...]], list[str]]:
    """Choices and values of the trials that tables are made of, and what is noted."""
    reading = collect(f"sqlite:///{folder}/mlflow.db", **how)
    columns = ["dataset", "category", "estimator", "image_auroc", "n_train", "data"]
    return sorted(tuple(map(str, row)) for row in reading.trials[columns].to_numpy()), reading.notes


def sweeps(client: MlflowClient) -> Sequence[Any]:
    experiment = client.get_experiment_by_name("anomaly_sweep")
    assert experiment is not None
    return list(
        client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}'")
    )


def test_data_changed_and_put_back(
    images: Path, tmp_path: Path, launch: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    launch("dataset.root=images")
    first, _ = read(tmp_path, latest=True)
    removed = images / "washer" / "train" / "good" / "000.png"
    removed.rename(tmp_path / "away.png")
    launch("dataset.root=images")
    second, _ = read(tmp_path, latest=True)
    assert {row[4] for row in first if row[1] == "washer"} == {"6"}
    assert {row[4] for row in second if row[1] == "washer"} == {"5"}
    (tmp_path / "away.png").rename(removed)
    launch("dataset.root=images")
    assert read(tmp_path, latest=True)[0] == first
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(sweeps(client)) == 2
    there, notes = read(tmp_path)  # of all sweeps: never mixed
    assert there == first
    assert any("2 trials are of images that have changed since (folder/washer)" in note for note in notes)


def test_several_roots_under_one_name(images: Path, tmp_path: Path, launch: Callable[..., None]) -> None:
    shutil.copytree(images, tmp_path / "others")
    change(tmp_path / "others" / "linen" / "train" / "good" / "000.png")
    (tmp_path / "others" / "linen" / "train" / "good" / "001.png").unlink()
    launch("dataset.root=images,others", "dataset.categories=[linen]")
    found, _ = read(tmp_path, latest=True)
    assert [row[0] for row in found] == ["folder[root=images]"] * 2 + ["folder[root=others]"] * 2
    assert {row[4] for row in found} == {"5", "6"}
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("anomaly_sweep")
    assert experiment is not None
    kind = f"tags.`{names.TAG_KIND}` = '{names.KIND_CONFIGURATION}'"
    runs = client.search_runs([experiment.experiment_id], kind)
    assert {run.data.params["root"] for run in runs} == {"images", "others"}
    assert len({run.data.params["data"] for run in runs}) == 2


def test_what_differs_is_in_the_label_or_refused(tmp_path: Path) -> None:
    drawn = [
        configuration(
            tmp_path,
            dataset=DatasetConf(name="synthetic", root=str(tmp_path), generate=GenerateConf(seed=seed)),
        )
        for seed in (0, 1)
    ]
    assert [one.dataset_label for one in drawn] == ["synthetic", "synthetic[generate.seed=1]"]
    check_told_apart(drawn)
    mine = {"name": "mine", "_target_": "sklearn.neighbors.LocalOutlierFactor", "n_neighbors": 5}
    alike = [configuration(tmp_path, estimator={**mine, "n_neighbors": n}) for n in (5, 6)]
    advice = r"a file in estimator/ of your --config-dir\), or a name \(as in estimator\.name=NAME"
    with pytest.raises(ConfigError, match=rf"estimator\.n_neighbors would all be recorded as mine.*{advice}"):
        check_told_apart(alike)
    check_told_apart([alike[0], alike[0], configuration(tmp_path, estimator={**mine, "name": "other"})])
