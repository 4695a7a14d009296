"""Ridge regression between two levels: the error of predicting the deeper from the shallower is the score."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from anomaly_sweep.checks import in_range, odd, one_of
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.localization.base import Maps, Scored, Shapes, check_finite, shapes_of
from anomaly_sweep.localization.render import rendering
from anomaly_sweep.localization.ridge.neighborhood import AVERAGE, CONCATENATE, Joining, cells, chain, window
from anomaly_sweep.localization.ridge.regression import Ridge, Sums
from anomaly_sweep.metrics.ties import ScoreScale

GCV = "gcv"
#: What ``alpha=gcv`` chooses from: half decades.
ALPHAS = tuple(10 ** (exponent / 2) for exponent in range(-12, 3))

#: ``norm=standardized``: no output's training error counts as less than this share of all outputs' RMS error.
LEAST_ERROR = 1e-2

#: Errors that are in memory at once when scoring: with more, their pages are new each time.
CHUNK = 2**22


class RidgeLocalizer:
    """Score of a place: how badly its deeper features are predicted from its shallower ones.

    Nakaseko & Takahashi (2023). The arguments are what the paper leaves open.

    Parameters
    ----------
    source, target : str
        Levels: the shallower explains the deeper.
    grid : {"target", "source"}
        Whose grid is used. The other level is resized: the source brought down by ``join``, the target up
        bilinearly.
    join : {"average", "concatenate"}
        For ``grid=target``: the mean of the source's places in a target's cell, or all of them.
    neighborhood : int
        Side of the neighbourhood that a place of the source stands for, on its own grid; odd, 1 for none.
    neighbors : {"average", "concatenate"}
        The neighbourhood's mean, or all of it. The paper concatenates (section 3, on the extraction of
        features); it does not state the size.
    target_neighborhood : int
        Side of the neighbourhood that the target is averaged over, on its own grid; odd, 1 for none.
    intercept : {"place", "shared"}
        An intercept for every place (the images are aligned; where they are not, places differ little and it
        changes little), or one for all.
    alpha : float or "gcv"
        Penalty, relative to the mean eigenvalue of the source's centred Gram matrix; ``gcv`` takes the best
        of 1e-6 to 10 by generalised cross-validation on the training images.
    norm : {"l2", "squared", "standardized"}
        Norm of the error: Euclidean, its square, or the square with each output's error in units of its RMS
        training error.

    Raises
    ------
    ConfigError
        For a value that is not allowed.

    Notes
    -----
    How the defaults were chosen: docs/ridge_study.md.
    """

    score_scale: ClassVar[ScoreScale] = "ratio"

    def __init__(
        self,
        *,
        source: str = "level3",
        target: str = "level4",
        grid: str = "target",
        join: str = AVERAGE,
        neighborhood: int = 3,
        neighbors: str = CONCATENATE,
        target_neighborhood: int = 1,
        intercept: str = "place",
        alpha: float | str = 1e-3,
        norm: str = "l2",
    ) -> None:
        if source == target:
            raise ConfigError(f"localizer.target={target} is the source as well; name two levels")
        one_of("localizer.grid", grid, ("target", "source"))
        one_of("localizer.join", join, (AVERAGE, CONCATENATE))
        one_of("localizer.neighbors", neighbors, (AVERAGE, CONCATENATE))
        one_of("localizer.intercept", intercept, ("place", "shared"))
        one_of("localizer.norm", norm, ("l2", "squared", "standardized"))
        for key, side in (("neighborhood", neighborhood), ("target_neighborhood", target_neighborhood)):
            odd(f"localizer.{key}", side)
        if isinstance(alpha, str):
            one_of("localizer.alpha", alpha, (GCV,))
        else:
            in_range("localizer.alpha", alpha, 0, 1e12, open_low=True)
        self._source, self._target = source, target
        self._on_source, self._join = grid == "source", join
        self._side, self._neighbors, self._target_side = neighborhood, neighbors, target_neighborhood
        self._by_place, self._alpha, self._norm = intercept == "place", alpha, norm
        self._shapes: Shapes = {}
        self._sums: Sums | None = None
        self._weights = self._offset = self._shares = torch.zeros(0)

    @property
    def levels(self) -> tuple[str, ...]:
        """Source and target."""
        return self._source, self._target

    def _joinings(self, shapes: Shapes) -> tuple[Joining, Joining]:
        """What makes the features of the grid's places, for source and target."""
        of_source, of_target = [], []
        for fine, coarse in zip(shapes[self._source][1:], shapes[self._target][1:], strict=True):
            if coarse > fine:
                raise ConfigError(
                    f"localizer.source={self._source} has a coarser grid than localizer.target="
                    f"{self._target}, {fine} against {coarse} places; the source must be the shallower level"
                )
            near = window(fine, self._side, self._neighbors)
            aim = window(coarse, self._target_side, AVERAGE)
            if self._on_source:
                aim = chain(rendering(coarse, fine, 0.0)[None], aim)
            else:
                if self._join == CONCATENATE and fine % coarse:
                    raise ConfigError(
                        f"localizer.join=concatenate needs a grid of {self._source} that is a multiple of "
                        f"{self._target}'s, not {fine} and {coarse} places; use localizer.join=average"
                    )
                near = chain(cells(fine, coarse, self._join), near)
            of_source.append(near)
            of_target.append(aim)
        return Joining(*of_source), Joining(*of_target)

    @torch.no_grad()
    def partial_fit(self, maps: Maps) -> None:
        """Add good images' maps, (b, c, h, w) a level, to the sums.

        Raises
        ------
        ConfigError
            If the levels' grids do not suit the settings.
        EstimatorError
            If a level is missing, or maps of another shape came before.
        """
        shapes = shapes_of(maps, self.levels, None)
        if not self._shapes:
            self._explain, self._aim = self._joinings(shapes)
            self._shapes, self._device = shapes, maps[self._source].device
            self._explain.to(self._device)
            self._aim.to(self._device)
        elif shapes != self._shapes:
            raise EstimatorError(f"ridge: feature maps of {shapes} cannot follow maps of {self._shapes}")
        for source, target in zip(maps[self._source], maps[self._target], strict=True):
            x, y = self._explain(source[None])[0], self._aim(target[None])[0]
            if self._sums is None:
                self._sums = Sums(x, y)
            self._sums.add(x, y)

    @torch.no_grad()
    def finish(self) -> None:
        """Solve for the weights.

        Raises
        ------
        EstimatorError
            Without a training image (two for ``intercept=place``), or if the features are not finite.
        """
        if self._sums is None:
            raise EstimatorError("ridge: there is no training image")
        if self._by_place and self._sums.images < 2:
            raise EstimatorError(
                "ridge: localizer.intercept=place needs at least 2 training images, got 1; give more images "
                "or use localizer.intercept=shared"
            )
        moments = self._sums.centre(self._by_place)
        self._sums = None
        ridge = Ridge(moments)
        #: The penalty, whether given or chosen.
        self.alpha = min(ALPHAS, key=ridge.gcv) if isinstance(self._alpha, str) else self._alpha
        weights = ridge.weights(self.alpha)
        self._offset = ridge.offset(weights).to(self._device, torch.float32)
        self._weights = weights.to(self._device, torch.float32).contiguous()
        if self._norm == "standardized":
            errors = ridge.squared_errors(self.alpha) / moments.rows
            errors = errors.clamp(min=float(errors.mean()) * LEAST_ERROR**2)
            self._shares = torch.where(errors > 0, 1 / errors, 1).to(self._device, torch.float32)

    @torch.no_grad()
    def score(self, maps: Maps) -> Scored:
        """Norms of the prediction errors on the grid.

        Raises
        ------
        EstimatorError
            If nothing was fitted, a level is missing, or the maps are not finite or have another shape than
            those of the fit.
        """
        if not len(self._weights):
            raise EstimatorError("ridge scores after partial_fit and finish")
        shapes = shapes_of(maps, self.levels, None)
        if shapes != self._shapes:
            raise EstimatorError(f"ridge: fitted to feature maps of {self._shapes}, asked to score {shapes}")
        source, target = maps[self._source], maps[self._target]
        step = max(1, CHUNK // (len(self._weights) * self._aim.places))
        starts = range(0, len(source), step)
        scores = torch.cat([self._norms(source[i : i + step], target[i : i + step]) for i in starts])
        check_finite("ridge", scores)
        height, width = shapes[self._source if self._on_source else self._target][1:]
        return Scored(scores.reshape(-1, height, width))

    def _norms(self, source: Tensor, target: Tensor) -> Tensor:
        """Norms of the errors (b, places)."""
        x, y = self._explain(source), self._aim(target)
        # One pass over y, one product into its memory, one pass for the norm.
        errors = (y - self._offset).baddbmm_(self._weights.expand(len(x), -1, -1), x, alpha=-1).square_()
        norms = self._shares @ errors if self._norm == "standardized" else errors.sum(1)
        return norms.sqrt_() if self._norm == "l2" else norms

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        """Bytes of the sums and of their eigendecomposition, whatever the number of images."""
        explain, aim = self._joinings(shapes)
        d, m = shapes[self._source][0] * explain.factor, shapes[self._target][0]
        sums = d * d + d * m + (d + m) * explain.places
        # An image twice, and once as its neighbourhoods are joined (float32); or eigenvectors, LAPACK's two
        # squares and what the solution passes through.
        image, solution = (2.5 * d + 2 * m) * explain.places, 3 * d * d + 4 * d * m + 3 * m * explain.places
        return 8 * math.ceil(sums + max(image, solution)) + explain.bytes + aim.bytes

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        """Of the products of an image's places, of the eigendecomposition, and of predicting places."""
        explain, _ = self._joinings(shapes)
        d, m = shapes[self._source][0] * explain.factor, shapes[self._target][0]
        fit = n_train * 2.0 * d * (d + m) * explain.places + 9.0 * d**3 + 4.0 * d * d * m
        return fit + n_test * 2.0 * d * m * explain.places

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, offset and the joining's matrices; 0 before the fit."""
        if not len(self._weights):
            return 0
        held: int = self._weights.nbytes + self._offset.nbytes + self._shares.nbytes
        return held + self._explain.bytes + self._aim.bytes
