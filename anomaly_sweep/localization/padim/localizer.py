"""PaDiM (Defard et al. 2021): a Gaussian at every place over some channels of several levels.

The chosen channels of the levels, brought to the finest level's grid, are one vector a place; its anomaly
score is the Mahalanobis distance to that place's training mean under covariance + epsilon * identity. With
nearest upsampling the Gaussians are factorised and kept level by level, which gives the same distances with a
quarter of the numbers: see :mod:`anomaly_sweep.localization.padim.gaussians`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from anomaly_sweep.checks import in_range, one_of, whole
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.localization.base import Maps, Scored, Shapes, shapes_of
from anomaly_sweep.localization.padim.gaussians import (
    Factors,
    count_numbers,
    distances,
    empty_factors,
    factorise,
    unnest,
)
from anomaly_sweep.localization.padim.layout import AUTO, Layout
from anomaly_sweep.metrics.ties import ScoreScale

NEAREST, BILINEAR = "nearest", "bilinear"


class Padim:
    """Mahalanobis distance at every place to the Gaussian of the training images' features there.

    Parameters
    ----------
    levels : list of str
        Levels whose features are joined; the paper's are level2, level3 and level4.
    channels : int or "auto"
        Size of the random subset of their channels: see
        :func:`~anomaly_sweep.localization.padim.layout.choose_channels`.
    seed : int
        Of that subset, which is the same for every category.
    epsilon : float
        Added to the diagonal of the covariances; above 0.
    upsample : {"nearest", "bilinear"}
        How coarser levels reach the finest grid. nearest needs grids that divide each other; bilinear has
        no structure to share and holds about three times as much.

    Raises
    ------
    ConfigError
        For a value that is not allowed.
    """

    score_scale: ClassVar[ScoreScale] = "ratio"

    def __init__(
        self,
        *,
        levels: Sequence[str] = ("level2", "level3", "level4"),
        channels: int | str = AUTO,
        seed: int = 1024,
        epsilon: float = 0.01,
        upsample: str = NEAREST,
    ) -> None:
        if isinstance(levels, str) or not levels or len(set(levels)) < len(levels):
            raise ConfigError(f"localizer.levels={levels} is not allowed; give a list of levels, each once")
        if channels != AUTO and (isinstance(channels, bool) or not isinstance(channels, int) or channels < 1):
            raise ConfigError(
                f"localizer.channels={channels} is not allowed; allowed: {AUTO}, a whole number from 1"
            )
        whole("localizer.seed", seed, 0)
        in_range("localizer.epsilon", epsilon, 0, open_low=True)
        one_of("localizer.upsample", upsample, (NEAREST, BILINEAR))
        self._levels = tuple(levels)
        self._channels, self._seed, self._epsilon, self._upsample = channels, seed, epsilon, upsample
        self._layout: Layout | None = None
        self._held: list[list[Tensor]] = []
        self._factors: list[Factors] = []

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of the backbone that it reads."""
        return self._levels

    @property
    def state_bytes(self) -> int:
        """Bytes of the means and factors; 0 before ``finish``."""
        return sum(t.numel() * t.element_size() for row in self._factors for t in row.tensors)

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        """The most bytes held while fitting: the chosen features of all images, the state, one band.

        Raises
        ------
        ConfigError
            If the maps have too few channels, or grids that do not divide each other.
        """
        layout = self._plan(shapes)
        held, state = n_images * layout.image_numbers, count_numbers(layout.sizes)
        return 4 * (held + state) + layout.fit_bands(n_images)[1]

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        """Of covariances and whitened features level by level, of their factors, and whitening an image."""
        total, before = 0.0, 0
        for cells, channels in self._plan(shapes).sizes:
            image = 2.0 * cells * channels * (before + channels)  # a product with what each level adds
            total += (2 * n_train + n_test) * image + 2.0 * cells * channels**3
            before += channels
        return total

    @torch.no_grad()
    def partial_fit(self, maps: Maps) -> None:
        """Keep the chosen channels of a batch of good images.

        Raises
        ------
        ConfigError
            As :meth:`fit_bytes`.
        EstimatorError
            If a level is missing, or the maps are of other shapes than those before.
        """
        shapes = shapes_of(maps, self._levels, self._known)
        if self._layout is None:
            self._layout = self._plan(shapes)
        self._held.append([part.take(maps) for part in self._layout.parts])

    @torch.no_grad()
    def finish(self) -> None:
        """Factorise the Gaussians of all places, in float64, and drop the features.

        Raises
        ------
        EstimatorError
            If there were fewer than 2 images, or a covariance is not positive definite.
        """
        n = sum(batch[0].shape[1] for batch in self._held)
        if self._layout is None or n < 2:
            raise EstimatorError(f"PaDiM's covariances need 2 training images, there are {n}")
        device = self._held[0][0].device
        # Metal has no float64.
        work = torch.device("cpu") if device.type == "mps" else device
        factors = empty_factors(self._layout.sizes, device)
        for band in self._layout.fit_bands(n)[0]:
            blocks = [
                part.features([batch[i] for batch in self._held], band).to(work)
                for i, part in enumerate(self._layout.parts)
            ]
            for row, fitted in zip(factors, factorise(blocks, self._epsilon), strict=True):
                for target, source in zip(row.of(band).tensors, fitted.tensors, strict=True):
                    target.copy_(source)
        self._factors, self._held = factors, []

    @torch.no_grad()
    def score(self, maps: Maps) -> Scored:
        """Mahalanobis distances on the finest level's grid.

        Raises
        ------
        EstimatorError
            If nothing was fitted, the maps are of other shapes than the training images', or a distance
            is not finite.
        """
        if self._layout is None or not self._factors:
            raise EstimatorError("PaDiM scores after partial_fit and finish")
        shapes_of(maps, self._levels, self._known)
        layout = self._layout
        taken = [part.take(maps) for part in layout.parts]
        b = taken[0].shape[1]
        found = taken[0].new_empty(layout.places, b)
        for band in layout.score_bands(b):
            blocks = [part.features([values], band) for part, values in zip(layout.parts, taken, strict=True)]
            places = band.of(found)
            places.copy_(distances(blocks, [row.of(band) for row in self._factors], len(places)))
        if not found.isfinite().all():
            raise EstimatorError("PaDiM's distances are not finite: the feature maps hold NaN or infinity")
        return Scored(unnest(found, [part.modelled for part in layout.parts] + [layout.finest]))

    @property
    def _known(self) -> Shapes | None:
        return None if self._layout is None else self._layout.shapes

    def _plan(self, shapes: Shapes) -> Layout:
        read = {level: shapes[level] for level in self._levels}
        return Layout.of(read, self._channels, self._seed, nearest=self._upsample == NEAREST)
