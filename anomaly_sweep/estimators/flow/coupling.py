"""The arithmetic of stacked coupling flows: pure functions on tensors.

A stack is S flows of the same shape with parameters of their own. Data are laid out ``(S, d, n)``: dimensions
before samples, so that a permutation moves contiguous rows and a layer is one `torch.baddbmm`. Parameters
are a flat list in the order block, network, layer, (weight ``(S, out, in)``, bias ``(S, out, 1)``).

Blocks follow RealNVP (Dinh et al., 2017) and, two-sided, the affine coupling DifferNet uses (Rudolph et al.,
2021), with its soft clamp of the log-scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly_sweep.estimators.flow.settings import FlowSettings

#: The soft clamp of a log-scale is ``SLOPE * clamp * atan(s / clamp)``: about ``clamp`` at most.
SLOPE = 0.636


@dataclass(frozen=True)
class FlowShape:
    """Sizes of a flow over `d` dimensions, split into ``d // 2`` and ``d - d // 2``."""

    d: int
    settings: FlowSettings

    @property
    def blocks(self) -> int:
        """Number of blocks: none for one dimension, which has nothing to be conditioned on."""
        return self.settings.blocks if self.d > 1 else 0

    @property
    def first(self) -> int:
        """Dimensions in the first half."""
        return self.d // 2

    @property
    def nets(self) -> list[list[tuple[int, int]]]:
        """``(out, in)`` of every layer of every network of one block."""
        first, second = self.first, self.d - self.first
        # The network that reads the first half transforms the second; in "glow" the other one goes before it.
        sizes = [(second, first), (first, second)] if self.settings.coupling == "glow" else [(first, second)]
        width, deep = self.settings.width(self.d), self.settings.hidden_layers - 1
        return [[(width, a), *[(width, width)] * deep, (2 * b, width)] for a, b in sizes]

    @property
    def layers(self) -> list[tuple[int, int]]:
        """``(out, in)`` of every layer of the whole flow, in the order of the parameters."""
        return [layer for _ in range(self.blocks) for net in self.nets for layer in net]

    @property
    def parameters(self) -> int:
        """Number of trained numbers in one flow."""
        return sum(out * (size + 1) for out, size in self.layers)

    def views(self, numbers: Tensor) -> list[Tensor]:
        """One tensor ``(S * parameters,)`` as the weights ``(S, out, in)`` and biases ``(S, out, 1)``."""
        stack = len(numbers) // max(1, self.parameters)
        sizes = [(stack, out, width) for out, size in self.layers for width in (size, 1)]
        parts = torch.split(numbers, [math.prod(size) for size in sizes])
        return [part.view(size) for part, size in zip(parts, sizes, strict=True)]


def initial_member(shape: FlowShape, generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
    """Permutations and initial parameters of one flow, from its own generator.

    Returns
    -------
    parameters : list of float32 tensors
        Without the leading stack dimension; uniform within ``1 / sqrt(in)``, as `torch.nn.Linear` begins.
        With ``start="identity"`` the last layer of each network is zero.
    permutations : int64 tensor, (blocks, d)
    """
    orders = [torch.randperm(shape.d, generator=generator) for _ in range(shape.blocks)]
    permutations = torch.stack(orders) if orders else torch.empty(0, shape.d, dtype=torch.int64)
    parameters = []
    per_net = shape.settings.hidden_layers + 1
    for place, (out, size) in enumerate(shape.layers):
        values = torch.rand(out * (size + 1), generator=generator).mul_(2).sub_(1).div_(math.sqrt(size))
        if shape.settings.start == "identity" and place % per_net == per_net - 1:
            values.zero_()
        parameters += [values[out:].view(out, size).clone(), values[:out].view(out, 1).clone()]
    return parameters, permutations


@dataclass(frozen=True)
class Permutations:
    """Permutations of a stack as orders of its ``S * d`` rows, ``(blocks, S * d)``, and their inverses."""

    order: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, members: Sequence[Tensor], device: torch.device) -> Permutations:
        """From the ``(blocks, d)`` permutations of every member."""
        stacked = torch.stack(list(members), 1)
        offset = torch.arange(stacked.shape[1])[:, None] * stacked.shape[2]
        inverse = stacked.argsort(-1)
        return cls((stacked + offset).flatten(1).to(device), (inverse + offset).flatten(1).to(device))


def _net(parameters: Sequence[Tensor], x: Tensor, clamp: float) -> tuple[Tensor, Tensor]:
    """Clamped log-scale and shift, each ``(S, out, n)``."""
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = torch.baddbmm(bias, weight, x).relu_()
    scale, shift = torch.baddbmm(parameters[-1], parameters[-2], x).chunk(2, 1)
    return (scale * (1 / clamp)).atan() * (SLOPE * clamp), shift


def _networks(parameters: Sequence[Tensor], shape: FlowShape) -> Iterator[list[Sequence[Tensor]]]:
    """The parameters of every network, block by block."""
    size, nets = 2 * (shape.settings.hidden_layers + 1), len(shape.nets)
    for start in range(0, len(parameters), size * nets):
        yield [parameters[start + i * size : start + (i + 1) * size] for i in range(nets)]


def forward(
    parameters: Sequence[Tensor], permutations: Permutations, x: Tensor, shape: FlowShape
) -> tuple[Tensor, Tensor]:
    """Data to latent.

    Parameters
    ----------
    parameters : sequence of tensors
    permutations : Permutations
    x : tensor, (S, d, n)
    shape : FlowShape

    Returns
    -------
    z : tensor, (S, d, n)
    log_det : tensor, (S, n)
        Logarithm of the Jacobian's determinant.
    """
    stack, d, n = x.shape
    clamp = shape.settings.clamp
    logs: list[Tensor] = []
    for block, nets in enumerate(_networks(parameters, shape)):
        rows = x.reshape(stack * d, n).index_select(0, permutations.order[block])
        a, b = rows.view(stack, d, n).tensor_split([shape.first], 1)
        if len(nets) == 2:
            log, shift = _net(nets[0], b, clamp)
            a = torch.addcmul(shift, a, log.exp())
            logs.append(log)
        log, shift = _net(nets[-1], a, clamp)
        logs.append(log)
        x = torch.cat([a, torch.addcmul(shift, b, log.exp())], 1)
    return x, torch.cat(logs, 1).sum(1) if logs else x.new_zeros(stack, n)


def inverse(parameters: Sequence[Tensor], permutations: Permutations, z: Tensor, shape: FlowShape) -> Tensor:
    """Latent to data, the inverse of `forward`: ``(S, d, n)`` to ``(S, d, n)``."""
    stack, d, n = z.shape
    clamp = shape.settings.clamp
    for block, nets in reversed(list(enumerate(_networks(parameters, shape)))):
        a, b = z.tensor_split([shape.first], 1)
        log, shift = _net(nets[-1], a, clamp)
        b = (b - shift) * (-log).exp()
        if len(nets) == 2:
            log, shift = _net(nets[0], b, clamp)
            a = (a - shift) * (-log).exp()
        z = torch.cat([a, b], 1).reshape(stack * d, n).index_select(0, permutations.inverse[block])
        z = z.view(stack, d, n)
    return z


def loss(
    parameters: Sequence[Tensor], permutations: Permutations, x: Tensor, weights: Tensor, shape: FlowShape
) -> Tensor:
    """Weighted sum over samples of ``(|z|^2 / 2 - log_det) / d``, ``(S,)``: the negative log-likelihood.

    Without the Gaussian's constant, and for the mean over samples with weights ``1 / n``.
    """
    z, log_det = forward(parameters, permutations, x, shape)
    return ((z.square().sum(1) * 0.5 - log_det) * weights).sum(1) / shape.d
