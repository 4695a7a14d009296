"""What a trial needs of an estimator, and what an estimator can do beyond that."""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.metrics.ties import ScoreScale


class Estimator(Protocol):
    """What a trial needs of an estimator."""

    @property
    def score_scale(self) -> ScoreScale:
        """What its scores are."""
        ...

    def fit(self, X: NDArray[np.float64]) -> Self:
        """Fit to training features (n, d)."""
        ...

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores (m,) of features (m, d); higher = more anomalous."""
        ...


Capability = Literal["spectrum", "stack", "alone"]
#: All reductions of one spectrum are computed at once (:mod:`anomaly_sweep.estimators.closed_form`).
SPECTRUM: Final = "spectrum"
#: Many are trained at once (:mod:`anomaly_sweep.estimators.flow`).
STACK: Final = "stack"
#: Each is fitted and scored by itself.
ALONE: Final = "alone"


def capability(cls: type[Any]) -> Capability:
    """How estimators of a class can be computed together: its attribute ``computed``.

    A subclass that fits or scores in its own way is computed alone: what is shared would not be its own.
    """
    owner = next((base for base in cls.__mro__ if "computed" in vars(base)), None)
    if owner is None or any(getattr(cls, m) is not getattr(owner, m) for m in ("fit", "score_samples")):
        return ALONE
    found: Capability = vars(owner)["computed"]
    return found


def check_samples(name: str, X: NDArray[np.float64], n_features: int | None = None) -> None:
    """Raise EstimatorError unless features are a finite matrix (n, d), with d = ``n_features`` if given."""
    if X.ndim != 2 or (n_features is not None and X.shape[1] != n_features):
        wanted = "(n, d)" if n_features is None else f"(n, {n_features})"
        raise EstimatorError(f"{name}: expected features of shape {wanted}, got {X.shape}")
    if not np.isfinite(X).all():
        raise EstimatorError(f"{name}: the features hold NaN or infinity")


def check_is_fitted(name: str, estimator: Any) -> None:
    """Raise EstimatorError unless an estimator has ``n_features_in_``, which ``fit`` sets."""
    if not hasattr(estimator, "n_features_in_"):
        raise EstimatorError(f"{name}: call fit before score_samples")
