"""Two linear regressions from a place's surroundings; the score is the size of their whitened errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_sweep.checks import in_range, odd, whole
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.localization.base import Maps, Scored, Shapes, check_finite, shapes_of
from anomaly_sweep.localization.render import rendering
from anomaly_sweep.localization.ridge.neighborhood import AVERAGE, Joining, cells
from anomaly_sweep.localization.ridge_plus.moments import Stream
from anomaly_sweep.localization.ridge_plus.whitened import regress
from anomaly_sweep.memory import refuse_too_much
from anomaly_sweep.metrics.ties import ScoreScale

#: For image scores the grid is made so many times finer, and smoothed by one of the finer places.
FINER = 4


class RidgePlus:
    """How badly a place's features are predicted from the deeper features around it.

    Ours. Common with Nakaseko & Takahashi (2023): ridge regression, whose errors are the scores.
    Two regressions, both explained by a wide neighbourhood of the deep level, randomly projected:

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
    hole : int
        Side of the middle that the second regression does not see, odd, below the neighbourhood's.
    projection : int or None
        Dimensions that the deep vectors are randomly projected to before they are joined; None: all.
    rank : int
        Of each regression, see :func:`anomaly_sweep.localization.ridge_plus.whitened.regress`.
    alpha : float
        Least penalty, relative to the mean variance of what explains. Added to it is the number of explaining
        features to a row: with few training images they would explain everything.
    epsilon : float
        Added to the diagonal of the errors' covariance, relative to its mean.
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
        hole: int = 3,
        projection: int | None = 16,
        rank: int = 64,
        alpha: float = 1e-3,
        epsilon: float = 1e-2,
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
        if projection is not None:
            whole("localizer.projection", projection, 1)
        whole("localizer.rank", rank, 1)
        in_range("localizer.alpha", alpha, 0, 1e12, open_low=True)
        in_range("localizer.epsilon", epsilon, 0, 1e12, open_low=True)
        in_range("localizer.top", top, 0, 1, open_low=True)
        whole("localizer.seed", seed, 0)
        self._shallow, self._deep = tuple(shallow), deep
        self._side, self._hole = neighborhood, hole
        self._width, self._rank, self._seed = projection, rank, seed
        self._alpha, self._epsilon, self._top = alpha, epsilon, top
        self._shapes: Shapes = {}
        self._stream: Stream | None = None
        self._mixing: list[Tensor] = []
        self._offsets: list[Tensor] = []
        self._kernel = torch.zeros(0)

    @property
    def levels(self) -> tuple[str, ...]:
        """The shallow ones and the deep one."""
        return *self._shallow, self._deep

    def _bring_down(self, shapes: Shapes) -> list[Joining]:
        """What brings each shallow level to the deep level's grid."""
        _, *grid = shapes[self._deep]
        joinings = []
        for level in self._shallow:
            _, *own = shapes[level]
            if own[0] < grid[0] or own[1] < grid[1]:
                raise ConfigError(
                    f"localizer.shallow: {level} has a coarser grid than localizer.deep={self._deep}, "
                    f"{'x'.join(map(str, own))} against {'x'.join(map(str, grid))} places"
                )
            joinings.append(Joining(*(cells(a, b, AVERAGE) for a, b in zip(own, grid, strict=True))))
        return joinings

    def _projected(self, shapes: Shapes) -> int:
        channels = shapes[self._deep][0]
        return channels if self._width is None else min(self._width, channels)

    def _project(self, deep: Tensor) -> Tensor:
        """Deep maps (b, c, h, w), projected, with a border of their own values."""
        if len(self._projection):
            deep = (self._projection @ deep.flatten(2)).view(len(deep), -1, *deep.shape[2:])
        return F.pad(deep, (self._side // 2,) * 4, mode="replicate")

    def _aims(self, maps: Maps) -> list[Tensor]:
        """What the regressions predict, (b, m, places) each."""
        shallow = [join(maps[level]) for level, join in zip(self._shallow, self._joinings, strict=True)]
        return [torch.cat(shallow, dim=1), maps[self._deep].flatten(2)]

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
            refuse_too_much(
                f"ridge_plus with localizer.neighborhood={self._side} and localizer.projection={self._width}",
                self.fit_bytes(shapes, 1),
                device=device,
                advice="use a smaller localizer.neighborhood or localizer.projection",
            )
            self._joinings, self._device = self._bring_down(shapes), device
            for join in self._joinings:
                join.to(device)
            self._shapes, width, channels = shapes, self._projected(shapes), shapes[self._deep][0]
            self._projection = torch.zeros(0)
            if width < channels:
                generator = torch.Generator().manual_seed(self._seed)
                drawn = torch.randn(channels, width, generator=generator, dtype=torch.float64)
                self._projection = torch.linalg.qr(drawn).Q.T.to(device, torch.float32).contiguous()
        for image in range(len(maps[self._deep])):
            one = {level: maps[level][image : image + 1] for level in self.levels}
            context = F.unfold(self._project(one[self._deep]), self._side)
            rows = torch.cat([context, *self._aims(one)], dim=1)[0]
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
        width, places = self._projected(self._shapes), self._side**2
        context = width * places
        n_shallow = sum(self._shapes[level][0] for level in self._shallow)
        ends = (context, context + n_shallow, len(moments.covariance))
        reach = torch.arange(self._side) - self._side // 2
        around = torch.maximum(reach.abs()[:, None], reach.abs()[None]) > self._hole // 2
        everything = torch.arange(context)
        surroundings = torch.arange(context).view(width, places)[:, around.flatten()].flatten()
        kernels = []
        self._mixing, self._offsets = [], []
        for explaining, low, high in zip((everything, surroundings), ends, ends[1:], strict=False):
            explaining = explaining.to(moments.covariance.device)
            between = moments.covariance[explaining]
            found = regress(
                between[:, explaining],
                between[:, low:high],
                moments.covariance[low:high, low:high],
                alpha=self._alpha + len(explaining) / moments.rows,
                epsilon=self._epsilon,
                rank=self._rank,
            )
            kernel = found.kernel.new_zeros(len(found.kernel), context)
            kernel[:, explaining] = found.kernel
            kernels.append(kernel)
            offset = found.white @ moments.means[low:high]
            offset -= found.lift @ (kernel @ moments.means[:context])
            # The whitened error is a mean over outputs: both regressions count the same.
            scale = 1 / math.sqrt(2 * (high - low))
            mixing = scale * torch.cat([found.white, -found.lift], dim=1)
            self._mixing.append(mixing.to(device, torch.float32).contiguous())
            self._offsets.append((scale * offset).to(device, torch.float32).contiguous())
        self._ranks = [len(kernel) for kernel in kernels]
        kernel = torch.cat(kernels).view(-1, width, self._side, self._side)
        self._kernel = kernel.to(device, torch.float32).contiguous()

    @torch.no_grad()
    def score(self, maps: Maps) -> Scored:
        """Root mean square of the whitened errors on the deep level's grid, and the mean of the highest.

        Raises
        ------
        EstimatorError
            If nothing was fitted, a level is missing, or the maps are not finite or have another shape than
            those of the fit.
        """
        if not len(self._kernel):
            raise EstimatorError("ridge_plus scores after partial_fit and finish")
        shapes_of(maps, self.levels, self._shapes)
        n = len(maps[self._deep])
        images = [self._score({level: maps[level][i : i + 1] for level in self.levels}) for i in range(n)]
        scores = torch.cat(images)
        check_finite("ridge_plus", scores)
        grid = scores.reshape(n, *self._shapes[self._deep][1:])
        rows, columns = (
            torch.from_numpy(rendering(side, FINER * side, 1.0)).to(grid) for side in grid.shape[1:]
        )
        finer = (rows @ grid @ columns.T).flatten(1)
        return Scored(grid, finer.topk(math.ceil(self._top * finer.shape[1]), dim=1).values.mean(1))

    def _score(self, maps: Maps) -> Tensor:
        """Scores (1, places) of an image: what it needs stays in a processor's cache."""
        explained = F.conv2d(self._project(maps[self._deep]), self._kernel).flatten(2)
        squares: Tensor | float = 0.0
        parts = torch.split(explained, self._ranks, dim=1)
        for aim, part, mixing, offset in zip(
            self._aims(maps), parts, self._mixing, self._offsets, strict=True
        ):
            error = torch.addmm(offset, mixing, torch.cat([aim, part], dim=1)[0], beta=-1)
            squares = squares + error.square_().sum(0)
        assert isinstance(squares, Tensor)
        return squares.sqrt_()[None]

    def _sizes(self, shapes: Shapes) -> tuple[int, int, int]:
        """Features of the context, and outputs of the two regressions."""
        context = self._projected(shapes) * self._side**2
        return context, sum(shapes[level][0] for level in self._shallow), shapes[self._deep][0]

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        """Bytes of the sums and of solving, whatever the number of images."""
        context, *outputs = self._sizes(shapes)
        rows, places = context + sum(outputs), math.prod(shapes[self._deep][1:])
        # The sums and an image's products, in float32 and float64; or what explains: its part of the
        # covariance, that without the columns of others, penalised, and factorised.
        products = 20 * rows**2
        image = 40 * rows * places
        solving = 8 * (rows**2 + context * rows + 4 * context**2 + 6 * context * max(outputs))
        return max(products, solving) + image + sum(join.bytes for join in self._bring_down(shapes))

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        """Of the Gram matrix, of the factorisations, and of an image's errors."""
        context, *outputs = self._sizes(shapes)
        rows, places = context + sum(outputs), math.prod(shapes[self._deep][1:])
        fit = n_train * 2.0 * rows**2 * places + 2.0 * context**3 / 3 + 8.0 * context**2 * sum(outputs)
        ranks = [min(self._rank, m) for m in outputs]
        each = context * sum(ranks) + sum(m * (m + r) for m, r in zip(outputs, ranks, strict=True))
        channels = shapes[self._deep][0]
        projecting = channels * self._projected(shapes) if self._projected(shapes) < channels else 0
        return fit + n_test * 2.0 * places * (each + projecting)

    @property
    def state_bytes(self) -> int:
        """Bytes of the kernel, the mixing matrices, offsets and joinings; 0 before ``finish``."""
        if not len(self._kernel):
            return 0
        held = [self._kernel, self._projection, *self._mixing, *self._offsets]
        return sum(t.nbytes for t in held) + sum(join.bytes for join in self._joinings)
