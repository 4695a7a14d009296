"""Folding leaves what the network computes as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from anomaly_sweep.features.backbone.folding import FoldedNorm, fold_batch_norm
from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports
from tests.support.features import give_statistics

ensure_torchvision_imports()
import timm  # noqa: E402


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def outputs(model: nn.Module, nodes: list[str], batch: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    hooks = [
        model.get_submodule(node).register_forward_hook(lambda _m, _i, output: found.append(output.clone()))
        for node in nodes
    ]
    with torch.inference_mode():
        model.forward_features(batch)  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    return found


def same(left: Tensor, right: Tensor, tolerance: float = 50 * 1000**0.5 * 2.0**-24) -> None:
    """To the rounding of 50 layers, each a sum of some 1000 products in any order."""
    left, right = left.detach(), right.detach()
    assert left.shape == right.shape
    assert float((left - right).abs().max()) <= tolerance * float(left.abs().max())


@pytest.mark.parametrize(
    ("name", "nodes", "all_fold"),
    [
        ("resnet18", ["maxpool", "layer1", "layer2", "layer3", "layer4"], True),
        ("mobilenetv2_035", ["blocks.0", "blocks.2", "blocks.6"], True),
        ("tf_efficientnet_b0", ["blocks.0", "blocks.3", "blocks.6"], True),
        ("densenet121", ["features.denseblock1", "features.denseblock4"], False),
    ],
)
def test_folded_equals_unfolded(name: str, nodes: list[str], all_fold: bool) -> None:
    model = timm.create_model(name, **({"zero_init_last": False} if name == "resnet18" else {})).eval()
    give_statistics(model)
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = outputs(model, nodes, batch)
    there = norms(model)
    folded = fold_batch_norm(model, torch.zeros(1, 3, 64, 64), keep={model.get_submodule(n) for n in nodes})
    for left, right in zip(before, outputs(model, nodes, batch), strict=True):
        same(left, right)
    assert norms(model) == there - folded
    assert folded == there if all_fold else 0 < folded < there
    with torch.inference_mode():
        assert torch.isfinite(model(batch)).all()


class Block(nn.Module):
    """A convolution, a batch norm, and a forward pass of one's own."""

    def __init__(self, run: Callable[[Block, Tensor], Tensor], conv: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)
        self.wrapped = nn.Sequential(self.conv)
        self.run = run
        give_statistics(self)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Standardised(nn.Conv2d):
    """Computes with other weights than it stores, as weight-standardised convolutions do."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


def used_twice(block: Block, x: Tensor) -> Tensor:
    y = block.conv(x)
    return torch.add(block.bn(y), y)


def changed_between(block: Block, x: Tensor) -> Tensor:
    return block.bn(block.conv(x).mul_(2))


def two_norms(block: Block, x: Tensor) -> Tensor:
    y = block.conv(x)
    return block.bn(y) + block.other(y)


def called_twice(block: Block, x: Tensor) -> Tensor:
    return block.bn(block.conv(x)) + block.conv(x)


def plain(block: Block, x: Tensor) -> Tensor:
    return block.bn(block.conv(x))


def plain_wrapped(block: Block, x: Tensor) -> Tensor:
    return block.bn(block.wrapped(x))


@pytest.mark.parametrize("run", [used_twice, changed_between, two_norms, called_twice])
def test_an_output_with_other_readers_is_left_alone(run: Callable[[Block, Tensor], Tensor]) -> None:
    block = Block(run)
    x = torch.randn(1, 3, 8, 8)
    before = block(x)
    assert fold_batch_norm(block, x) == 0
    same(before, block(x))


def test_a_convolution_of_another_kind_is_left_alone() -> None:
    block = Block(plain, Standardised)
    x = torch.randn(1, 3, 8, 8)
    before = block(x)
    assert fold_batch_norm(block, x) == 0
    same(before, block(x))


@pytest.mark.parametrize(("kept", "run"), [("conv", plain), ("wrapped", plain_wrapped)])
def test_a_level_on_a_convolution_is_unaffected(kept: str, run: Callable[[Block, Tensor], Tensor]) -> None:
    x = torch.randn(1, 3, 8, 8)
    free = Block(run)
    before = free(x)
    assert fold_batch_norm(free, x) == 1
    assert isinstance(free.bn, FoldedNorm)
    same(before, free(x))
    block = Block(run)
    weight = block.conv.weight.clone()
    assert fold_batch_norm(block, x, keep=[block.get_submodule(kept)]) == 0
    assert torch.equal(block.conv.weight, weight)


def test_a_level_on_a_norms_activation_stays_readable() -> None:
    model = timm.create_model("mobilenetv2_035").eval()
    give_statistics(model)
    node = "blocks.1.0.bn1.act"
    batch = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = outputs(model, [node], batch)
    total = norms(model)
    assert fold_batch_norm(model, batch, keep=[model.get_submodule(node)]) == total - 1
    same(before[0], outputs(model, [node], batch)[0])
