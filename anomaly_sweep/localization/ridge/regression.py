"""Ridge regression in closed form from streamed sums; one eigendecomposition serves every penalty.

Rows are the places of images: x explains y by ``y = W x + b``. W is penalised, b is not: it is one vector, or
one for every place (a regression on the position, which the closed form takes out by centring each place).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly_sweep.errors import EstimatorError


class Sums:
    """Sums over a stream of images, float64.

    They are taken about the first image's means: nothing is lost where means are large.

    Parameters
    ----------
    x, y : Tensor of shape (d, p), (m, p)
        The first image, which is not taken in.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        x, y = double(x), double(y)
        self.images = 0
        self._offset_x, self._offset_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        self._x, self._y = torch.zeros_like(x), torch.zeros_like(y)
        self._gram = x.new_zeros(len(x), len(x))
        self._cross = x.new_zeros(len(x), len(y))
        self._squares = x.new_zeros(len(y))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in an image: x (d, p) and y (m, p)."""
        x, y = double(x) - self._offset_x, double(y) - self._offset_y
        self._x += x
        self._y += y
        self._gram.addmm_(x, x.T)
        self._cross.addmm_(x, y.T)
        self._squares += y.square_().sum(1)
        self.images += 1

    def centre(self, by_place: bool) -> Centred:
        """Second moments about the mean, or about each place's mean. The sums' memory goes into them.

        Raises
        ------
        EstimatorError
            If a sum is not finite.
        """
        for total in (self._gram, self._cross, self._squares):
            if not bool(torch.isfinite(total).all()):
                raise EstimatorError(
                    f"ridge: the feature maps of the {self.images} training images hold values that are not "
                    "finite (or overflow): check the images and the backbone's weights"
                )
        count = self.images if by_place else self.images * self._x.shape[1]
        x, y = (total if by_place else total.sum(1, keepdim=True) for total in (self._x, self._y))
        self._gram.addmm_(x, x.T, alpha=-1 / count)
        self._cross.addmm_(x, y.T, alpha=-1 / count)
        self._squares -= y.square().sum(1) / count
        return Centred(
            gram=self._gram,
            cross=self._cross,
            squares=self._squares.clamp_(min=0),
            mean_x=x / count + self._offset_x,
            mean_y=y / count + self._offset_y,
            rows=self.images * self._x.shape[1],
        )


@dataclass(frozen=True)
class Centred:
    """Second moments of rows about their means, float64.

    Attributes
    ----------
    gram, cross : Tensor of shape (d, d), (d, m)
        Sums of x x^T and x y^T.
    squares : Tensor of shape (m,)
        Sums of squares of y.
    mean_x, mean_y : Tensor of shape (d, k), (m, k)
        k = 1, or the number of places.
    rows : int
    """

    gram: Tensor
    cross: Tensor
    squares: Tensor
    mean_x: Tensor
    mean_y: Tensor
    rows: int


class Ridge:
    """The ridge regressions of all penalties.

    A penalty is relative: alpha times the mean eigenvalue of the centred Gram matrix of x, so it means the
    same whatever the scale of the features and the number of rows.

    Parameters
    ----------
    moments : Centred

    Raises
    ------
    EstimatorError
        If the eigendecomposition does not converge.
    """

    def __init__(self, moments: Centred) -> None:
        self._moments = moments
        try:
            values, self._vectors = torch.linalg.eigh(moments.gram)
        except RuntimeError as error:
            raise EstimatorError(
                f"ridge: the eigendecomposition of {len(moments.gram)} explaining features failed: {error}"
            ) from error
        self._values = values.clamp_(min=0)
        self._rotated = self._vectors.T @ moments.cross

    def _inverses(self, alpha: float) -> Tensor:
        """1 / (eigenvalue + penalty); 0 where x never changes, for it explains nothing then."""
        penalised = self._values + alpha * self._values.mean()
        return torch.where(penalised > 0, 1 / penalised, 0)

    def weights(self, alpha: float) -> Tensor:
        """W (m, d) of a penalty."""
        weights: Tensor = self._vectors @ (self._inverses(alpha)[:, None] * self._rotated)
        return weights.T

    def offset(self, weights: Tensor) -> Tensor:
        """Offset b (m, k) of weights: the prediction of the mean is the mean."""
        offset: Tensor = self._moments.mean_y - weights @ self._moments.mean_x
        return offset

    def squared_errors(self, alpha: float) -> Tensor:
        """Sums of squared training errors (m,)."""
        inverses = self._inverses(alpha)
        taken = inverses * (2 - self._values * inverses)
        errors: Tensor = self._moments.squares - taken @ self._rotated**2
        return errors.clamp(min=0)

    def gcv(self, alpha: float) -> float:
        """Generalised cross-validation (Golub, Heath & Wahba 1979): rows * errors / (rows - freedom)^2.

        Freedom is the trace of the hat matrix, intercepts included. It counts rows as independent, which
        neighbouring places are not.
        """
        moments = self._moments
        freedom = moments.mean_x.shape[1] + float((self._values * self._inverses(alpha)).sum())
        left = moments.rows - freedom
        errors = float(self.squared_errors(alpha).sum())
        return moments.rows * errors / left**2 if left > 0 else float("inf")


def double(values: Tensor) -> Tensor:
    """Values in float64, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()
