"""Training and test features of one (levels, pools) in all reductions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.estimators.closed_form import Reduction
from anomaly_sweep.estimators.spectrum import Projection, Spectrum, first_equal_rows

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
        When the spectrum is asked for and there is none: one training image, or no variance.
    """

    def __init__(self, train: Matrix, test: Matrix) -> None:
        distinct, self._place = np.unique(first_equal_rows(test), return_inverse=True)
        self.train = train
        self.test = test if len(distinct) == len(test) else test[distinct]
        self._partial: dict[bytes, tuple[Matrix, Matrix, int]] = {}

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the training features."""
        return Spectrum.fit(self.train)

    @cached_property
    def projection(self) -> Projection:
        """The test features in the spectrum's coordinates."""
        return self.spectrum.project(self.test)

    def reduction(self, pca_mode: PcaModeConf) -> Reduction:
        """What a PCA mode keeps."""
        kept = self._kept(pca_mode)
        return Reduction(kept.start, kept.stop, whole=pca_mode.mode == "none")

    def reduce(self, pca_mode: PcaModeConf) -> tuple[Matrix, Matrix]:
        """Reduced training and (distinct) test features."""
        if pca_mode.mode == "none":
            return self.train, self.test
        kept = self._kept(pca_mode)
        return self.spectrum.train[:, kept], self.projection.inside[:, kept]

    def refit(self, pca_mode: PcaModeConf) -> Callable[[NDArray[np.intp]], Matrix]:
        """The training features, (n, d), in a reduction of as many dimensions fitted to some rows of them.

        Where these rows span fewer dimensions, further ones of all the training features' make up for it.
        """
        if pca_mode.mode == "none":
            return lambda _rows: self.train
        kept = self._kept(pca_mode)
        d = kept.stop - kept.start

        def fitted_to(rows: NDArray[np.intp]) -> Matrix:
            mean, components, rank = self._partial_spectrum(rows)
            start = 0 if pca_mode.mode == "pca" else max(0, rank - d)
            turned: Matrix = (self.spectrum.train - mean) @ components[start : start + d].T
            return turned

        return fitted_to

    def _kept(self, pca_mode: PcaModeConf) -> slice:
        return self.spectrum.keep(pca_mode.mode, pca_mode.rate, pca_mode.basis)

    def _partial_spectrum(self, rows: NDArray[np.intp]) -> tuple[Matrix, Matrix, int]:
        """Mean, components and rank of some rows, in the coordinates of the whole spectrum."""
        key = rows.tobytes()
        if key not in self._partial:
            some = self.spectrum.train[rows]
            mean = some.mean(0)
            _, singular, components = np.linalg.svd(some - mean, full_matrices=len(rows) <= some.shape[1])
            rank = int((singular > np.finfo(np.float64).eps * max(some.shape) * singular[0]).sum())
            self._partial[key] = (mean, components, rank)
        return self._partial[key]

    def of_all(self, scores: Matrix) -> Matrix:
        """Scores of all test images, (..., images), from those of the distinct ones, (..., m)."""
        return scores[..., self._place]
