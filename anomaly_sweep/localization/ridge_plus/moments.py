"""Second moments of the rows of places, streamed, about means between a place's own and the overall one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.localization.ridge.regression import double


@dataclass(frozen=True)
class Moments:
    """Of n images' rows.

    Attributes
    ----------
    covariance : Tensor of shape (d, d), float64
        Mean of the products of the rows less their place's mean.
    means : Tensor of shape (d, p), float64
        The mean of each place, shrunk.
    shrinkage : float in [0, 1]
        How far they are shrunk: 0 for each place's own mean, 1 for one mean of all places.
    rows : int
        Rows that were taken in.
    """

    covariance: Tensor
    means: Tensor
    shrinkage: float
    rows: int


class Stream:
    """Sums over a stream of images, float64, about the first image's mean.

    Parameters
    ----------
    first : Tensor of shape (d, p)
        The first image's rows, which are not taken in.
    """

    def __init__(self, first: Tensor) -> None:
        self.images = 0
        self._offset = double(first).mean(1, keepdim=True)
        self._sum = torch.zeros_like(double(first))
        self._products = self._sum.new_zeros(len(first), len(first))

    def add(self, rows: Tensor) -> None:
        """Take in an image's rows (d, p), float32.

        An image's products are summed over its places in float32, to about sqrt(p) 2^-24 of themselves: far
        below what the penalty and the shrinkage of the covariance add.
        """
        centred = rows - self._offset.to(rows)
        self._sum += double(centred)
        self._products += double(centred @ centred.T)
        self.images += 1

    def moments(self) -> Moments:
        """What was taken in; the sums' memory goes into it.

        A place's mean is shrunk to the overall one by how much of the places' difference is chance (empirical
        Bayes): the variance within the places, over the number of images, as a share of the variance between
        their means. With one image all of it may be chance.

        Raises
        ------
        EstimatorError
            If a sum is not finite.
        """
        if not bool(torch.isfinite(self._products).all()):
            raise EstimatorError(
                f"ridge_plus: the feature maps of the {self.images} training images hold values that are not "
                "finite (or overflow): check the images and the backbone's weights"
            )
        n, places = self.images, self._sum.shape[1]
        own = self._sum / n
        overall = own.mean(1, keepdim=True)
        apart = own - overall
        within = self._products.addmm_(own, own.T, alpha=-n)
        between = float(apart.square().sum()) / max(places - 1, 1)
        chance = float(within.diagonal().sum()) / max(places * (n - 1), 1) / n
        shrinkage = 1.0 if n < 2 or between <= chance else chance / between
        within.addmm_(apart, apart.T, alpha=n * shrinkage**2)
        means = overall + (1 - shrinkage) * apart + self._offset
        return Moments(within.div_(n * places), means, shrinkage, n * places)
