"""Multivariate Gaussian (MVG): Mahalanobis distance to the training mean."""

from __future__ import annotations

import warnings
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from anomaly_sweep.checks import one_of
from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.base import SPECTRUM, Capability, check_is_fitted, check_samples
from anomaly_sweep.estimators.spectrum import near_origin
from anomaly_sweep.metrics.ties import ScoreScale

SHRINKAGES = ("ledoit_wolf", "oas", "empirical")

#: A covariance is singular to working precision when its variances are further apart than this.
SINGULAR = 2.0**-40


class MultivariateGaussian:
    """Mahalanobis distance under a Gaussian fitted to the training features.

    Parameters
    ----------
    shrinkage : {"ledoit_wolf", "oas", "empirical"}
        Covariance estimate, scikit-learn's: Ledoit & Wolf (2004), oracle approximating shrinkage (Chen et
        al. 2010), or the maximum-likelihood covariance, which must not be singular.

    Raises
    ------
    ConfigError
        For another shrinkage.
    """

    computed: ClassVar[Capability] = SPECTRUM

    score_scale: ClassVar[ScoreScale] = "ratio"

    def __init__(self, shrinkage: str = "ledoit_wolf") -> None:
        one_of("estimator.shrinkage", shrinkage, SHRINKAGES)
        self.shrinkage = shrinkage

    def fit(self, X: NDArray[np.float64]) -> Self:
        """Fit mean and covariance to (n, d).

        Raises
        ------
        EstimatorError
            If the covariance is singular to working precision (``empirical`` with n <= d, or features
            without variance; two images in more than one dimension), or the features are not finite.
        """
        from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf

        check_samples("MVG", X)
        n, d = X.shape
        if self.shrinkage == "empirical" and n <= d:  # however large rounding makes the last pivot
            raise singular(self.shrinkage, n, d)
        model = {"ledoit_wolf": LedoitWolf, "oas": OAS, "empirical": EmpiricalCovariance}[self.shrinkage]
        with warnings.catch_warnings():
            # scikit-learn warns of one row; the spectrum has refused that already.
            warnings.simplefilter("ignore", UserWarning)
            self._origin = near_origin(X)
            fitted = model(store_precision=False).fit(X - self._origin)
        self._mean: NDArray[np.float64] = fitted.location_
        covariance = fitted.covariance_
        if self.shrinkage == "oas" and fitted.shrinkage_ < 0:
            # Equal variances in all directions: OAS divides by a difference that is 0 but for rounding.
            covariance = np.eye(d) * (X.var(axis=0).sum() / d)
        try:
            self._cholesky = linalg.cholesky(covariance, lower=True)
        except linalg.LinAlgError as error:
            raise singular(self.shrinkage, n, d) from error
        if is_singular(np.diag(self._cholesky) ** 2):
            raise singular(self.shrinkage, n, d)
        self.n_features_in_ = d
        return self

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mahalanobis distances (m,) of (m, d).

        Raises
        ------
        EstimatorError
            Before `fit`, or if the features are not finite or have another d.
        """
        check_is_fitted("MVG", self)
        check_samples("MVG", X, self.n_features_in_)
        white = linalg.solve_triangular(self._cholesky, (X - self._origin - self._mean).T, lower=True)
        distances: NDArray[np.float64] = np.sqrt(np.einsum("dm,dm->m", white, white))
        return distances


def is_singular(variances: NDArray[np.float64]) -> bool:
    """Whether variances along the axes (d,) differ so much that distances would have hardly a right digit."""
    return bool(variances.min() <= variances.max() * SINGULAR)


def singular(shrinkage: str, n: int, d: int) -> EstimatorError:
    """The error of a covariance that cannot be inverted."""
    if n == 2 and d > 1:  # two points have no spread but along their line: every estimate shrinks by nothing
        advice = "two images lie on a line, so no covariance can be had of them: give more training images"
    elif shrinkage == "empirical":
        advice = "use estimator.shrinkage=ledoit_wolf or a stronger reduction"
    else:
        advice = "use a stronger reduction (a smaller pca_mode.rate), or more training images"
    return EstimatorError(
        f"the {shrinkage} covariance of {n} training images in {d} dimensions is singular; {advice}"
    )
