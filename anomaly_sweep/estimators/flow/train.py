"""Training many flows at once, each as if it were alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.flow.batches import batches, row_weights
from anomaly_sweep.estimators.flow.coupling import FlowShape, Permutations, initial_member, loss
from anomaly_sweep.estimators.flow.data import Floats, Standardizer, as_matrix, pad
from anomaly_sweep.estimators.flow.descent import Descent
from anomaly_sweep.estimators.flow.fitted import FittedFlow
from anomaly_sweep.estimators.flow.settings import FAST, FlowSettings


def train_stack(
    matrices: Sequence[ArrayLike],
    seeds: Sequence[int],
    settings: FlowSettings = FAST,
    device: str = "cpu",
) -> list[FittedFlow | EstimatorError]:
    """Train one flow on every matrix, all of them in the same optimiser steps.

    A member's result depends on its own data and seed only: initial parameters, permutations and the order
    of its minibatches come from a generator of its own, the loss is the sum over members of the mean over
    a member's own rows, and Adam works on each parameter by itself. Stacking changes rounding, not more.
    The global random state is neither read nor changed.

    Parameters
    ----------
    matrices : sequence of array_like, (n_i, d)
        Training data; `d` is common, ``n_i >= 2`` may differ.
    seeds : sequence of int
        One for each matrix, taken modulo ``2**63``.
    settings : FlowSettings
    device : {"cpu", "cuda"} or "cuda:N"
        Where to train; the fitted flows stay there.

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
        If the numbers of matrices and seeds, or the numbers of dimensions, differ.
    """
    if len(matrices) != len(seeds):
        raise ValueError(f"{len(matrices)} matrices but {len(seeds)} seeds")
    target = _device(device)
    results: dict[int, FittedFlow | EstimatorError] = {}
    members: list[_Member] = []
    for index, (matrix, seed) in enumerate(zip(matrices, seeds, strict=True)):
        try:
            x = as_matrix(matrix, least=2)
            standardizer = Standardizer.of(x)
        except EstimatorError as error:
            results[index] = error
        else:
            members.append(_Member(index, standardizer(x), seed, standardizer))
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
    standardizer: Standardizer


def _train(
    members: Sequence[_Member], shape: FlowShape, device: torch.device
) -> list[FittedFlow | EstimatorError]:
    settings = shape.settings
    sizes = [len(member.x) for member in members]
    generators = [torch.Generator().manual_seed(int(member.seed) % 2**63) for member in members]
    initial = [initial_member(shape, generator) for generator in generators]
    parameters = torch.empty(len(members) * shape.parameters)
    for view, same in zip(shape.views(parameters), zip(*(p for p, _ in initial), strict=True), strict=True):
        torch.stack(same, out=view)
    parameters = parameters.to(device)
    permutations = Permutations.of([order for _, order in initial], device)
    data = pad([member.x for member in members], torch.float32, device)
    everything = row_weights(sizes, data.shape[2]).to(device)
    # Losses stay on the device until the end: reading one at every step would make the host wait.
    losses = torch.empty(settings.steps + 1, len(members), device=device)
    if shape.blocks and settings.steps:
        x, weights = data, everything
        if settings.batch_size != "full":
            rows = settings.rows(max(sizes))
            x, weights = data[:, :, :rows].clone(), everything[:, :rows].clone()
            steps = batches(sizes, generators, settings.batch_size)
        descent = Descent(shape, parameters, permutations, x, weights)
        for step in range(settings.steps):
            if settings.batch_size != "full":
                columns, own = next(steps)
                torch.gather(data, 2, columns.to(device)[:, None].expand_as(x), out=x)
                weights.copy_(own)
            descent.advance()
            losses[step] = descent.step.loss
    trained = shape.views(parameters.detach())
    losses[settings.steps] = loss(trained, permutations, data, everything, shape)
    history = losses.cpu().double().numpy()
    if not shape.blocks:
        history[:] = history[-1]

    return [
        _diverged(own, member, shape)
        or FittedFlow([p[position].clone() for p in trained], order, shape, member.standardizer, own)
        for position, (member, (_, order), own) in enumerate(zip(members, initial, history.T, strict=True))
    ]


def _diverged(losses: Floats, member: _Member, shape: FlowShape) -> EstimatorError | None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if not bad.size:
        return None
    n, rate = len(member.x), shape.settings.learning_rate
    return EstimatorError(
        f"flow: training diverged: the loss is not finite after step {bad[0]} of {shape.settings.steps} "
        f"({n} samples, {shape.d} dimensions, learning rate {rate:g})"
    )
