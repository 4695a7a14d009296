"""`Descent`: the optimiser's steps of a stack, on CUDA as a graph."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from anomaly_sweep.estimators.flow.coupling import FlowShape, Permutations
from anomaly_sweep.estimators.flow.step import Step

log = logging.getLogger(__name__)


class Descent:
    """Adam on the losses of a stack, from the parameters given, which it changes.

    On CUDA a step of small flows is a few hundred kernels that take less time than their launch; they are
    captured once and launched together (a CUDA graph).

    Parameters
    ----------
    shape, parameters, permutations, x, weights
        As of `Step`.
    """

    def __init__(
        self, shape: FlowShape, parameters: Tensor, permutations: Permutations, x: Tensor, weights: Tensor
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
        self._graph = self._captured() if on_cuda else None

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
