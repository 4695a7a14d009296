"""Training and test features of one (levels, pools) in all reductions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.estimators.closed_form import Reduction
from anomaly_sweep.estimators.spectrum import Spectrum, first_equal_rows

Matrix = NDArray[np.float64]


class Reductions:
    """Features of one (levels, pools) and their spectrum.

    Test images with equal features are scored once, so that their scores are equal whatever the estimator
    does with rounding.

    Attributes
    ----------
    train : ndarray of shape (n, d)
    test : ndarray of shape (m, d)
        The distinct rows of the test features.
    spectrum : Spectrum
        Of ``train``.
    projection : Projection
        ``test`` in the spectrum's coordinates.

    Raises
    ------
    EstimatorError
        If there is no spectrum: the training features have no variance.
    """

    def __init__(self, train: Matrix, test: Matrix) -> None:
        distinct, self._place = np.unique(first_equal_rows(test), return_inverse=True)
        self.train = train
        self.test = test if len(distinct) == len(test) else test[distinct]
        self.spectrum = Spectrum.fit(train)
        self.projection = self.spectrum.project(self.test)

    def reduction(self, pca_mode: PcaModeConf) -> Reduction:
        """What a PCA mode keeps."""
        kept = self.spectrum.keep(pca_mode)
        return Reduction(kept.start, kept.stop, whole=pca_mode.mode == "none")

    def reduce(self, pca_mode: PcaModeConf) -> tuple[Matrix, Matrix]:
        """Reduced training and (distinct) test features."""
        if pca_mode.mode == "none":
            return self.train, self.test
        kept = self.spectrum.keep(pca_mode)
        return self.spectrum.train[:, kept], self.projection.inside[:, kept]

    def of_all(self, scores: Matrix) -> Matrix:
        """Scores of all test images, (..., images), from those of the distinct ones, (..., m)."""
        return scores[..., self._place]
