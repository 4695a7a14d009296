"""Reading a network's levels: against timm's own ways, and no further than needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from anomaly_sweep.config import parse_node
from anomaly_sweep.errors import AnomalySweepError, ConfigError, WeightsError
from anomaly_sweep.features.backbone import create as create_module
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.device import resolve_device
from anomaly_sweep.features.backbone.network import Network
from tests.support.features import CPU, RESNET_LEVELS, resnet18
from tests.support.paths import ROOT

CONF = ROOT / "conf" / "backbone"


def read(network: Network, batch: Tensor, levels: list[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    network.read(batch, levels, lambda level, output: found.__setitem__(level, output.clone()))
    return found


def batch_of(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_levels_are_timms_stages() -> None:
    """Against forward_intermediates, on the same weights, of an unfolded network."""
    backbone = resnet18()
    plain, _ = create(backbone)
    plain.eval()
    with torch.inference_mode():
        stages = plain.forward_intermediates(batch_of(64), intermediates_only=True)  # type: ignore[operator]
    maps = read(Network(backbone, CPU), batch_of(64), ["level2", "level3", "level4", "level5"])
    for level, stage in zip(["level2", "level3", "level4", "level5"], stages[1:], strict=True):
        assert maps[level].shape == stage.shape
        torch.testing.assert_close(maps[level], stage, rtol=0, atol=1e-4 * float(stage.abs().max()))


def test_mobilenet_levels_are_timms_stages() -> None:
    backbone = parse_node("backbone", OmegaConf.load(CONF / "mobilenetv2_035.yaml"))
    backbone.weights, backbone.input_size = "random", 64
    plain, _ = create(backbone)
    plain.eval()
    with torch.inference_mode():
        stages = plain.forward_intermediates(batch_of(64), intermediates_only=True)  # type: ignore[operator]
    maps = read(Network(backbone, CPU), batch_of(64), list(backbone.levels))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (8, 32, 32), (8, 16, 16), (16, 8, 8), (24, 4, 4), (32, 4, 4), (56, 2, 2), (112, 2, 2)
    ]  # fmt: skip
    matched = 0
    for stage in stages:
        same = [m for m in maps.values() if m.shape == stage.shape]
        matched += any((m - stage).abs().max() <= 1e-4 * stage.abs().max() for m in same)
    assert matched == len(stages)


def test_a_level_does_not_depend_on_the_others() -> None:
    network = Network(resnet18(), CPU)
    together = read(network, batch_of(64), list(RESNET_LEVELS))
    assert list(together) == list(RESNET_LEVELS)
    for level in RESNET_LEVELS:
        assert torch.equal(read(network, batch_of(64), [level])[level], together[level])


def test_a_module_run_twice_is_read_the_first_time() -> None:
    network = Network(resnet18(), CPU)
    block = network.model.get_submodule("layer1")

    def run_again(_module: torch.nn.Module, _inputs: object) -> None:
        block(torch.ones(1, 64, 4, 4))

    network.model.get_submodule("layer2").register_forward_pre_hook(run_again)
    alone = read(network, batch_of(64), ["level2"])["level2"]
    assert torch.equal(read(network, batch_of(64), ["level2", "level4"])["level2"], alone)


@pytest.mark.parametrize("levels", [["level2"], ["level3", "level1"]])
def test_nothing_after_the_last_level_runs(levels: list[str]) -> None:
    network = Network(resnet18(), CPU)
    ran: list[str] = []
    for name, module in network.model.named_modules():
        if name:
            module.register_forward_pre_hook(lambda _m, _i, name=name: ran.append(name.split(".")[0]))
    read(network, batch_of(64), levels)
    order = ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    last = RESNET_LEVELS[max(levels)]
    assert sorted(set(ran), key=order.index) == order[: order.index(last) + 1]


def test_hooks_are_gone_after_an_error() -> None:
    network = Network(resnet18(), CPU)

    def fail(_level: str, _map: Tensor) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        network.read(batch_of(64), ["level2"], fail)
    assert not any(module._forward_hooks for module in network.model.modules())


def test_unknown_node_is_named() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.levels\.top=layer9.*layer1, layer2"):
        Network(resnet18(levels={"top": "layer9"}), CPU)


@pytest.mark.parametrize("node", ["global_pool", "fc"])
def test_node_outside_the_features_is_named(node: str) -> None:
    with pytest.raises(ConfigError, match=f"never reaches top={node}"):
        read(Network(resnet18(levels={"top": node}), CPU), batch_of(64), ["top"])


def test_node_without_a_map_is_refused() -> None:
    network = Network(resnet18(), CPU)
    network.model.get_submodule("layer1").register_forward_hook(lambda _m, _i, output: output.mean((2, 3)))
    with pytest.raises(
        ConfigError, match=r"backbone\.levels\.level2=layer1 gives \(2, 16\), not a feature map"
    ):
        read(network, batch_of(64), ["level2"])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "resnet81"}, ConfigError, "no such network; near: resnet18"),
        ({"kwargs": {"depth": 7}}, ConfigError, "depth"),
        ({"model": "resnet18.other"}, ConfigError, "Invalid pretrained tag"),
        ({"model": "resnet18.other", "weights": "pretrained"}, WeightsError, "choose from.*resnet18.tv_in1k"),
        ({"model": "resnet18", "weights": "pretrained"}, WeightsError, "no weight tag.*resnet18.tv_in1k"),
        (
            {"model": "mobilenetv2_035", "weights": "pretrained"},
            WeightsError,
            "no pretrained weights.*random",
        ),
    ],
)
def test_what_timm_does_not_have(changes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        create(resnet18(**changes))


@pytest.mark.parametrize(
    "path", sorted(set(CONF.glob("*.yaml")) - {CONF / "timm.yaml"}), ids=lambda path: path.stem
)
def test_configured_backbones_exist(path: Path) -> None:
    """Without building the large ones: tags of hub weights are timm's, nodes are the architecture's."""
    backbone = parse_node("backbone", OmegaConf.load(path))
    create_module.ensure_torchvision_imports()
    import timm

    create_module._check_name(backbone)
    if backbone.name != "mobilenetv2_035" and backbone.weights == "pretrained":
        create_module._check_tag(backbone)
    with torch.device("meta"):
        modules = dict(timm.create_model(backbone.model, **backbone.kwargs).named_modules())
    assert set(backbone.levels.values()) <= set(modules)


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_absent_device(name: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(AnomalySweepError, match=f"runtime.device={name}"):
        resolve_device(name)


def test_misspelt_device() -> None:
    with pytest.raises(ConfigError, match=r"runtime\.device=cuda:x"):
        resolve_device("cuda:x")
    assert resolve_device("cpu") == CPU
