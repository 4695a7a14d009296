"""What every localizer is: fitted from a stream of feature maps, scoring feature maps place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from anomaly_sweep.errors import EstimatorError

#: Level -> feature maps (b, c, h, w), float32, all on one device.
Maps = Mapping[str, Tensor]

#: Level -> (channels, height, width) of its feature maps.
Shapes = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Scored:
    """Anomaly scores of a batch of images.

    Attributes
    ----------
    grid : Tensor of shape (b, gh, gw), float32
        A score for each place of the localizer's grid; higher = more anomalous, finite.
    image : Tensor of shape (b,), float32, or None
        The localizer's own image score. None: the maximum of the finished anomaly map.
    """

    grid: Tensor
    image: Tensor | None = None


class Localizer(Protocol):
    """A model of the feature maps of good images.

    Training images come as a stream of batches, each image once: ``partial_fit`` for every batch, then
    ``finish`` once, then ``score`` as often as wanted. How the stream is cut into batches, and the size of
    the batches that are scored, does not change a score (beyond rounding).

    One whose scores are distances (not negative, with a natural zero) says so by an attribute
    ``score_scale = "ratio"``; see :mod:`anomaly_sweep.metrics.ties`.
    """

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of the backbone that it reads, shallowest first."""
        ...

    def partial_fit(self, maps: Maps) -> None:
        """Take in the maps of a batch of good images."""
        ...

    def finish(self) -> None:
        """Make the fitted state of what was taken in.

        Raises
        ------
        EstimatorError
            If there were too few images, or what they give cannot be fitted.
        """
        ...

    def score(self, maps: Maps) -> Scored:
        """Scores of a batch of images."""
        ...

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        """The most bytes that fitting ``n_images`` images with maps of these shapes will hold."""
        ...

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        """About how many floating point operations fitting and scoring so many images take: for forecasts."""
        ...

    @property
    def state_bytes(self) -> int:
        """Bytes of the fitted state that scoring uses."""
        ...


def check_finite(name: str, scores: Tensor) -> None:
    """Raise EstimatorError, naming the localizer, unless all scores are finite."""
    if not bool(torch.isfinite(scores).all()):
        raise EstimatorError(f"{name}: the feature maps to score hold values that are not finite")


def shapes_of(maps: Maps, levels: Sequence[str], known: Shapes | None) -> dict[str, tuple[int, int, int]]:
    """Channels, height and width of the levels' maps.

    Raises
    ------
    EstimatorError
        If a level is missing, or a shape is not the one that is known from before.
    """
    for level in levels:
        if level not in maps:
            raise EstimatorError(f"the feature maps lack {level}; they have {', '.join(maps)}")
    shapes = {level: (maps[level].shape[1], *maps[level].shape[2:]) for level in levels}
    for level, shape in shapes.items():
        if known is not None and shape != known[level]:
            raise EstimatorError(
                f"feature maps of {level} are {'x'.join(map(str, shape))}, those of the first training "
                f"images {'x'.join(map(str, known[level]))}: all images must have one size"
            )
    return shapes
