"""From a localizer's grid to the anomaly map: upsampling and smoothing as two small matrix products.

Bilinear upsampling and Gaussian smoothing are both linear and separable, so their composition is one
matrix for the rows and one for the columns: map = R @ grid @ C.T.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor


@lru_cache(maxsize=32)
def rendering(grid: int, size: int, sigma: float) -> NDArray[np.float64]:
    """The matrix (size, grid) that upsamples one axis bilinearly and then smooths it.

    Sample positions are those of ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``;
    smoothing is ``scipy.ndimage.gaussian_filter``'s (mirrored borders, cut off at 4 sigma).

    Parameters
    ----------
    grid, size : int
        Places of the grid and pixels of the map along the axis.
    sigma : float
        Standard deviation of the Gaussian in pixels of the map; 0 for no smoothing.
    """
    place = np.clip((np.arange(size) + 0.5) * grid / size - 0.5, 0, grid - 1)
    low = np.minimum(np.floor(place).astype(int), max(grid - 2, 0))
    share = place - low
    matrix = np.zeros((size, grid))
    matrix[np.arange(size), low] += 1 - share
    matrix[np.arange(size), np.minimum(low + 1, grid - 1)] += share
    if sigma > 0:
        matrix = gaussian_filter1d(matrix, sigma, axis=0, mode="reflect", truncate=4.0)
    return matrix


def render(grid: Tensor, size: int, sigma: float) -> Tensor:
    """Anomaly maps of grids of scores.

    Parameters
    ----------
    grid : Tensor of shape (b, gh, gw), float32
    size : int
        Side of the square maps in pixels.
    sigma : float
        Smoothing in pixels of the map; 0 for none.

    Returns
    -------
    Tensor of shape (b, size, size), float32, on the grid's device
    """
    rows = torch.from_numpy(rendering(grid.shape[1], size, sigma)).to(grid)
    columns = torch.from_numpy(rendering(grid.shape[2], size, sigma)).to(grid)
    return rows @ grid @ columns.T
