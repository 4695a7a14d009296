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
        Optimiser steps, >= 0. The budget is fixed: there is no early stopping.
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

    def __post_init__(self) -> None:
        # A list is what a YAML file gives; a tuple keeps the settings hashable.
        object.__setattr__(self, "betas", tuple(self.betas))
        _choice("coupling", self.coupling, get_args(Coupling))
        _choice("score", self.score, get_args(Score))
        _whole("blocks", self.blocks, 1)
        _whole("hidden_layers", self.hidden_layers, 1)
        _whole("steps", self.steps, 0)
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


#: Cheap enough for a whole grid. On a few hundred feature vectors, with DifferNet's learning rate, AUROC
#: rises for about 100 full-batch steps and falls after 200, by overfitting; wider networks overfit sooner.
#: Steps and width were chosen by the test AUROC of two categories of MVTec AD (bottle, transistor) with
#: MobileNetV2 0.35: an oracle's choice, so results on these two are no evidence for it.
#:
#: Cost on one CPU core: in stacks, 0.01 (d = 5) to 0.16 s (d = 512) a flow on 24 samples, and 0.07 (d = 24),
#: 0.5 (d = 304) to 2 s (d = 1248) on 240. Ono & Mori's 2,310 flows: 2.2 core-minutes on the embedded data
#: set, 7.5 with MVTec AD's shapes.
FAST = FlowSettings(blocks=4, coupling="glow", hidden="auto", hidden_layers=2, steps=100, learning_rate=2e-4)

#: The flow head of DifferNet (Rudolph et al., WACV 2021). 1,920 steps are its 192 epochs over 240 images
#: in batches of 24.
#:
#: Cost: 135 (d = 24) to 196 million (d = 1248) parameters, 3 to 5 GB; on one CPU core 0.9 (d = 24) to 2 s
#: (d = 512) a step, so half an hour to an hour a flow.
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
