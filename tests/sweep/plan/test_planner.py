"""The plan: each distinct thing once, and identities that change with what changes a result."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anomaly_sweep.config import (
    AugmentationConf,
    BackboneConf,
    Configuration,
    DatasetConf,
    LayerConf,
    PcaModeConf,
    PoolingConf,
)
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import ConfigError, DatasetError
from anomaly_sweep.sweep.plan.planner import Plan, make_plan
from anomaly_sweep.tasks.detection.trial import DetectionTrial
from tests.support.sweeps import FLOW, KNN1, LEVELS, MVG, configuration, grid


def plan(configurations: list[Configuration], tmp_path: Path) -> Plan:
    return make_plan(configurations, FileIndex(tmp_path / "index.sqlite"))


def test_shards_are_shared_and_trials_distinct(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = grid(tiny_dataset, ["level1", "level2"], [0.3, 0.5], [MVG, KNN1, FLOW])
    made = plan(chosen, tmp_path)
    assert len(made.works) == 2  # one a category
    assert [len(work.trials) for work in made.works] == [12, 12]
    assert len(made.fingerprints) == 24
    assert made.works[0].levels() == ["level1", "level2"]
    again = plan([*chosen, *chosen], tmp_path)
    assert again.fingerprints == made.fingerprints


def test_names_change_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    one = configuration(tiny_dataset)
    other = configuration(
        tiny_dataset,
        layer=LayerConf(name="mine", levels=["level2"]),
        estimator={**MVG, "name": "gauss"},
        pca_mode=PcaModeConf(name="half", mode="npca", rate=0.5),
    )
    assert len(plan([one, other], tmp_path).fingerprints) == 2  # one a category


@pytest.mark.parametrize(
    "change",
    [
        {"layer": LayerConf(name="level2", levels=["level1"])},
        {"pooling": PoolingConf(name="avg", kinds=["max"])},
        {"pca_mode": PcaModeConf(name="npca50", mode="npca", rate=0.4)},
        {"pca_mode": PcaModeConf(name="npca50", mode="pca", rate=0.5)},
        {"pca_mode": PcaModeConf(name="npca50", mode="npca", rate=0.5, basis="dims")},
        {"estimator": {**MVG, "shrinkage": "oas"}},
        {"estimator": FLOW},
        {"augmentation": AugmentationConf(name="none", kind="noise", passes=1)},
        {"augmentation": AugmentationConf(name="none", kind="noise", passes=1, seed=1)},
        {"dataset_input_size": 96},
        {"weights_seed": 1},
        {"mean": [0.5, 0.5, 0.5]},
        {"kwargs": {"zero_init_last": True}},
    ],
)
def test_a_changed_setting_is_another_trial(
    tiny_dataset: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    base = configuration(tiny_dataset)
    if "dataset_input_size" in change:
        changed = replace(base, dataset=replace(base.dataset, input_size=96))
    elif set(change) <= set(BackboneConf.__dataclass_fields__):
        changed = replace(base, backbone=replace(base.backbone, **change))
    else:
        changed = replace(base, **change)
    made = plan([base, changed], tmp_path)
    assert len(made.fingerprints) == 4
    prints = [frozenset(plan([c], tmp_path).fingerprints) for c in (base, changed)]
    assert not prints[0] & prints[1]


def test_a_changed_preset_of_the_flow_is_another_trial(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_sweep.estimators.flow import settings

    before = plan([configuration(tiny_dataset, estimator=FLOW)], tmp_path).fingerprints
    slower = {**settings.PRESETS, "fast": replace(settings.FAST, learning_rate=1e-5)}
    monkeypatch.setattr(settings, "PRESETS", slower)
    assert not before & plan([configuration(tiny_dataset, estimator=FLOW)], tmp_path).fingerprints


def test_a_broken_category_is_a_hole(tiny_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for category in ("washer", "linen"):
        shutil.copytree(tiny_dataset / category, root / category)
    shutil.rmtree(root / "washer/train")
    made = plan([configuration(root)], tmp_path)
    assert [work.shard.category.name for work in made.works] == ["linen"]
    (failed,) = made.failed.values()
    assert "washer" in failed.reason
    assert made.cells[0]["washer"] == failed.fingerprint
    shutil.rmtree(root / "linen/test")
    with pytest.raises(DatasetError, match=r"(?s)washer.*linen"):
        plan([configuration(root)], tmp_path)


def test_a_category_that_is_not_there(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = DatasetConf(name="tiny", root=str(tiny_dataset), categories=["washer", "bottle"])
    made = plan([configuration(tiny_dataset, dataset=dataset)], tmp_path)
    (failed,) = made.failed.values()
    assert "bottle" in failed.reason


def test_a_level_the_backbone_lacks(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no level6; it has level1, level2, level3, level4, level5"):
        plan([configuration(tiny_dataset, layer=LayerConf(name="level6", levels=["level6"]))], tmp_path)


def test_all_is_every_level(tiny_dataset: Path, tmp_path: Path) -> None:
    named = configuration(tiny_dataset, layer=LayerConf(name="x", levels=list(LEVELS)))
    every = configuration(tiny_dataset, layer=LayerConf(name="all", levels=["all"]))
    assert plan([named], tmp_path).fingerprints == plan([every], tmp_path).fingerprints


def test_a_category_that_mlflow_cannot_name(tiny_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name, there in (("washer", "washer"), ("nut (M4)", "linen"), ("nut M4", "linen")):
        shutil.copytree(tiny_dataset / there, root / name)
    dataset = DatasetConf(name="tiny", root=str(root), input_size=64)
    made = plan([configuration(root, dataset=dataset)], tmp_path)
    (failed,) = made.failed.values()
    assert "nut (M4): MLflow takes no metric of that name; rename the folder" in failed.reason
    assert sorted(made.cells[0]) == ["nut (M4)", "nut M4", "washer"]


def seed_in(made: Plan, configuration: int, category: str) -> int:
    trial = made.trials[made.cells[configuration][category]]
    assert isinstance(trial, DetectionTrial)
    return trial.seed


def test_a_seed_depends_on_contents_only(tiny_dataset: Path, tmp_path: Path) -> None:
    """Other names of data set, root, category, images, backbone and level: the same seed, another trial."""
    other = tmp_path / "elsewhere"
    shutil.copytree(tiny_dataset / "washer", other / "ring")
    images = sorted((other / "ring/train/good").iterdir())
    for place, image in enumerate(images):
        image.rename(image.with_name(f"part-{place:04d}{image.suffix}"))
    sorted((other / "ring/test/good").iterdir())[0].unlink()
    plain = configuration(tiny_dataset, estimator=FLOW)
    named = configuration(
        other,
        estimator=FLOW,
        dataset=DatasetConf(name="mine", root=str(other), categories=["ring"], input_size=64),
        backbone=replace(plain.backbone, name="mine", levels={"deep": plain.backbone.levels["level2"]}),
        layer=LayerConf(name="deep", levels=["deep"]),
    )
    made = plan([plain, named], tmp_path)
    seed = seed_in(made, 0, "washer")
    assert seed_in(made, 1, "ring") == seed != seed_in(made, 0, "linen")
    assert made.cells[0]["washer"] != made.cells[1]["ring"]
    changes: list[dict[str, Any]] = [
        {"pca_mode": PcaModeConf(name="npca50", mode="npca", rate=0.4)},
        {"pooling": PoolingConf(name="max", kinds=["max"])},
        {"estimator": {**FLOW, "steps": 6}},
        {"backbone": replace(plain.backbone, weights_seed=1)},
    ]
    changed = plan([replace(plain, **change) for change in changes], tmp_path)
    assert seed not in {seed_in(changed, i, "washer") for i in range(len(changes))}
    sorted((other / "ring/train/good").iterdir())[0].unlink()
    assert seed_in(plan([named], tmp_path), 0, "ring") != seed
