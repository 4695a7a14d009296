"""Local features from maps: neighbouring places averaged or joined, brought to another grid.

All of it is linear and separable, so an axis needs a few small matrices only: one where places are averaged,
one for each place that is joined otherwise.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AVERAGE, CONCATENATE = "average", "concatenate"

#: The matrices of an axis, (m, grid, size).
Axis = NDArray[np.float64]


def window(size: int, width: int, how: str) -> Axis:
    """Matrices that take each place's neighbours along an axis.

    Beyond the border the nearest place inside is taken.

    Parameters
    ----------
    size : int
        Places of the axis.
    width : int
        Places of a neighbourhood, odd; 1 for the place alone.
    how : {"average", "concatenate"}
        One matrix with the neighbours' mean, or ``width`` matrices with a neighbour each.

    Returns
    -------
    ndarray of shape (1 or width, size, size)
    """
    reach = np.arange(width) - width // 2
    places = np.clip(np.arange(size) + reach[:, None], 0, size - 1)
    chosen: Axis = np.eye(size)[places]
    return np.mean(chosen, axis=0, keepdims=True) if how == AVERAGE else chosen


def cells(size: int, grid: int, how: str) -> Axis:
    """Matrices that bring an axis down to a coarser grid.

    Parameters
    ----------
    size, grid : int
        Places of the axis and of the coarser grid, grid <= size; for ``concatenate`` a divisor of it.
    how : {"average", "concatenate"}
        One matrix with the mean over what a coarse cell covers (shares of places where they do not fit), or
        ``size / grid`` matrices with a place of the cell each.

    Returns
    -------
    ndarray of shape (1 or size / grid, grid, size)
    """
    if how == CONCATENATE:
        return np.eye(size).reshape(grid, size // grid, size).swapaxes(0, 1)
    edges, places = np.arange(grid)[:, None] * size / grid, np.arange(size)
    covered = np.minimum(edges + size / grid, places + 1) - np.maximum(edges, places)
    shares: Axis = np.clip(covered, 0, None) * grid / size
    return shares[None]


def chain(second: Axis, first: Axis) -> Axis:
    """All products of a matrix of ``second`` with one of ``first``, each that recurs once."""
    products = (second[:, None] @ first[None]).reshape(-1, second.shape[1], first.shape[2])
    kept = {product.tobytes(): product for product in products}
    return np.stack(list(kept.values()))


def is_identity(axis: Axis) -> bool:
    """Whether the matrices leave an axis as it is."""
    return (
        len(axis) == 1 and axis.shape[1] == axis.shape[2] and bool((axis[0] == np.eye(axis.shape[1])).all())
    )


class Joining:
    """Matrices of both axes, applied to maps.

    Parameters
    ----------
    rows, columns : ndarray of shape (mh, gh, h), (mw, gw, w)
    """

    def __init__(self, rows: Axis, columns: Axis) -> None:
        self.factor = len(rows) * len(columns)
        #: Places of the grid.
        self.places: int = rows.shape[1] * columns.shape[1]
        self._counts = (len(rows), rows.shape[1], len(columns), columns.shape[1])
        self._identity = is_identity(rows) and is_identity(columns)
        self._rows, self._columns = (
            torch.from_numpy(axis.reshape(-1, axis.shape[2])).float() for axis in (rows, columns)
        )

    def to(self, device: torch.device) -> None:
        """Move the matrices."""
        self._rows, self._columns = self._rows.to(device), self._columns.to(device)

    @property
    def bytes(self) -> int:
        """Bytes of the matrices."""
        return self._rows.nbytes + self._columns.nbytes

    def __call__(self, maps: Tensor) -> Tensor:
        """Local features of maps (b, c, h, w) as (b, c * factor, places), a view where nothing is to do.

        Features of one channel follow each other: by the rows' matrices, then the columns'.
        """
        if self._identity:
            return maps.flatten(2)
        b, c = maps.shape[:2]
        joined = (maps @ self._columns.T).flatten(0, 1)
        # A product of (grid, size) with all maps would be made transposed, and copied.
        joined = self._rows.expand(b * c, -1, -1).bmm(joined)
        if self.factor > 1:
            joined = joined.reshape(b * c, *self._counts).transpose(2, 3)
        return joined.reshape(b, c * self.factor, self.places)
