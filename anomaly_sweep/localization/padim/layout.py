"""What PaDiM models where: the chosen channels of each level, the grids, and the bands that are worked on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.localization.base import Maps
from anomaly_sweep.localization.padim.gaussians import Band, Grid, bands, count_numbers, nest
from anomaly_sweep.localization.render import rendering

AUTO = "auto"

#: Bytes that a band of places is worked on in: fitting (then at least one cell), scoring (so that what lies
#: between the products stays in the processor's cache).
_FIT_BYTES, _SCORE_BYTES = 32 << 20, 8 << 20


def choose_channels(total: int, channels: int | str, seed: int) -> list[int]:
    """The random subset of the joined levels' channels, ascending.

    ``random.Random(seed).sample(range(total), channels)``, which for seed 1024 is the subset of PaDiM's
    widely used reimplementation. The order of the channels changes no distance.

    Parameters
    ----------
    total : int
        Channels of all levels.
    channels : int or "auto"
        How many to take; auto is the paper's 100 up to 448 joined channels (ResNet-18's) and 550 above, or
        all where there are fewer.

    Raises
    ------
    ConfigError
        If there are fewer than asked for.
    """
    if channels == AUTO:
        channels = min(100 if total <= 448 else 550, total)
    if int(channels) > total:
        raise ConfigError(
            f"localizer.channels={channels} is more than the {total} channels that localizer.levels have "
            "together; use a smaller number or auto"
        )
    return sorted(random.Random(seed).sample(range(total), int(channels)))


@dataclass(frozen=True)
class Part:
    """The chosen channels of a level: where they are found, and on which grid their factors are."""

    level: str
    channels: list[int]
    #: Of the level's maps.
    grid: Grid
    #: Grids that its maps are nested in: from the coarsest part's to its own.
    held: tuple[Grid, ...]
    #: Of its factors: its own with nearest upsampling, else the finest.
    modelled: Grid

    @property
    def size(self) -> tuple[int, int]:
        """Cells and channels of its factors."""
        return self.modelled[0] * self.modelled[1], len(self.channels)

    def take(self, maps: Maps) -> Tensor:
        """Its features (places of its maps, b, channels)."""
        return nest(maps[self.level][:, self.channels], self.held)

    def features(self, held: Sequence[Tensor], band: Band) -> Tensor:
        """Features (cells, n, channels) of a band from those taken of batches of images."""
        if self.modelled == self.grid:
            cut = [band.of(batch) for batch in held]
            return torch.cat(cut, dim=1) if len(cut) > 1 else cut[0]
        places, width = band.high - band.low, self.modelled[1]
        row, column = divmod(band.low, width)
        rows = upsampling(self.grid[0], self.modelled[0])[row : row + max(places // width, 1)]
        columns = upsampling(self.grid[1], width)[column : column + places]
        above, beside = rows.any(0), columns.any(0)
        corner = torch.meshgrid(above.nonzero()[:, 0], beside.nonzero()[:, 0], indexing="ij")
        used = (corner[0] * self.grid[1] + corner[1]).flatten().to(held[0].device)
        source = torch.cat([batch[used] for batch in held], dim=1)
        wide = columns[:, beside].to(source) @ source.view(int(above.sum()), int(beside.sum()), -1)
        return (rows[:, above].to(source) @ wide.flatten(1)).view(places, *source.shape[1:])


def upsampling(here: int, there: int) -> Tensor:
    """The matrix (there, here) of bilinear upsampling along one axis."""
    return torch.from_numpy(rendering(here, there, 0.0))


@dataclass(frozen=True)
class Layout:
    """What is modelled where, for maps of given shapes."""

    shapes: dict[str, tuple[int, int, int]]
    parts: list[Part]
    finest: Grid

    @classmethod
    def of(
        cls, shapes: dict[str, tuple[int, int, int]], channels: int | str, seed: int, *, nearest: bool
    ) -> Layout:
        """The layout of some of the channels.

        Parameters
        ----------
        shapes : dict
            Level -> (channels, height, width), in the order in which the channels are counted.
        channels, seed
            As of :func:`choose_channels`.
        nearest : bool
            Coarser levels reach the finest grid by nearest upsampling, so that their factors stay on their
            own grids; else bilinearly, and all are on the finest.

        Raises
        ------
        ConfigError
            If there are fewer channels than asked for, or ``nearest`` grids that do not divide each other.
        """
        chosen = choose_channels(sum(c for c, _, _ in shapes.values()), channels, seed)
        grids = {level: (h, w) for level, (_, h, w) in shapes.items()}
        finest = max(grids.values(), key=lambda grid: grid[0] * grid[1])
        if nearest:
            _check_nested(grids)
        by_level, first = [], 0
        for level, (c, h, w) in shapes.items():
            by_level.append((level, [i - first for i in chosen if first <= i < first + c], (h, w)))
            first += c
        by_level = sorted((p for p in by_level if p[1]), key=lambda p: p[2][0] * p[2][1])
        chain = tuple(grid for _, _, grid in by_level)
        parts = [
            Part(level, some, grid, chain[: i + 1] if nearest else (grid,), grid if nearest else finest)
            for i, (level, some, grid) in enumerate(by_level)
        ]
        return cls(shapes, parts, finest)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Cells and channels of each part's factors."""
        return [part.size for part in self.parts]

    @property
    def cells(self) -> int:
        """Cells of the coarsest grid of factors."""
        return self.sizes[0][0]

    @property
    def places(self) -> int:
        """Places of the finest grid."""
        return self.finest[0] * self.finest[1]

    @property
    def image_numbers(self) -> int:
        """Chosen features of an image."""
        return sum(len(part.channels) * part.grid[0] * part.grid[1] for part in self.parts)

    def fit_bands(self, n: int) -> tuple[Iterable[Band], int]:
        """The bands in which n images are fitted, and the most bytes that are worked on at once."""
        shares = [m * c // self.cells for m, c in self.sizes]
        squares = max(m * c * c // self.cells for m, c in self.sizes)
        # Features of this band and the last, whitened ones; the largest level's copies; factors of this band
        # and the last; from a covariance to the inverse of its factor.
        features = n * (3 * sum(shares) + 5 * max(shares))
        each = 8 * (features + 2 * count_numbers(self.sizes) // self.cells + 5 * squares)
        width = self._width(_FIT_BYTES // each)
        return bands(self.cells, width), width * each

    def score_bands(self, b: int) -> Iterable[Band]:
        """The bands in which b images are scored."""
        each = 4 * b * sum(m * c for m, c in self.sizes) // self.cells
        return bands(self.cells, self._width(_SCORE_BYTES // max(each, 1)))

    def _width(self, most: int) -> int:
        """Cells of a band, at most so many (but one): whole rows of the grid, or an equal part of one."""
        row = self.parts[0].modelled[1]
        if most >= row:
            return min(most // row * row, self.cells)
        return max(width for width in range(1, max(most, 1) + 1) if row % width == 0)


def _check_nested(grids: dict[str, Grid]) -> None:
    """Raise ConfigError unless the grids, coarsest first, divide each other."""
    ordered = sorted(grids.items(), key=lambda item: item[1][0] * item[1][1])
    for (coarse, (h, w)), (fine, (H, W)) in pairwise(ordered):
        if H % h or W % w:
            raise ConfigError(
                f"localizer.upsample=nearest needs grids that divide each other, but {coarse} has {h}x{w} "
                f"places and {fine} {H}x{W}; use localizer.upsample=bilinear or another input size"
            )
