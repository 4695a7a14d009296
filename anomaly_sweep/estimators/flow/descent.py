"""A training step of a stack: the gradient written out, then Adam; on CUDA as a graph.

What a small coupling flow's step costs beside its matrix products is passes over memory and the start of
operations, and autograd adds to both: it copies at every split and concatenation, and allocates every
gradient anew. Here activations are overwritten where the backward pass does not read them, and every tensor
and view is made once, which a CUDA graph needs as well. `coupling.loss` defines what is computed here.

Autograd takes 1.3 (a stack of large flows) to 2.5 times (one small flow) as long a step, Adam included, on
one CPU core (docs/evidence.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly_sweep.estimators.flow.coupling import SLOPE, FlowShape, Permutations

# The gradient of a ReLU into memory that is there.
_relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class _Layer:
    """A layer's parameters, input and output, and where their gradients go."""

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    x: Tensor
    y: Tensor
    y_gradient: Tensor


@dataclass(frozen=True)
class _Net:
    """A network of a block, and the dimensions it transforms."""

    layers: list[_Layer]
    target: Tensor
    gain: Tensor
    #: The halves of the last layer's output, and their gradients.
    scale: Tensor
    shift: Tensor
    scale_gradient: Tensor
    shift_gradient: Tensor
    #: Gradients of what is transformed and of what is read; the latter is None where that is data.
    target_gradient: Tensor
    source_gradient: Tensor | None
    source_part: Tensor


@dataclass(frozen=True)
class _Block:
    """`rows` holds the block's input, permuted, and then its output, in the same place."""

    rows: Tensor
    rows_gradient: Tensor
    nets: list[_Net]
    #: The second half before it is transformed, where a network reads it: the block is two-sided.
    kept: Tensor | None
    order: Tensor
    inverse: Tensor


def step_numbers(shape: FlowShape, rows: int) -> int:
    """At most how many numbers a `Step` holds for each member of a stack, its gradient's included."""
    width, outputs = shape.settings.width(shape.d), [[out for out, _ in net] for net in shape.nets]
    # A block's rows, the half that is kept, the outputs of its layers and the gain; then what blocks share.
    block = shape.d * len(outputs) + sum(sum(net) + net[-1] // 2 for net in outputs)
    return shape.parameters + rows * (shape.blocks * block + 2 * width + 6 * shape.d + 5)


class Step:
    """The losses of a stack and their gradient, at the parameters' current values.

    Parameters
    ----------
    shape : FlowShape
        Of at least two dimensions.
    parameters : tensor, (S * shape.parameters,)
        All parameters of the stack, in the order of `FlowShape.views`.
    permutations : Permutations
    x : tensor, (S, d, n)
        The samples. Others may be written into it between runs.
    weights : tensor, (S, n)
        Their weights, likewise.

    Attributes
    ----------
    gradient : tensor, (S * shape.parameters,)
        After `run`: of the sum over members of the loss. No parameter is in two members' losses.
    loss : tensor, (S,)
        After `run`: as `coupling.loss`.
    nll : tensor, (S, n)
        After `run`: ``|z|^2 / 2 - log_det`` of every sample, whatever its weight.
    """

    def __init__(
        self, shape: FlowShape, parameters: Tensor, permutations: Permutations, x: Tensor, weights: Tensor
    ) -> None:
        self.x = x
        self.weights = weights
        self.gradient = torch.empty_like(parameters)
        self.loss = x.new_empty(len(x))
        self.nll = torch.empty_like(weights)
        self._clamp = shape.settings.clamp
        self._weight = torch.empty_like(weights)[:, None]
        self._log_det = torch.empty_like(weights)
        self._one = x.new_tensor(1 / SLOPE)
        self._blocks = list(self._allocate(shape, parameters, permutations))

    def run(self) -> None:
        """Put the losses into `loss` and their gradient into `gradient`."""
        torch.div(self.weights[:, None], self.x.shape[1], out=self._weight)
        self._log_det.zero_()
        x = self.x
        for block in self._blocks:
            torch.index_select(x.flatten(0, 1), 0, block.order, out=block.rows.flatten(0, 1))
            if block.kept is not None:
                block.kept.copy_(block.nets[-1].target)
            for net in block.nets:
                self._couple(net)
            x = block.rows
        gradient = self._blocks[-1].rows_gradient
        torch.mul(x, x, out=gradient)
        torch.sum(gradient, 1, out=self.nll)
        self.nll.mul_(0.5).sub_(self._log_det)
        self.loss.copy_(torch.bmm(self.nll[:, None], self._weight.mT).flatten())
        torch.mul(x, self._weight, out=gradient)
        for position, block in reversed(list(enumerate(self._blocks))):
            for net in reversed(block.nets):
                self._couple_backward(net)
            if position:
                before = self._blocks[position - 1].rows_gradient
                torch.index_select(
                    block.rows_gradient.flatten(0, 1), 0, block.inverse, out=before.flatten(0, 1)
                )

    def _couple(self, net: _Net) -> None:
        for layer in net.layers[:-1]:
            torch.baddbmm(layer.bias, layer.weight, layer.x, out=layer.y).relu_()
        last = net.layers[-1]
        torch.baddbmm(last.bias, last.weight, last.x, out=last.y)
        net.scale.mul_(1 / self._clamp)
        torch.atan(net.scale, out=net.gain).mul_(SLOPE * self._clamp)
        self._log_det.add_(net.gain.sum(1))
        net.gain.exp_()
        torch.addcmul(net.shift, net.target, net.gain, out=net.target)

    def _couple_backward(self, net: _Net) -> None:
        net.shift_gradient.copy_(net.target_gradient)
        # What was transformed, times its gain, is target - shift: the derivative by the log-scale.
        torch.sub(net.target, net.shift, out=net.scale_gradient)
        net.scale_gradient.mul_(net.target_gradient).sub_(self._weight)
        net.target_gradient.mul_(net.gain)
        torch.addcmul(self._one, net.scale, net.scale, value=1 / SLOPE, out=net.gain)
        net.scale_gradient.div_(net.gain)
        for index, layer in reversed(list(enumerate(net.layers))):
            torch.bmm(layer.y_gradient, layer.x.mT, out=layer.weight_gradient)
            torch.sum(layer.y_gradient, 2, keepdim=True, out=layer.bias_gradient)
            if index:
                before = net.layers[index - 1]
                torch.bmm(layer.weight.mT, layer.y_gradient, out=before.y_gradient)
                _relu_backward(before.y_gradient, before.y, 0, grad_input=before.y_gradient)
            elif net.source_gradient is not None:
                torch.bmm(layer.weight.mT, layer.y_gradient, out=net.source_part)
                net.source_gradient.add_(net.source_part)

    def _allocate(self, shape: FlowShape, parameters: Tensor, permutations: Permutations) -> Iterator[_Block]:
        stack, d, n = self.x.shape
        first, second = slice(0, shape.first), slice(shape.first, d)
        scratch: dict[tuple[str, int], Tensor] = {}

        def fresh(rows: int) -> Tensor:
            return self.x.new_empty(stack, rows, n)

        def shared(use: str, rows: int) -> Tensor:
            if (use, rows) not in scratch:
                scratch[use, rows] = fresh(rows)
            return scratch[use, rows]

        views = zip(shape.views(parameters), shape.views(self.gradient), strict=True)
        two_sided = len(shape.nets) == 2
        for position in range(shape.blocks):
            rows, rows_gradient = fresh(d), shared(f"rows {position % 2}", d)
            kept = fresh(d - shape.first) if two_sided else None
            nets: list[_Net] = []
            for reads, writes in [(second, first)] * two_sided + [(first, second)]:
                target = rows[:, writes]
                source = y = kept if kept is not None and reads is second else rows[:, reads]
                layers: list[_Layer] = []
                for index in range(shape.settings.hidden_layers + 1):
                    (weight, weight_gradient), (bias, bias_gradient) = next(views), next(views)
                    x, y = y, fresh(weight.shape[1])
                    use = f"layer {index % 2}" if index < shape.settings.hidden_layers else "output"
                    y_gradient = shared(use, weight.shape[1])
                    layers.append(_Layer(weight, bias, weight_gradient, bias_gradient, x, y, y_gradient))
                scale, shift = layers[-1].y.chunk(2, 1)
                scale_gradient, shift_gradient = layers[-1].y_gradient.chunk(2, 1)
                nets.append(
                    _Net(
                        layers,
                        target,
                        fresh(target.shape[1]),
                        scale,
                        shift,
                        scale_gradient,
                        shift_gradient,
                        rows_gradient[:, writes],
                        rows_gradient[:, reads] if position or nets else None,
                        shared("source", source.shape[1]),
                    )
                )
            order, inverse = permutations.order[position], permutations.inverse[position]
            yield _Block(rows, rows_gradient, nets, kept, order, inverse)


log = logging.getLogger(__name__)


class Descent:
    """Adam on the losses of a stack, from the parameters given, which it changes.

    On CUDA a step of small flows is a few hundred kernels that take less time than their launch; they are
    captured once and launched together (a CUDA graph).

    Parameters
    ----------
    shape, parameters, permutations, x, weights
        As of `Step`.
    moments : mapping of str to tensor, optional
        Of Adam, as `moments` of another descent gives them: this one goes on from there. Not on CUDA.
    """

    def __init__(
        self,
        shape: FlowShape,
        parameters: Tensor,
        permutations: Permutations,
        x: Tensor,
        weights: Tensor,
        moments: Mapping[str, Tensor] | None = None,
    ) -> None:
        settings = shape.settings
        on_cuda = parameters.is_cuda
        self.step = Step(shape, parameters, permutations, x, weights)
        self._parameters = parameters.requires_grad_()
        self._parameters.grad = self.step.gradient
        self._optimizer = torch.optim.Adam(
            [self._parameters],
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=on_cuda,
        )
        if moments is not None:
            self._optimizer.state[self._parameters] = dict(moments)
        self._graph = self._captured() if on_cuda else None

    @property
    def moments(self) -> dict[str, Tensor]:
        """What Adam remembers after a step: of each parameter, and the number of steps."""
        return dict(self._optimizer.state[self._parameters])

    def advance(self) -> None:
        """One step; `step.loss` is the losses before it."""
        if self._graph is None:
            self._advance()
        else:
            self._graph.replay()

    @torch.no_grad()
    def _advance(self) -> None:
        self.step.run()
        self._optimizer.step()

    def rehearse(self) -> None:
        """Take steps and undo them: libraries and the optimiser then have made what they need."""
        before = self._parameters.detach().clone()
        for _ in range(3):
            self._advance()
        with torch.no_grad():
            self._parameters.copy_(before)
            for moment in self._optimizer.state[self._parameters].values():
                moment.zero_()

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        with torch.cuda.device(self._parameters.device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.rehearse()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    self._advance()
            except RuntimeError as error:
                log.warning("flow: no CUDA graph (%s); training goes on step by step, slower", error)
                return None
        return graph
