"""A trained flow, and scoring many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.flow.coupling import FlowShape, Permutations, forward, inverse
from anomaly_sweep.estimators.flow.data import Floats, Whitener, as_matrix, pad
from anomaly_sweep.estimators.flow.settings import Score


@dataclass(frozen=True, eq=False)
class FittedFlow:
    """One trained flow.

    It is trained in float32 and used in float64: far from the training data the latent grows without bound,
    and scores there must neither overflow nor tie.

    Attributes
    ----------
    parameters : list of float32 tensors
        See `anomaly_sweep.estimators.flow.coupling`, without the stack dimension.
    permutations : int64 tensor, (blocks, d)
    shape : FlowShape
    whitener : Whitener
    losses : float64 array, (steps + 1,)
        Mean over the step's samples of ``(|z|^2 / 2 - log_det) / d`` on whitened data before every step taken
        and, over all samples, after the last.
    """

    parameters: list[Tensor]
    permutations: Tensor
    shape: FlowShape
    whitener: Whitener
    losses: Floats

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.losses) - 1

    def score_samples(self, x: ArrayLike, score: Score | None = None) -> Floats:
        """Anomaly scores: `score_stack` of this flow alone."""
        return score_stack([self], [x], score)[0]

    def transform(self, x: ArrayLike) -> Floats:
        """Latents ``(n, d)`` of samples ``(n, d)``."""
        ((z, _),) = _latents([self], [x])
        return z

    def inverse_transform(self, z: ArrayLike) -> Floats:
        """Samples ``(n, d)`` of latents ``(n, d)``."""
        latents = self._matrix(z)
        device = self._device
        with torch.no_grad():
            x = inverse(
                [p.double()[None] for p in self.parameters],
                Permutations.of([self.permutations], device),
                pad([latents], torch.float64, device),
                self.shape,
            )
        return self.whitener.inverse(x[0].T.cpu().numpy())

    def _matrix(self, x: ArrayLike) -> Floats:
        matrix = as_matrix(x, least=1)
        if matrix.shape[1] != self.shape.d:
            raise EstimatorError(
                f"flow: fitted to {self.shape.d} dimensions but asked to score {matrix.shape[1]}"
            )
        return matrix

    @property
    def _device(self) -> torch.device:
        return self.parameters[0].device if self.parameters else torch.device("cpu")


def score_stack(
    flows: Sequence[FittedFlow], matrices: Sequence[ArrayLike], score: Score | None = None
) -> list[Floats]:
    """Anomaly scores of every flow on its own samples.

    Parameters
    ----------
    flows : sequence of FittedFlow
        Of the same shape.
    matrices : sequence of array_like, (n_i, d)
    score : {"z2", "nll"}, optional
        "z2": mean over dimensions of the squared latent, as DifferNet scores; no log-determinant. "nll":
        negative log-likelihood of the sample in nats. By default what the settings say.

    Returns
    -------
    list of float64 arrays, (n_i,)
        Higher = more anomalous.

    Raises
    ------
    EstimatorError
        If samples are not finite or have the wrong number of dimensions, or a score is not finite.
    ValueError
        If the flows are not of one shape or the numbers of flows and matrices differ.
    """
    scores = []
    for flow, (z, log_det) in zip(flows, _latents(flows, matrices), strict=True):
        with np.errstate(over="ignore"):
            energy = np.square(z)
        if (score or flow.shape.settings.score) == "z2":
            values = energy.mean(1)
        else:
            base = energy.sum(1) / 2 + flow.shape.d * math.log(2 * math.pi) / 2
            values = base - log_det - flow.whitener.log_det
        if not np.isfinite(values).all():
            raise EstimatorError("flow: a score overflows: the samples are too far from the training data")
        scores.append(values)
    return scores


def _latents(flows: Sequence[FittedFlow], matrices: Sequence[ArrayLike]) -> list[tuple[Floats, Floats]]:
    """Latents ``(n_i, d)`` and log-determinants ``(n_i,)`` on whitened data."""
    if len(flows) != len(matrices) or len({flow.shape for flow in flows}) > 1:
        raise ValueError("flows of one stack must be of one shape and have one matrix each")
    if not flows:
        return []
    device = flows[0]._device
    data = [flow.whitener(flow._matrix(x)) for flow, x in zip(flows, matrices, strict=True)]
    with torch.no_grad():
        z, log_det = forward(
            [torch.stack(same).double() for same in zip(*(f.parameters for f in flows), strict=True)],
            Permutations.of([flow.permutations for flow in flows], device),
            pad(data, torch.float64, device),
            flows[0].shape,
        )
    latents, logs = z.cpu().numpy(), log_det.cpu().numpy()
    return [(latents[i, :, : len(x)].T, logs[i, : len(x)]) for i, x in enumerate(data)]
