"""What surrounds a place: a wide neighbourhood by its low spatial frequencies, and its middle place by place.

A neighbourhood of w x w places has w^2 numbers a channel, which change little from place to place: a few
components of the discrete cosine transform of each axis tell most. Transform and border are linear and
separable, so that all places' components are two small matrix products.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from anomaly_sweep.localization.ridge.neighborhood import AVERAGE, CONCATENATE, cells, window


class Context:
    """Features of the neighbourhoods of all places of a map.

    Parameters
    ----------
    width : int
        Channels of the map.
    grid : (int, int)
        Its places.
    side : int
        Of the neighbourhood, odd. Beyond the border the nearest place inside is taken.
    components : int
        Of the orthonormal cosine transform (DCT-II) of each axis, the lowest frequencies, at most ``side``.
    middle : int
        Side of the middle whose places are features of their own, odd.
    """

    def __init__(self, width: int, grid: tuple[int, int], side: int, components: int, middle: int) -> None:
        self.width, self.grid = width, grid
        self._side, self._components, self._middle = side, components, middle
        self._basis = dct(np.eye(side), norm="ortho", axis=0)[:components]
        #: Features a place: the components of each channel, then the places of its middle.
        self.features = width * (components**2 + middle**2)
        self._axes = [
            [
                torch.from_numpy(matrices.reshape(-1, size)).float()
                for matrices in (
                    np.einsum("kt,tij->kij", self._basis, window(size, side, CONCATENATE)),
                    window(size, middle, CONCATENATE),
                )
            ]
            for size in grid
        ]

    def to(self, device: torch.device) -> None:
        """Move the matrices."""
        self._axes = [[matrix.to(device) for matrix in axis] for axis in self._axes]

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices."""
        return sum(matrix.nbytes for axis in self._axes for matrix in axis)

    @property
    def operations(self) -> float:
        """Floating point operations of an image."""
        (_rows, _), (columns, _) = self._axes
        return (
            2.0 * self.width * len(columns) * self.grid[0] * (self.grid[1] + self._components * self.grid[0])
        )

    def __call__(self, maps: Tensor, out: Tensor) -> Tensor:
        """Features (features, places) of a map (width, places), written to ``out``."""
        components = self.width * self._components**2
        self._transform(maps, 0, self._components, out[:components])
        if self._middle == 1:
            out[components:] = maps
        else:
            self._transform(maps, 1, self._middle, out[components:])
        return out

    def _transform(self, maps: Tensor, which: int, count: int, out: Tensor) -> None:
        rows, columns = (axis[which] for axis in self._axes)
        height, width = self.grid
        across = (maps.view(-1, width) @ columns.T).view(self.width, height, -1)
        both = (rows @ across).view(self.width, count, height, count, width)
        out.view(self.width, count, count, height, width).copy_(both.transpose(2, 3))

    def surroundings(self) -> Tensor:
        """What takes the middle out of the components: (width * components^2, features), float64."""
        low = (self._side - self._middle) // 2
        inside = self._basis[:, low : low + self._middle]
        part = np.kron(np.eye(self.width), np.kron(inside, inside))
        return torch.from_numpy(np.concatenate([np.eye(len(part)), -part], axis=1))


class BlockMeans:
    """Maps brought down to a coarser grid by area.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width of a map.
    grid : (int, int)
    """

    def __init__(self, shape: tuple[int, int, int], grid: tuple[int, int]) -> None:
        self._shape, self._grid = shape, grid
        _, height, width = shape
        self._block = height // grid[0]
        rows, columns = (cells(size, to, AVERAGE)[0] for size, to in zip((height, width), grid, strict=True))
        self._whole = height % grid[0] == 0
        if self._whole:  # the rows of a block follow each other: their mean is part of the columns' product
            columns = np.tile(columns, self._block) / self._block
        self._rows, self._columns = (torch.from_numpy(matrix.T.copy()).float() for matrix in (rows, columns))

    def to(self, device: torch.device) -> None:
        """Move the matrices."""
        self._rows, self._columns = self._rows.to(device), self._columns.to(device)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices."""
        return self._rows.nbytes + self._columns.nbytes

    def __call__(self, maps: Tensor, out: Tensor) -> None:
        """Write means (channels, places) of a map (channels, height, width) to ``out``."""
        channels, _, width = self._shape
        if self._whole:
            blocks = maps.reshape(channels * self._grid[0], self._block * width)
            torch.mm(blocks, self._columns, out=out.view(len(blocks), -1))
        else:
            torch.matmul(self._rows.T, maps @ self._columns, out=out.view(channels, *self._grid))
