"""Patch vectors of PatchCore: neighbourhoods of several levels, joined on the finest level's grid.

Both published variants are linear in the feature maps, level by level: a convolution on the level's own grid
(the neighbourhood), bilinear upsampling to the finest grid, and a place in the joined vector. So whatever is
linear in the vectors (projections, inner products) can be had on a level's own grid and upsampled afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import conv2d

from anomaly_sweep.localization.base import Maps, Shapes
from anomaly_sweep.localization.render import rendering

PAPER, OFFICIAL = "paper", "official"
VARIANTS = (PAPER, OFFICIAL)

#: Length of a level's vector, and of the joined one, in the authors' code.
_OFFICIAL_WIDTH = 1024


@dataclass(frozen=True)
class Part:
    """What a level contributes: components ``low`` to ``high`` of the vectors, on its own grid."""

    level: str
    channels: int
    grid: tuple[int, int]
    low: int
    high: int


def windows(size: int, count: int) -> csr_matrix:
    """The matrix (count, size) of one-dimensional adaptive average pooling."""
    i = np.arange(count)
    start, stop = i * size // count, -((i + 1) * size // -count)
    length = stop - start
    columns = np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)])
    return csr_matrix((np.repeat(1 / length, length), (np.repeat(i, length), columns)), shape=(count, size))


def neighborhood_kernel(part: Part, index: int, n_levels: int, variant: str, size: int) -> Tensor:
    """Weights of the convolution (high - low, channels / groups, size, size) that makes a level's part.

    paper: the mean of each channel. official: the neighbourhood's values (channel by channel) averaged to
    1024 numbers, the levels' numbers one after another averaged to 1024 again; its windows are local, so
    most of the convolution falls apart into groups.

    Parameters
    ----------
    part : Part
    index, n_levels : int
        Which of how many levels it is.
    variant : {"paper", "official"}
    size : int
        Side of the neighbourhood, odd.
    """
    if variant == PAPER:
        return torch.full((part.channels, 1, size, size), 1 / size**2)
    values, width = part.channels * size**2, part.high - part.low
    numbers = slice(index * _OFFICIAL_WIDTH, (index + 1) * _OFFICIAL_WIDTH)
    joining = windows(n_levels * _OFFICIAL_WIDTH, _OFFICIAL_WIDTH)[part.low : part.high, numbers]
    whole = (joining @ windows(values, _OFFICIAL_WIDTH)).tocoo()
    most = gcd(part.channels, width)
    groups = max(
        g
        for g in range(1, most + 1)
        if most % g == 0 and (whole.row // (width // g) == whole.col // (values // g)).all()
    )
    kernel = np.zeros((width, values // groups))
    kernel[whole.row, whole.col % (values // groups)] = whole.data
    return torch.from_numpy(kernel).float().view(width, part.channels // groups, size, size)


class Patches:
    """The linear map from feature maps to patch vectors.

    Parameters
    ----------
    shapes : mapping of str to (int, int, int)
        Channels, height and width of the levels' maps; others may be there too.
    levels : sequence of str
        Levels to join, in this order.
    variant : {"paper", "official"}
        See :func:`neighborhood_kernel`.
    neighborhood : int
        Side of the neighbourhood in places, odd. What lies outside the map counts as 0.
    """

    def __init__(self, shapes: Shapes, levels: Sequence[str], variant: str, neighborhood: int) -> None:
        self.shapes = {level: shapes[level] for level in levels}
        self.variant, self.neighborhood = variant, neighborhood
        self.parts: list[Part] = []
        low, n = 0, len(levels)
        for i, (level, (c, h, w)) in enumerate(self.shapes.items()):
            if variant == OFFICIAL:
                low, high = i * _OFFICIAL_WIDTH // n, -((i + 1) * _OFFICIAL_WIDTH // -n)
            else:
                high = low + c
            self.parts.append(Part(level, c, (h, w), low, high))
            low = high
        #: Length of the joined vectors.
        self.width = low
        #: Rows and columns of the finest grid.
        self.grid = max((part.grid for part in self.parts), key=lambda grid: grid[0] * grid[1])
        self._kernels: list[Tensor] = []

    @property
    def places(self) -> int:
        """Places of the finest grid."""
        return self.grid[0] * self.grid[1]

    @property
    def numbers(self) -> int:
        """Numbers of an image's parts."""
        return sum((part.high - part.low) * part.grid[0] * part.grid[1] for part in self.parts)

    @property
    def kernel_bytes(self) -> int:
        """Bytes of the convolutions' weights, once they were used."""
        return sum(kernel.numel() * kernel.element_size() for kernel in self._kernels)

    def of(self, maps: Maps, image: int) -> list[Tensor]:
        """The parts (high - low, h, w) of an image, each on its level's grid.

        One image at a time: convolutions of batches may round otherwise.
        """
        if not self._kernels:
            self._kernels = [
                neighborhood_kernel(part, i, len(self.parts), self.variant, self.neighborhood)
                for i, part in enumerate(self.parts)
            ]
        parts = []
        for i, part in enumerate(self.parts):
            level_maps = maps[part.level][image : image + 1]
            self._kernels[i] = kernel = self._kernels[i].to(level_maps.device)
            groups = part.channels // kernel.shape[1]
            parts.append(conv2d(level_maps, kernel, padding=self.neighborhood // 2, groups=groups)[0])
        return parts

    def upsampling(self, part: Part, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """The matrices that upsample rows and columns of a part; None where its grid is the finest."""
        if part.grid == self.grid:
            return None
        rows, columns = (
            torch.from_numpy(rendering(coarse, finest, 0.0)).to(like)
            for coarse, finest in zip(part.grid, self.grid, strict=True)
        )
        return rows, columns

    def upsample(self, part: Part, values: Tensor) -> Tensor:
        """Values (d, h, w) on a part's grid, upsampled and flattened: (d, places)."""
        matrices = self.upsampling(part, values)
        if matrices is not None:
            rows, columns = matrices
            values = rows @ (values @ columns.T)
        return values.flatten(1)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The vectors (width, places) of an image's parts."""
        joined = parts[0].new_empty(self.width, self.places)
        written = 0
        for part, values in zip(self.parts, parts, strict=True):
            upsampled = self.upsample(part, values)
            # Neighbouring levels of the official variant may share a component.
            shared = written - part.low
            joined[part.low : written] += upsampled[:shared]
            joined[written : part.high] = upsampled[shared:]
            written = part.high
        return joined

    def project(self, parts: Sequence[Tensor], projection: Tensor) -> Tensor:
        """The vectors times a matrix (width, k): (places, k)."""
        projected = parts[0].new_zeros(projection.shape[1], self.places)
        for part, values in zip(self.parts, parts, strict=True):
            products = projection[part.low : part.high].T @ values.flatten(1)
            projected += self.upsample(part, products.view(-1, *part.grid))
        return projected.T.contiguous()
