"""Two linear regressions from a place's surroundings; the score is the size of their whitened errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from anomaly_sweep.checks import in_range, odd, whole
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.localization.base import Maps, Scored, Shapes, check_finite, shapes_of
from anomaly_sweep.localization.render import rendering
from anomaly_sweep.localization.ridge_plus.context import BlockMeans, Context
from anomaly_sweep.localization.ridge_plus.moments import Stream
from anomaly_sweep.localization.ridge_plus.whitened import regress
from anomaly_sweep.memory import refuse_too_much
from anomaly_sweep.metrics.ties import ScoreScale

#: For image scores the grid is made so many times finer, and smoothed by one of the finer places.
FINER = 4


class RidgePlus:
    """How badly a place's features are predicted from the deeper features around it.

    Ours. Common with Nakaseko & Takahashi (2023): ridge regression, whose errors are the scores.
    Two regressions, both explained by a wide neighbourhood of the deep level, randomly projected and
    described by its low spatial frequencies (see
    :class:`anomaly_sweep.localization.ridge_plus.context.Context`):

    - deep to shallow: the shallow levels' vectors at the place, from the whole neighbourhood;
    - surroundings to centre: the deep level's vector, from the neighbourhood without its middle.

    The errors are whitened by their covariance. All of it is closed form, from one Gram matrix that is summed
    in one pass over the training images.

    Parameters
    ----------
    shallow : list of str
        Levels that are predicted, brought down to the deep level's grid by area.
    deep : str
        The level that explains; its grid is the scores'.
    neighborhood : int
        Side of the neighbourhood, odd. Beyond the border the nearest place inside is taken.
    components : int
        Cosine components of an axis that the neighbourhood is described by, from the lowest
        frequency; with as many as its side, or more, all of it.
    hole : int
        Side of the middle that the second regression does not see, odd, below the neighbourhood's. The first
        one sees each of its places.
    projection : int or None
        Dimensions that the deep vectors are randomly projected to before they are joined; None: all.
    rank : int
        Of each regression, see :func:`anomaly_sweep.localization.ridge_plus.whitened.regress`.
    alpha : float
        Least penalty, relative to the mean variance of what explains. Added to it is the number of explaining
        features to a row: with few training images they would explain everything.
    epsilon : float
        Added to the diagonal of the errors' covariance, relative to its mean.
    weight : float
        Of the deep level's errors in the score, in [0, 1]; the shallow levels' have the rest. It is of means
        over outputs.
    top : float
        Image score: the mean of the highest scores of the smoothed grid, this share of them, in (0, 1].
    seed : int
        Of the projection.

    Raises
    ------
    ConfigError
        For a value that is not allowed.
    """

    score_scale: ClassVar[ScoreScale] = "ratio"

    def __init__(
        self,
        *,
        shallow: Sequence[str] = ("level2", "level3"),
        deep: str = "level4",
        neighborhood: int = 9,
        components: int = 7,
        hole: int = 3,
        projection: int | None = 16,
        rank: int = 64,
        alpha: float = 1e-3,
        epsilon: float = 1e-2,
        weight: float = 0.33,
        top: float = 0.02,
        seed: int = 0,
    ) -> None:
        if isinstance(shallow, str) or not shallow or len({*shallow, deep}) < len(shallow) + 1:
            raise ConfigError(
                f"localizer.shallow={shallow} is not allowed; name at least one level, each once, without "
                f"localizer.deep={deep}"
            )
        for key, side in (("neighborhood", neighborhood), ("hole", hole)):
            odd(f"localizer.{key}", side)
        if hole >= neighborhood:
            raise ConfigError(
                f"localizer.hole={hole} leaves nothing of localizer.neighborhood={neighborhood}; "
                "make it smaller"
            )
        whole("localizer.components", components, 1)
        if projection is not None:
            whole("localizer.projection", projection, 1)
        whole("localizer.rank", rank, 1)
        in_range("localizer.alpha", alpha, 0, 1e12, open_low=True)
        in_range("localizer.epsilon", epsilon, 0, 1e12, open_low=True)
        in_range("localizer.weight", weight, 0, 1)
        in_range("localizer.top", top, 0, 1, open_low=True)
        whole("localizer.seed", seed, 0)
        self._shallow, self._deep = tuple(shallow), deep
        self._side, self._components, self._hole = neighborhood, min(components, neighborhood), hole
        self._width, self._rank, self._seed = projection, rank, seed
        self._alpha, self._epsilon, self._weight, self._top = alpha, epsilon, weight, top
        self._shapes: Shapes = {}
        self._stream: Stream | None = None
        self._mixing: list[Tensor] = []
        self._offsets: list[Tensor] = []
        self._kernels: list[Tensor] = []

    @property
    def levels(self) -> tuple[str, ...]:
        """The shallow ones and the deep one."""
        return *self._shallow, self._deep

    def _check_grids(self, shapes: Shapes) -> None:
        _, *grid = shapes[self._deep]
        for level in self._shallow:
            _, *own = shapes[level]
            if own[0] < grid[0] or own[1] < grid[1]:
                raise ConfigError(
                    f"localizer.shallow: {level} has a coarser grid than localizer.deep={self._deep}, "
                    f"{'x'.join(map(str, own))} against {'x'.join(map(str, grid))} places"
                )

    def _context_of(self, shapes: Shapes) -> Context:
        channels, *grid = shapes[self._deep]
        width = channels if self._width is None else min(self._width, channels)
        return Context(width, (grid[0], grid[1]), self._side, self._components, self._hole)

    def _prepare(self, shapes: Shapes, device: torch.device) -> None:
        """What maps of these shapes are taken apart with, and the memory that an image's rows are put in."""
        channels, *grid = shapes[self._deep]
        self._shapes, self._device = shapes, device
        self._context = self._context_of(shapes)
        self._context.to(device)
        self._means = {level: BlockMeans(shapes[level], (grid[0], grid[1])) for level in self._shallow}
        for means in self._means.values():
            means.to(device)
        self._projection = torch.zeros(0)
        if self._context.width < channels:
            generator = torch.Generator().manual_seed(self._seed)
            drawn = torch.randn(channels, self._context.width, generator=generator, dtype=torch.float64)
            self._projection = torch.linalg.qr(drawn).Q.T.to(device, torch.float32).contiguous()

    def _explain(self, deep: Tensor, out: Tensor) -> Tensor:
        """Features of the context (d, places) of an image's deep map (c, h, w)."""
        flat = deep.flatten(1)
        return self._context(self._projection @ flat if len(self._projection) else flat, out)

    def _aims(self, maps: Maps, image: int, shallow: Tensor, deep: Tensor) -> None:
        """Write what the regressions predict, (m, places) each."""
        ends = [self._shapes[level][0] for level in self._shallow]
        for level, part in zip(self._shallow, torch.split(shallow, ends), strict=True):
            self._means[level](maps[level][image], part)
        deep.copy_(maps[self._deep][image].flatten(1))

    @torch.no_grad()
    def partial_fit(self, maps: Maps) -> None:
        """Add good images' maps, (b, c, h, w) a level, to the sums.

        Raises
        ------
        ConfigError
            If a shallow level's grid is coarser than the deep one's.
        EstimatorError
            If a level is missing, maps of another shape came before, or there is not the memory.
        """
        shapes = shapes_of(maps, self.levels, self._shapes or None)
        device = maps[self._deep].device
        if self._stream is None:
            self._check_grids(shapes)
            refuse_too_much(
                f"ridge_plus with localizer.neighborhood={self._side}, localizer.components="
                f"{self._components} and localizer.projection={self._width}",
                self.fit_bytes(shapes, 1),
                device=device,
                advice="use a smaller localizer.components or localizer.projection",
            )
            self._prepare(shapes, device)
        context, *outputs = self._sizes(shapes)
        rows = maps[self._deep].new_empty(
            context.features + sum(outputs), math.prod(shapes[self._deep][1:]), dtype=torch.float32
        )
        explaining, *aims = torch.split(rows, [context.features, *outputs])
        for image, deep in enumerate(maps[self._deep]):
            self._explain(deep, explaining)
            self._aims(maps, image, *aims)
            if self._stream is None:
                self._stream = Stream(rows)
            self._stream.add(rows)

    @torch.no_grad()
    def finish(self) -> None:
        """Solve both regressions, and whiten their errors.

        Raises
        ------
        EstimatorError
            Without a training image, or if the features are not finite.
        """
        if self._stream is None:
            raise EstimatorError("ridge_plus: there is no training image")
        device = self._device
        moments = self._stream.moments()
        self._stream = None
        #: How far places' means were shrunk to one mean, in [0, 1].
        self.shrinkage = moments.shrinkage
        context = self._context.features
        n_shallow = sum(self._shapes[level][0] for level in self._shallow)
        ends = (context, context + n_shallow, len(moments.covariance))
        covariance, means = moments.covariance, moments.means
        xx = covariance[:context, :context]
        surroundings = self._context.surroundings().to(covariance)
        kernels = []
        self._mixing, self._offsets = [], []
        shares = (1 - self._weight, self._weight)
        for seen, weight, (low, high) in zip((None, surroundings), shares, pairwise(ends), strict=True):
            xy = covariance[:context, low:high]
            found = regress(
                xx if seen is None else seen @ xx @ seen.T,
                xy if seen is None else seen @ xy,
                covariance[low:high, low:high],
                alpha=self._alpha + (context if seen is None else len(seen)) / moments.rows,
                epsilon=self._epsilon,
                rank=self._rank,
            )
            kernel = found.kernel if seen is None else found.kernel @ seen
            kernels.append(kernel)
            offset = found.white @ means[low:high] - found.lift @ (kernel @ means[:context])
            # Both regressions' whitened errors are means over their outputs.
            scale = math.sqrt(weight / (high - low))
            mixing = scale * torch.cat([found.white, -found.lift], dim=1)
            self._mixing.append(mixing.to(device, torch.float32).contiguous())
            self._offsets.append((scale * offset).to(device, torch.float32).contiguous())
        self._kernels = [kernel.to(device, torch.float32).contiguous() for kernel in kernels]
        # The memory that an image is scored in: new memory each time would cost as much as the products.
        self._outputs = [high - low for low, high in pairwise(ends)]
        empty = self._kernels[0].new_empty
        places = math.prod(self._shapes[self._deep][1:])
        self._explaining = empty(context, places)
        self._rows = [empty(mixing.shape[1], places) for mixing in self._mixing]
        self._errors = [empty(m, places) for m in self._outputs]
        self._finer = [
            torch.from_numpy(rendering(side, FINER * side, 1.0)).to(device, torch.float32)
            for side in self._shapes[self._deep][1:]
        ]

    @torch.no_grad()
    def score(self, maps: Maps) -> Scored:
        """Root mean square of the whitened errors on the deep level's grid, and the mean of the highest.

        Raises
        ------
        EstimatorError
            If nothing was fitted, a level is missing, or the maps are not finite or have another shape than
            those of the fit.
        """
        if not self._kernels:
            raise EstimatorError("ridge_plus scores after partial_fit and finish")
        shapes_of(maps, self.levels, self._shapes)
        n = len(maps[self._deep])
        scores = torch.stack([self._score(maps, image) for image in range(n)])
        check_finite("ridge_plus", scores)
        grid = scores.view(n, *self._shapes[self._deep][1:])
        rows, columns = self._finer
        finer = (rows @ grid @ columns.T).flatten(1)
        return Scored(grid, finer.topk(math.ceil(self._top * finer.shape[1]), sorted=False).values.mean(1))

    def _score(self, maps: Maps, image: int) -> Tensor:
        """Scores (places,) of an image: what it needs stays in a processor's cache."""
        self._explain(maps[self._deep][image], self._explaining)
        self._aims(maps, image, *(rows[:m] for rows, m in zip(self._rows, self._outputs, strict=True)))
        total: Tensor | None = None
        for rows, m, kernel, mixing, offset, errors in zip(
            self._rows, self._outputs, self._kernels, self._mixing, self._offsets, self._errors, strict=True
        ):
            torch.mm(kernel, self._explaining, out=rows[m:])
            torch.addmm(offset, mixing, rows, beta=-1, out=errors)
            squares = errors.square_().sum(0)
            total = squares if total is None else total.add_(squares)
        assert total is not None
        return total.sqrt_()

    def _sizes(self, shapes: Shapes) -> tuple[Context, int, int]:
        """The context, and outputs of the two regressions."""
        outputs = sum(shapes[level][0] for level in self._shallow)
        return self._context_of(shapes), outputs, shapes[self._deep][0]

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        """Bytes of the sums and of solving, whatever the number of images."""
        context, *outputs = self._sizes(shapes)
        d, places = context.features, math.prod(shapes[self._deep][1:])
        rows = d + sum(outputs)
        # The sums and an image's products, in float32 and float64; or what explains: its part of the
        # covariance, that without the columns of others, penalised, and factorised.
        products = 20 * rows**2
        image = 40 * rows * places
        solving = 8 * (rows**2 + d * rows + 4 * d**2 + 6 * d * max(outputs))
        return max(products, solving) + image + context.nbytes

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        """Of the Gram matrix, of the factorisations, and of an image's errors."""
        context, *outputs = self._sizes(shapes)
        d, places = context.features, math.prod(shapes[self._deep][1:])
        rows = d + sum(outputs)
        fit = n_train * 2.0 * rows**2 * places + 2.0 * d**3 / 3 + 8.0 * d**2 * sum(outputs)
        ranks = [min(self._rank, m) for m in outputs]
        each = d * sum(ranks) + sum(m * (m + r) for m, r in zip(outputs, ranks, strict=True))
        channels = shapes[self._deep][0]
        projecting = channels * context.width if context.width < channels else 0
        return fit + n_test * (2.0 * places * (each + projecting) + context.operations)

    @property
    def state_bytes(self) -> int:
        """Bytes of the kernels, the context's and the mixing matrices, and offsets; 0 before ``finish``."""
        if not self._kernels:
            return 0
        held = [*self._kernels, self._projection, *self._mixing, *self._offsets, *self._finer]
        return (
            sum(t.nbytes for t in held) + self._context.nbytes + sum(m.nbytes for m in self._means.values())
        )
