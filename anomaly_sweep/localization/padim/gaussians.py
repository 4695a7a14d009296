"""Gaussians at every place of nested grids, factorised level by level: the algebra of PaDiM.

With nearest upsampling, all fine places inside one cell of a coarse level share that level's features. With
the variables in the order of their grids, coarsest first, the covariance of a fine place is

    [ S11 S12 S13 ]            [ L11         ]
    [ S21 S22 S23 ]  = L L^T,  [ L21 L22     ]
    [ S31 S32 S33 ]            [ L31 L32 L33 ]

and row k of its Cholesky factor depends on the features of the levels 1..k only, so it is the same for all
places inside one cell of level k's grid: it is computed and kept once per cell of that grid. Row k comes from
regressing level k on the whitened levels before it,

    y_j = whitened level j (cov(y_j) = I with the ridge),   L_kj = cov(x_k, y_j),
    L_kk L_kk^T = cov(x_k, x_k - sum_j L_kj y_j) + ridge,

and the squared Mahalanobis distance of a place is the sum of |y_k|^2 over the levels. The factors are found
in float64 and used in float32. What is kept of L_kk is its inverse, a triangle too: a product with it is as
exact as a triangular solve and, for a batch of images, faster. No covariance is ever inverted.

Features of a level are held as (cells, rows, channels), the cells in *nested order*: the cells of a grid that
lie in one cell of the grid before follow each other, so that they are a reshape away from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from anomaly_sweep.errors import EstimatorError

#: (height, width) of a level's feature maps.
Grid: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Factors:
    """One level's mean and its row of the Cholesky factor, in each of its m cells.

    Attributes
    ----------
    mean : Tensor of shape (m, 1, c)
    deeper : tuple of Tensor, one for each level before, of shape (m_j, c_j, g * c)
        L_kj transposed; those of the g = m / m_j cells inside a cell of level j side by side.
    inverse : Tensor of shape (m, c, c)
        The inverse of L_kk, transposed.
    """

    mean: Tensor
    deeper: tuple[Tensor, ...]
    inverse: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them."""
        return (self.mean, *self.deeper, self.inverse)

    def of(self, band: Band) -> Factors:
        """Those of a band of cells, as views."""
        return Factors(band.of(self.mean), tuple(band.of(row) for row in self.deeper), band.of(self.inverse))


@dataclass(frozen=True)
class Band:
    """The cells ``low`` to ``high`` of the coarsest grid, which has ``cells``, and all that lies in them."""

    low: int
    high: int
    cells: int

    def of(self, values: Tensor) -> Tensor:
        """Rows of values whose first axis, in nested order, is in proportion to the coarsest grid's cells."""
        share = len(values) // self.cells
        return values[self.low * share : self.high * share]


def bands(cells: int, width: int) -> Iterator[Band]:
    """Cut cells into bands of ``width``; the last may be narrower."""
    for low in range(0, cells, width):
        yield Band(low, min(low + width, cells), cells)


def empty_factors(sizes: Sequence[tuple[int, int]], device: torch.device) -> list[Factors]:
    """Room for float32 factors of levels with (cells, channels)."""
    return [
        Factors(
            torch.empty(m, 1, c, device=device),
            tuple(torch.empty(mj, cj, m // mj * c, device=device) for mj, cj in sizes[:k]),
            torch.empty(m, c, c, device=device),
        )
        for k, (m, c) in enumerate(sizes)
    ]


def count_numbers(sizes: Sequence[tuple[int, int]]) -> int:
    """How many numbers the factors of levels with (cells, channels) hold."""
    channels = accumulate(c for _, c in sizes)
    return sum(m * c * (1 + before) for (m, c), before in zip(sizes, channels, strict=True))


def nest(maps: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Maps (b, c, h, w) as (h * w, b, c), the places in the nested order of ``grids``.

    Parameters
    ----------
    maps : Tensor of shape (b, c, h, w)
    grids : sequence of (height, width)
        Coarsest first; each divides the next; the last is (h, w).
    """
    rows, columns = _steps(grids)
    b, c = maps.shape[:2]
    k = len(rows)
    # Channels last first: moving whole vectors is faster than one strided copy of single numbers.
    split = maps.flatten(2).mT.contiguous().view(b, *rows, *columns, c)
    order = [axis for i in range(k) for axis in (1 + i, 1 + k + i)]
    return split.permute(*order, 0, 2 * k + 1).reshape(-1, b, c)


def unnest(values: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Values (h * w, b) in the nested order of ``grids`` as (b, h, w)."""
    rows, columns = _steps(grids)
    k = len(rows)
    split = values.reshape(*(step for pair in zip(rows, columns, strict=True) for step in pair), -1)
    order = (2 * k, *range(0, 2 * k, 2), *range(1, 2 * k, 2))
    return split.permute(order).reshape(-1, *grids[-1])


def factorise(blocks: Sequence[Tensor], epsilon: float) -> list[Factors]:
    """Mean and Cholesky factor of covariance + epsilon * identity in every cell.

    Parameters
    ----------
    blocks : sequence of Tensor of shape (m_k, n, c_k)
        A level's features of n >= 2 images in its m_k cells, nested order, coarsest level first.
    epsilon : float
        Added to the diagonal of the covariance (n - 1 in its denominator); above 0.

    Returns
    -------
    list of Factors, float64, on the blocks' device

    Raises
    ------
    EstimatorError
        If features are not finite, or a covariance is not positive definite in float64.
    """
    factors: list[Factors] = []
    whitened: list[Tensor] = []
    for block in blocks:
        n, c = block.shape[1:]
        mean = block.mean(1, keepdim=True, dtype=torch.float64)
        if not mean.isfinite().all():
            raise EstimatorError("PaDiM cannot be fitted: the feature maps hold NaN or infinity")
        centred = block - mean
        scaled = centred / (n - 1)
        deeper = tuple(y.mT @ _side_by_side(scaled, len(y)) for y in whitened)
        rest = _unexplained(centred, deeper, whitened)
        covariance = scaled.mT @ rest
        covariance.diagonal(dim1=1, dim2=2).add_(epsilon)
        lower, failed = torch.linalg.cholesky_ex(covariance)
        if failed.any():
            raise EstimatorError(
                "PaDiM cannot be fitted: a covariance is not positive definite, because the features are so "
                f"large that localizer.epsilon={epsilon:g} is lost in rounding; raise it"
            )
        inverse = torch.linalg.solve_triangular(lower.mT, torch.eye(c).to(lower), upper=True)
        whitened.append(rest @ inverse)
        factors.append(Factors(mean, deeper, inverse))
    return factors


def distances(blocks: Sequence[Tensor], factors: Sequence[Factors], places: int) -> Tensor:
    """Mahalanobis distances.

    Parameters
    ----------
    blocks : sequence of Tensor of shape (m_k, b, c_k)
        Features of b images, as in :func:`factorise`.
    factors : sequence of Factors, of the blocks' dtype
    places : int
        Places of the finest grid, a multiple of every m_k.

    Returns
    -------
    Tensor of shape (places, b), nested order
    """
    whitened: list[Tensor] = []
    total = blocks[0].new_zeros(places, blocks[0].shape[1])
    for block, row in zip(blocks, factors, strict=True):
        y = _unexplained(block - row.mean, row.deeper, whitened) @ row.inverse
        norms = y.square().sum(2)
        total.view(len(y), -1, norms.shape[1]).add_(norms[:, None])
        whitened.append(y)
    return total.sqrt_()


def _steps(grids: Sequence[Grid]) -> tuple[list[int], list[int]]:
    """How many rows and columns of each grid lie in a cell of the grid before it."""
    chain = [(1, 1), *grids]
    return [b[0] // a[0] for a, b in pairwise(chain)], [b[1] // a[1] for a, b in pairwise(chain)]


def _side_by_side(features: Tensor, m: int) -> Tensor:
    """Features (m * g, n, c) as (m, n, g * c)."""
    cells, n, c = features.shape
    return features.view(m, cells // m, n, c).transpose(1, 2).reshape(m, n, -1)


def _unexplained(centred: Tensor, deeper: Sequence[Tensor], whitened: Sequence[Tensor]) -> Tensor:
    """What the whitened levels before leave of the centred features (m, n, c)."""
    cells, n, c = centred.shape
    for row, y in zip(deeper, whitened, strict=True):
        explained = (y @ row).view(len(y), n, -1, c).transpose(1, 2)
        centred = (centred.view(len(y), -1, n, c) - explained).view(cells, n, c)
    return centred
