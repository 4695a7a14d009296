"""What a flow is made of and how it is trained: `FlowSettings` and its presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from anomaly_sweep.errors import EstimatorError

Coupling = Literal["glow", "realnvp"]
Score = Literal["z2", "nll"]
Whitening = Literal["ledoit_wolf", "standard"]
Start = Literal["identity", "random"]


@dataclass(frozen=True)
class FlowSettings:
    """Architecture and training budget of a coupling flow.

    Parameters
    ----------
    blocks : int
        Coupling blocks, >= 1. Each begins with a fixed random permutation of the dimensions.
    coupling : {"glow", "realnvp"}
        "glow" transforms both halves in every block, each conditioned on the other; "realnvp" transforms
        the second half only, conditioned on the first.
    hidden : int or "auto"
        Width of the hidden layers of the networks that give scale and shift, >= 1. "auto" depends on the
        number of dimensions only: see `width`.
    hidden_layers : int
        Hidden layers of these networks, >= 1, each followed by a ReLU.
    clamp : float
        Bound of a log-scale, > 0: ``clamp * 0.636 * atan(s / clamp)``.
    steps : int
        Optimiser steps, >= 0; with `folds` at most so many.
    folds : int
        0 for all the steps; 2 or more to choose their number by the likelihood of held-back training samples,
        as `anomaly_sweep.estimators.flow.choice` says.
    patience : int
        Steps, >= 1, that a choice looks past twice the best number so far.
    whiten : {"ledoit_wolf", "standard"}
        What the first block sees: data whitened by their Ledoit-Wolf covariance, or standardised dimension by
        dimension.
    start : {"identity", "random"}
        Couplings that begin as the identity, so that a flow of no steps is the Gaussian of its whitening
        (with "ledoit_wolf" and score "z2" the squared Mahalanobis distance over `d`), or as
        `torch.nn.Linear` begins.
    batch_size : int or "full"
        Rows in a step, >= 1, in a new random order every epoch; "full" for all rows in every step.
    learning_rate, betas, eps, weight_decay : float, (float, float), float, float
        Of Adam; the weight decay is an L2 penalty, as in `torch.optim.Adam`.
    score : {"z2", "nll"}
        Anomaly score: the mean over dimensions of the squared latent, as DifferNet publishes it, or the
        negative log-likelihood in nats.

    Raises
    ------
    EstimatorError
        If a value is outside its range.
    """

    blocks: int
    coupling: Coupling
    hidden: int | Literal["auto"]
    hidden_layers: int
    steps: int
    learning_rate: float
    clamp: float = 3.0
    batch_size: int | Literal["full"] = "full"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    score: Score = "z2"
    folds: int = 0
    patience: int = 10
    whiten: Whitening = "standard"
    start: Start = "random"

    def __post_init__(self) -> None:
        # A list is what a YAML file gives; a tuple keeps the settings hashable.
        object.__setattr__(self, "betas", tuple(self.betas))
        _choice("coupling", self.coupling, get_args(Coupling))
        _choice("score", self.score, get_args(Score))
        _choice("whiten", self.whiten, get_args(Whitening))
        _choice("start", self.start, get_args(Start))
        _whole("blocks", self.blocks, 1)
        _whole("hidden_layers", self.hidden_layers, 1)
        _whole("steps", self.steps, 0)
        _whole("folds", self.folds, 0)
        _whole("patience", self.patience, 1)
        if self.folds == 1:
            raise EstimatorError("flow: folds must be 0 (all steps are taken) or at least 2, got 1")
        if self.hidden != "auto":
            _whole("hidden", self.hidden, 1, ' or "auto"')
        if self.batch_size != "full":
            _whole("batch_size", self.batch_size, 1, ' or "full"')
        _real("learning_rate", self.learning_rate, positive=True)
        _real("clamp", self.clamp, positive=True)
        _real("eps", self.eps, positive=True)
        _real("weight_decay", self.weight_decay, positive=False)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise EstimatorError(f"flow: betas must be two numbers in [0, 1), got {self.betas!r}")

    def width(self, d: int) -> int:
        """Width of the hidden layers for `d` dimensions: twice `d` between 16 and 64 if "auto"."""
        return min(64, max(16, 2 * d)) if self.hidden == "auto" else self.hidden

    @property
    def usual_steps(self) -> int:
        """About how many steps training takes in all, those of the folds included."""
        return self.folds * min(self.steps, 2 * self.patience) if self.folds else self.steps

    def rows(self, n: int) -> int:
        """Rows in a step on `n` samples."""
        return n if self.batch_size == "full" else min(n, self.batch_size)


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise EstimatorError(f"flow: {name} must be one of {', '.join(allowed)}, got {value!r}")


def _whole(name: str, value: object, least: int, also: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise EstimatorError(f"flow: {name} must be a whole number >= {least}{also}, got {value!r}")


def _real(name: str, value: object, *, positive: bool) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (positive and value == 0):  # type: ignore[operator]
        raise EstimatorError(f"flow: {name} must be a number {'>' if positive else '>='} 0, got {value!r}")


#: Cheap enough for a whole grid, and no further from the Gaussian than the training data say: a small flow
#: that begins as MVG (estimators/gaussian.py) and takes the steps that held-back training samples speak for.
#: How it was chosen: docs/evidence.md.
FAST = FlowSettings(
    blocks=4,
    coupling="glow",
    hidden="auto",
    hidden_layers=2,
    steps=100,
    learning_rate=1e-3,
    folds=5,
    whiten="ledoit_wolf",
    start="identity",
)

#: The flow head of DifferNet (Rudolph et al., WACV 2021). 1,920 steps are its 192 epochs over 240 images
#: in batches of 24. What it costs: docs/evidence.md.
DIFFERNET = FlowSettings(
    blocks=8,
    coupling="glow",
    hidden=2048,
    hidden_layers=3,
    steps=1920,
    batch_size=24,
    learning_rate=2e-4,
    betas=(0.8, 0.8),
    eps=1e-4,
    weight_decay=1e-5,
)

PRESETS: Mapping[str, FlowSettings] = MappingProxyType({"fast": FAST, "differnet": DIFFERNET})


def flow_settings(preset: str = "fast", **changes: Any) -> FlowSettings:
    """A preset with some of its values changed.

    Parameters
    ----------
    preset : str
        Key of `PRESETS`.
    **changes
        Fields of `FlowSettings`.

    Raises
    ------
    EstimatorError
        If the preset or a field is unknown, or a value is outside its range.
    """
    _choice("preset", preset, tuple(PRESETS))
    known = {field.name for field in fields(FlowSettings)}
    if unknown := sorted(set(changes) - known):
        raise EstimatorError(f"flow: no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return replace(PRESETS[preset], **changes)
