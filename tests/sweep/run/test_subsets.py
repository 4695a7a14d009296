"""Sweeps over few training images and contamination: a data set made so, in numbers, records and cost."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from anomaly_sweep import compose
from anomaly_sweep.cli.sweep import main
from anomaly_sweep.config import AugmentationConf, DatasetConf, PcaModeConf
from anomaly_sweep.datasets import FileIndex, read_category
from anomaly_sweep.datasets.subsets import subset_of
from anomaly_sweep.errors import ConfigError, DatasetError
from anomaly_sweep.features import extract
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.launch.session import sweep_identity
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.sweep.record.recording import Outcome
from anomaly_sweep.sweep.run.configurations import describe_configurations, run_configurations
from anomaly_sweep.tasks import task_of
from anomaly_sweep.tasks.base import features_fingerprint
from anomaly_sweep.tracking import names
from multirun_analysis.trials.read import collect
from tests.support.localizers import localization, localizer
from tests.support.sweeps import FLOW, KNN1, MVG, configuration, runtime, tracking

RIDGE = {"name": "ridge", "_target_": "anomaly_sweep.localization.ridge.RidgeLocalizer"}
RIDGE |= {"source": "level1", "target": "level3"}
PATCHCORE = {"name": "patchcore", "_target_": "anomaly_sweep.localization.patchcore.PatchCore"}
PATCHCORE |= {"levels": ["level2", "level3"], "coreset": 0.1}


def made_so(root: Path, target: Path, number: int | None, share: float, seed: int) -> Path:
    """A copy of two categories with training and test folders as a subset has them."""
    for name in ("washer", "linen"):
        chosen = subset_of(read_category(root, name, dataset="tiny"), number, share, seed)
        shutil.copytree(root / name / "ground_truth", target / name / "ground_truth")
        for i, record in enumerate(chosen.train):
            # In the same order: what is moved comes first.
            own = f"+{i:03d}.png" if record.label else record.path.name
            file = target / name / "train" / "good" / own
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(record.path, file)
        for record in chosen.test:
            file = target / record.relative
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(record.path, file)
    return target


def run(tmp_path: Path, *chosen: Any, **changes: Any) -> list[Outcome]:
    return run_configurations(chosen, tracking(tmp_path), runtime(tmp_path, **changes))


def with_(one: Any, **settings: Any) -> Any:
    return replace(one, dataset=replace(one.dataset, **settings))


CASES = [(None, 0.0, 0), (2, 0.0, 0), (3, 0.25, 1), (None, 0.25, 1), (6, 0.4, 2)]


def test_detection_is_as_on_a_folder_made_so(tiny_dataset: Path, tmp_path: Path) -> None:
    base = [configuration(tiny_dataset, estimator=estimator) for estimator in (MVG, KNN1, FLOW)]
    chosen = [
        with_(one, train_images="all" if number is None else number, contamination=share, subset_seed=seed)
        for number, share, seed in CASES
        for one in base
    ]
    together = run(tmp_path / "together", *chosen)
    for case, (number, share, seed) in enumerate(CASES):
        root = made_so(tiny_dataset, tmp_path / f"made{case}", number, share, seed)
        by_itself = run(tmp_path / f"run{case}", *(with_(one, root=str(root)) for one in base))
        for found, expected in zip(together[3 * case : 3 * case + 3], by_itself, strict=True):
            for one, other in zip(found.rows, expected.rows, strict=True):
                measured = (*names.PREFIXES, "n_features", "n_train", "n_test", "status")
                assert {key: one[key] for key in measured} == {key: other[key] for key in measured}


def test_localization_is_as_on_a_folder_made_so(tiny_dataset: Path, tmp_path: Path) -> None:
    base = [localization(tiny_dataset, own) for own in (localizer(), RIDGE, PATCHCORE)]
    cases = CASES[:4]
    chosen = [
        with_(one, train_images="all" if number is None else number, contamination=share, subset_seed=seed)
        for number, share, seed in cases
        for one in base
    ]
    together = run(tmp_path / "together", *chosen)
    for case, (number, share, seed) in enumerate(cases):
        root = made_so(tiny_dataset, tmp_path / f"made{case}", number, share, seed)
        by_itself = run(tmp_path / f"run{case}", *(with_(one, root=str(root)) for one in base))
        for found, expected in zip(together[3 * case : 3 * case + 3], by_itself, strict=True):
            for one, other in zip(found.rows, expected.rows, strict=True):
                assert one["status"] == other["status"] == names.STATUS_OK, (one["reason"], other["reason"])
                assert (one["n_train"], one["n_test"]) == (other["n_train"], other["n_test"])
                for key in ("image_auroc", "pixel_auroc", "aupro"):  # maps are float32, summed in batches
                    np.testing.assert_allclose(one[key], other[key], atol=1e-6)


def test_each_image_goes_through_the_network_once(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    usual = extract.load_square

    def load(path: Path, *arguments: Any) -> Any:
        read.append(str(path))
        return usual(path, *arguments)

    monkeypatch.setattr(extract, "load_square", load)
    cases = [(1, 0.0, 0), (2, 0.0, 1), (4, 0.2, 0), ("all", 0.2, 0), ("all", 0.0, 0)]
    settings = [dict(zip(names.SUBSET_PARAMS, case, strict=True)) for case in cases]
    base = configuration(tiny_dataset, estimator=KNN1, pca_mode=PcaModeConf(name="none", mode="none"))
    chosen = [with_(base, **own) for own in settings]
    plan = describe_configurations(chosen, runtime(tmp_path / "plan"))
    assert "shards              2 to work through of 2" in plan
    assert "2 to make (32 images" in plan  # 2 categories of 6 + 10
    for own in (chosen, [with_(localization(tiny_dataset, localizer()), **one) for one in settings]):
        read.clear()
        outcomes = run(tmp_path / own[0].task_name, *own)
        assert not any(outcome.failures for outcome in outcomes)
        taken = [path for path in read if "/train/" in path]
        assert len(taken) == len(set(taken)) == 12
        # The test images that some train on are read for that too where maps are not kept.
        tested = [path for path in read if "/test/" in path]
        assert len(set(tested)) == 20
        assert len(tested) <= (20 if own is chosen else 20 + 2 * 2)


def test_augmented_versions_stay_with_their_image(tiny_dataset: Path, tmp_path: Path) -> None:
    noise = AugmentationConf(name="noise", kind="noise", passes=2, keep_original=True)
    base = configuration(tiny_dataset, estimator=KNN1, augmentation=noise)
    (found,) = run(tmp_path / "a", with_(base, train_images=3, subset_seed=4))
    root = made_so(tiny_dataset, tmp_path / "made", 3, 0.0, 4)
    (expected,) = run(tmp_path / "b", with_(base, root=str(root)))
    assert [row["n_train"] for row in found.rows] == [9, 9]
    assert [row["image_auroc"] for row in found.rows] == [row["image_auroc"] for row in expected.rows]


def test_one_training_image(tiny_dataset: Path, tmp_path: Path) -> None:
    """What needs a variance says so; distances to one image are distances."""
    chosen = [with_(configuration(tiny_dataset, estimator=own), train_images=1) for own in (KNN1, MVG)]
    chosen[0] = replace(chosen[0], pca_mode=PcaModeConf(name="none", mode="none"))
    nearest, gaussian = run(tmp_path, *chosen)
    assert not nearest.failures
    assert len(gaussian.failures) == 2
    assert "at least 2 training images, got 1" in gaussian.failures[0]


def test_defaults_change_no_fingerprint(tiny_dataset: Path, tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "index.sqlite")
    chosen = configuration(tiny_dataset)
    plan = make_plan([chosen], index)
    task = task_of(chosen)
    for name, trial_id in plan.cells[0].items():
        category = read_category(tiny_dataset, name, dataset="tiny")
        shard = Shard.of(category, chosen.backbone, 64, chosen.augmentation, index)
        assert trial_id == fingerprint(features_fingerprint(shard, ["level2"]), task.identity(chosen))
        assert set(shard.describe("train", "level2")) - set(shard.weights) == {
            *("extractor", "dataset", "category", "split", "images", "backbone", "model", "kwargs"),
            *("input_size", "resize", "mean", "std", "level", "node"),
        }
    # As many images as there are is no other trial than all of them.
    assert make_plan([with_(chosen, train_images=6, subset_seed=2)], index).cells == plan.cells
    # A sweep is the same sweep as before there were these settings.
    groups = ("backbone", "layer", "pooling", "augmentation", "pca_mode", "estimator", "localizer", "task")
    nodes: dict[str, Any] = {group: {} for group in groups}
    before = {"name": "tiny", "root": "data", "categories": None}
    now = before | {"train_images": "all", "contamination": 0.0, "subset_seed": 0}
    few = now | {"train_images": 4}
    ids = [
        sweep_identity(OmegaConf.create({**nodes, "dataset": own}), [["a=b"]]) for own in (before, now, few)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_seeds_say_nothing_of_the_whole_set() -> None:
    assert DatasetConf(name="a", root="b", subset_seed=3) == DatasetConf(name="a", root="b")
    assert DatasetConf(name="a", root="b", train_images=2, subset_seed=3).subset_seed == 3


def test_too_many_is_a_hole_or_stops_before_the_start(tiny_dataset: Path, tmp_path: Path) -> None:
    root = made_so(tiny_dataset, tmp_path / "made", 4, 0.0, 0)
    shutil.rmtree(root / "washer")
    shutil.copytree(tiny_dataset / "washer", root / "washer")  # of 6, beside linen's 4
    found, *_ = run(tmp_path, with_(configuration(root), train_images=5))
    reasons = {row["category"]: row["reason"] for row in found.rows}
    assert reasons["washer"] == ""
    assert "more than its 4 training images" in reasons["linen"]
    with pytest.raises(DatasetError, match=r"train_images=7 is more than its 6.*more than its 4"):
        run(tmp_path, with_(configuration(root), train_images=7))


def test_a_sweep_from_the_command_line(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["-m", "dataset=folder", f"dataset.root={tiny_dataset}", "dataset.categories=[washer,linen]"]
    arguments += ["dataset.input_size=64", "backbone.weights=random", "estimator=knn1", "layer=level2"]
    arguments += ["dataset.train_images=2,4,all", "dataset.contamination=0,0.2", "dataset.subset_seed=0,1"]
    arguments += ["runtime.workers=1", "hydra.sweep.dir=sweep", "hydra.callbacks.analysis.enabled=false"]
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", *arguments])
    main()
    trials = collect("sqlite:///mlflow.db").trials
    assert len(trials) == 2 * 11  # the whole set without contamination has no seeds
    assert set(trials["train_images"].dropna()) == {2, 4}
    assert trials["data"].nunique() == 2
    assert sorted(trials.loc[trials["contamination"] == 0.2, "n_train"].unique()) == [3, 5, 8]
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("anomaly_sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "params.train_images = '4'")
    runs = [run for run in runs if run.data.tags[names.TAG_KIND] == names.KIND_CONFIGURATION]
    found = sorted(
        (run.data.params.get("contamination"), run.data.params["subset_seed"])
        for run in runs
        if run.data.params.get("contamination")
    )
    assert found == [("0.2", "0"), ("0.2", "1")]
    assert len(runs) == 4
    parent = client.get_run(
        str(
            next(
                iter(client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = 'sweep'"))
            ).info.run_id
        )
    )
    assert any(key.startswith(names.BY_TRAIN_IMAGES) for key in parent.data.metrics)
    assert any(key.startswith(names.BY_CONTAMINATION) for key in parent.data.metrics)


def test_contamination_is_not_augmented(tiny_dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"contamination=0\.1 with augmentation=noise is not defined"):
        compose(f"dataset.root={tiny_dataset}", "dataset.contamination=0.1", "augmentation=noise")
