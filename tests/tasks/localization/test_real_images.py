"""The three localizers on real bottles with ImageNet ResNet-18: near what is published."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from anomaly_sweep.config import BackboneConf, DatasetConf, LocalizationConf, LocalizationConfiguration
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.sweep.record.recording import Parent
from anomaly_sweep.sweep.run.configurations import run_configurations
from tests.support.sweeps import runtime, tracking

#: Pixel AUROC on bottle with ResNet-18: PatchCore and PaDiM as published (within a point), ridge as the
#: prototype measured it (0.978, within a point).
EXPECTED = {"ridge": 0.978, "patchcore": 0.981, "padim": 0.981}


def option(group: str, name: str) -> dict[str, object]:
    found = OmegaConf.to_container(OmegaConf.load(config_folder() / group / f"{name}.yaml"))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.mark.real
def test_real_bottles(real_folder: Path, tmp_path: Path) -> None:
    weights = real_folder / "weights" / "resnet18_imagenet_conv1_to_layer3.safetensors"
    backbone = BackboneConf(**{**option("backbone", "resnet18"), "weights": str(weights)})  # type: ignore[arg-type]
    root = real_folder / "data" / "mvtec_ad_320"
    dataset = DatasetConf(name="mvtec_ad", root=str(root), categories=["bottle"], input_size=256)
    task = LocalizationConf(name="localization")
    outcomes = run_configurations(
        [LocalizationConfiguration(dataset, backbone, task, option("localizer", name)) for name in EXPECTED],
        tracking(tmp_path),
        runtime(tmp_path),
        Parent("alone"),
    )
    seconds = {}
    for outcome, (name, expected) in zip(outcomes, EXPECTED.items(), strict=True):
        (row,) = outcome.rows
        assert row["pixel_auroc"] == pytest.approx(expected, abs=0.01), name
        assert row["aupro"] > 0.9, name
        assert row["image_auroc"] > 0.98, name
        seconds[name] = row["score_seconds"]
    assert seconds["ridge"] < seconds["patchcore"]
