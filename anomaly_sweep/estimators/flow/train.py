"""Training many flows at once, each as if it were alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.flow.choice import Refit, choose, fold_samples, is_decided
from anomaly_sweep.estimators.flow.coupling import FlowShape, Permutations, forward, initial_member, loss
from anomaly_sweep.estimators.flow.data import Floats, Whitener, as_matrix, batches, pad, row_weights
from anomaly_sweep.estimators.flow.descent import Descent
from anomaly_sweep.estimators.flow.fitted import FittedFlow
from anomaly_sweep.estimators.flow.settings import FAST, FlowSettings

#: Steps between two looks at held-back likelihoods.
_LOOK = 4

#: A stack goes on without the members whose choice is decided once the others are at most this share of it:
#: making a stack takes about as long as two of its steps.
_THINNED = 0.8


def train_stack(
    matrices: Sequence[ArrayLike],
    seeds: Sequence[int],
    settings: FlowSettings = FAST,
    device: str = "cpu",
    refits: Sequence[Refit | None] | None = None,
) -> list[FittedFlow | EstimatorError]:
    """Train one flow on every matrix, all of them in the same optimiser steps.

    A member's result depends on its own data and seed only: initial parameters, permutations and the order
    of its minibatches come from a generator of its own, the loss is the sum over members of the mean over
    a member's own rows, Adam works on each parameter by itself, and each stops at its own number of steps.
    Stacking changes rounding, not more. The global random state is neither read nor changed.

    Parameters
    ----------
    matrices : sequence of array_like, (n_i, d)
        Training data; `d` is common, ``n_i >= 2`` may differ.
    seeds : sequence of int
        One for each matrix, taken modulo ``2**63``.
    settings : FlowSettings
    device : {"cpu", "cuda"} or "cuda:N"
        Where to train; the fitted flows stay there.
    refits : sequence of callables or None, optional
        One for each matrix that is a reduction fitted to its own samples; used where the settings have
        `folds`: see `anomaly_sweep.estimators.flow.choice`. None: the matrix's rows as they are.

    Returns
    -------
    list of FittedFlow or EstimatorError
        One for each matrix. A member whose data cannot be used, or whose training diverged, is the error
        that says why, and when; the others do not notice.

    Raises
    ------
    EstimatorError
        If the device is unknown or not there.
    ValueError
        If the numbers of matrices, seeds and refits, or the numbers of dimensions, differ.
    """
    if len(matrices) != len(seeds):
        raise ValueError(f"{len(matrices)} matrices but {len(seeds)} seeds")
    if refits is not None and len(refits) != len(matrices):
        raise ValueError(f"{len(matrices)} matrices but {len(refits)} refits")
    target = _device(device)
    results: dict[int, FittedFlow | EstimatorError] = {}
    members: list[_Member] = []
    for index, (matrix, seed) in enumerate(zip(matrices, seeds, strict=True)):
        try:
            x = as_matrix(matrix, least=2)
            Whitener.of(x, "standard")
        except EstimatorError as error:
            results[index] = error
        else:
            members.append(_Member(index, x, seed, None if refits is None else refits[index]))
    dimensions = {member.x.shape[1] for member in members}
    if len(dimensions) > 1:
        raise ValueError(f"flows of one stack must have the same dimensions, got {sorted(dimensions)}")
    if members:
        shape = FlowShape(dimensions.pop(), settings)
        fitted = _train(members, shape, target)
        results.update(zip((member.index for member in members), fitted, strict=True))
    return [results[index] for index in range(len(matrices))]


def _device(name: str) -> torch.device:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise EstimatorError(f"flow: device must be cpu, cuda or cuda:N, got {name!r}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EstimatorError(
            f"flow: device {name!r} asked for, but {torch.cuda.device_count()} GPUs are there"
        )
    return device


@dataclass(frozen=True)
class _Member:
    index: int
    x: Floats
    seed: int
    refit: Refit | None


@dataclass(frozen=True)
class _Part:
    """What a flow is trained on: the first `rows` of the whitened samples. It is scored on all of them."""

    x: Floats
    rows: int
    seed: int


class _Descending:
    """Flows of one shape on their way down, all taking the same steps.

    Attributes
    ----------
    parameters : list of tensors
        The current ones, as `FlowShape.views`.
    losses : list of tensors, (S,)
        Before each step taken, of the flows then there.
    """

    def __init__(
        self, parts: Sequence[_Part], shape: FlowShape, device: torch.device, *, still: bool = False
    ) -> None:
        self.shape = shape
        self.sizes = [part.rows for part in parts]
        generators = [torch.Generator().manual_seed(int(part.seed) % 2**63) for part in parts]
        initial = [initial_member(shape, generator) for generator in generators]
        numbers = torch.empty(len(parts) * shape.parameters)
        for view, same in zip(shape.views(numbers), zip(*(p for p, _ in initial), strict=True), strict=True):
            torch.stack(same, out=view)
        numbers = numbers.to(device)
        self.orders = [order for _, order in initial]
        self.permutations = Permutations.of(self.orders, device)
        self.data = pad([part.x for part in parts], torch.float32, device)
        self.weights = row_weights(self.sizes, self.data.shape[2]).to(device)
        self.losses: list[Tensor] = []
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None
        self._places = torch.arange(len(parts))
        self._descent: Descent | None = None
        if not still:
            x, weights = self.data, self.weights
            if shape.settings.batch_size != "full":
                rows = shape.settings.rows(max(self.sizes))
                x, weights = self.data[:, :, :rows].clone(), self.weights[:, :rows].clone()
                self._batches = batches(self.sizes, generators, shape.settings.batch_size)
            self._x, self._weights = x, weights
            self._descent = Descent(shape, numbers, self.permutations, x, weights)
        self.parameters = shape.views(numbers.detach())

    def advance(self) -> None:
        """Take a step."""
        assert self._descent is not None
        if self._batches is not None:
            columns, weights = (part[self._places] for part in next(self._batches))
            columns = columns.to(self.data.device)[:, None].expand_as(self._x)
            torch.gather(self.data, 2, columns, out=self._x)
            self._weights.copy_(weights)
        self._descent.advance()
        self.losses.append(self._descent.step.loss.clone())

    def only(self, places: Sequence[int]) -> None:
        """Go on with some of the flows (their places, in order), as they would have gone on with all.

        Not on CUDA, where a step of small flows takes as long whatever their number.
        """
        assert self._descent is not None
        index = torch.tensor(places)

        def some(numbers: Tensor) -> Tensor:
            return torch.cat([view[index].flatten() for view in self.shape.views(numbers)])

        moments = {
            name: some(moment) if moment.ndim else moment for name, moment in self._descent.moments.items()
        }
        numbers = torch.cat([view[index].flatten() for view in self.parameters])
        self.sizes = [self.sizes[place] for place in places]
        self.orders = [self.orders[place] for place in places]
        self.permutations = Permutations.of(self.orders, self.data.device)
        whole = self._x is self.data
        self.data, self.weights, self._places = self.data[index], self.weights[index], self._places[index]
        self._x = self.data if whole else self._x[index]
        self._weights = self.weights if whole else self._weights[index]
        self._descent = Descent(
            self.shape, numbers, self.permutations, self._x, self._weights, moments=moments
        )
        self.parameters = self.shape.views(numbers.detach())

    def advance_and_score(self) -> Tensor:
        """Take a step; ``|z|^2 / 2 - log_det`` of every sample before it, ``(S, n)``."""
        if self._batches is None:
            self.advance()
            assert self._descent is not None
            return self._descent.step.nll.clone()
        with torch.no_grad():
            z, log_det = forward(self.parameters, self.permutations, self.data, self.shape)
        self.advance()
        return z.square().sum(1) * 0.5 - log_det


def _steps(members: Sequence[_Member], shape: FlowShape, device: torch.device) -> list[int]:
    """How many steps each member is worth: see `choice`."""
    settings = shape.settings
    if not settings.folds or not settings.steps or not shape.blocks:
        return [settings.steps] * len(members)
    parts: list[_Part] = []
    scales: list[float] = []
    folds: dict[int, slice] = {}
    for i, member in enumerate(members):
        begun = len(parts)
        for rows in fold_samples(len(member.x), settings.folds):
            x = member.x if member.refit is None else member.refit(rows)
            whitener = Whitener.of(x[rows], settings.whiten)
            held = np.setdiff1d(np.arange(len(x)), rows)
            parts.append(_Part(whitener(x[np.append(rows, held)]), len(rows), member.seed))
            scales.append(whitener.log_det)
        if len(parts) > begun:
            folds[i] = slice(begun, len(parts))
    if not folds:
        return [0] * len(members)
    curves = _curves(parts, scales, list(folds.values()), shape, device)
    chosen = {i: choose(curve, settings.patience) for i, curve in zip(folds, curves, strict=True)}
    return [chosen.get(i, 0) for i in range(len(members))]


def _curves(
    parts: Sequence[_Part],
    scales: Sequence[float],
    members: Sequence[slice],
    shape: FlowShape,
    device: torch.device,
) -> list[Floats]:
    """Negative log-likelihoods of held-back samples after 0, 1, ... steps, ``(steps + 1, n)`` a member.

    Without the Gaussian's constant. They end when the member's choice is decided, or somewhat later.
    """
    settings = shape.settings
    flows = _Descending(parts, shape, device)
    found: list[list[Floats]] = [[] for _ in members]
    waiting: list[Tensor] = []
    going = list(range(len(members)))
    places = {part: part for part in range(len(parts))}
    for step in range(settings.steps + 1):
        waiting.append(flows.advance_and_score())
        if len(waiting) < _LOOK and step < settings.steps:
            continue  # reading at every step would make the host wait
        seen = torch.stack(waiting).cpu().double().numpy()
        waiting = []
        for m in going:
            held = [
                seen[:, places[i], parts[i].rows : len(parts[i].x)] - scales[i]
                for i in range(members[m].start, members[m].stop)
            ]
            found[m].append(np.concatenate(held, 1))
        more = [m for m in going if not is_decided(np.concatenate(found[m]).mean(1), settings.patience)]
        if not more:
            break
        if device.type == "cpu" and step < settings.steps and len(more) <= _THINNED * len(going):
            some = [i for m in more for i in range(members[m].start, members[m].stop)]
            flows.only([places[i] for i in some])
            going, places = more, {part: place for place, part in enumerate(some)}
    return [np.concatenate(curve) for curve in found]


def _train(
    members: Sequence[_Member], shape: FlowShape, device: torch.device
) -> Iterator[FittedFlow | EstimatorError]:
    """In the order of the members."""
    steps = _steps(members, shape, device)
    found: dict[int, FittedFlow | EstimatorError] = {}
    for still in (True, False):
        some = [i for i in range(len(members)) if (steps[i] == 0 or not shape.blocks) is still]
        if some:
            fitted = _fit([members[i] for i in some], [steps[i] for i in some], shape, device)
            found |= zip(some, fitted, strict=True)
    return (found[i] for i in range(len(members)))


def _fit(
    members: Sequence[_Member], steps: Sequence[int], shape: FlowShape, device: torch.device
) -> list[FittedFlow | EstimatorError]:
    """Train every member on all its samples, for its own number of steps. All take some or none does."""
    whiteners = [Whitener.of(member.x, shape.settings.whiten) for member in members]
    parts = [
        _Part(whitener(member.x), len(member.x), member.seed)
        for member, whitener in zip(members, whiteners, strict=True)
    ]
    taken = steps if shape.blocks else [0] * len(steps)
    flows = _Descending(parts, shape, device, still=not any(taken))
    trained = [view.clone() for view in flows.parameters] if len(set(taken)) > 1 else flows.parameters
    for step in range(1, max(taken) + 1):
        flows.advance()
        if trained is not flows.parameters and step in taken:
            ended = [i for i, count in enumerate(taken) if count == step]
            for view, now in zip(trained, flows.parameters, strict=True):
                view[ended] = now[ended]
    last = loss(trained, flows.permutations, flows.data, flows.weights, shape)
    history = torch.stack([*flows.losses, last]).cpu().double().numpy()
    results: list[FittedFlow | EstimatorError] = []
    for i, (member, count) in enumerate(zip(members, taken, strict=True)):
        losses = np.append(history[:count, i], history[-1, i])
        results.append(
            _diverged(losses, member, shape)
            or FittedFlow([p[i].clone() for p in trained], flows.orders[i], shape, whiteners[i], losses)
        )
    return results


def _diverged(losses: Floats, member: _Member, shape: FlowShape) -> EstimatorError | None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if not bad.size:
        return None
    n, rate = len(member.x), shape.settings.learning_rate
    return EstimatorError(
        f"flow: training diverged: the loss is not finite after step {bad[0]} of {len(losses) - 1} "
        f"({n} samples, {shape.d} dimensions, learning rate {rate:g})"
    )
