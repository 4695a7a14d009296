"""Which way the scores of an estimator point: by what it is, not by where its class was written.

scikit-learn's detectors and density models score *normal* samples higher; PyOD's score *anomalous* ones
higher, and so does the contract of this project. A subclass keeps the convention of its base, and a pipeline
or a search has that of what it ends in.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.metrics.ranking import ranking_metrics

log = logging.getLogger(__name__)

#: Packages whose ``score_samples`` and ``decision_function`` follow scikit-learn's convention.
_SCIKIT_LEARN = ("sklearn", "sklearnex", "daal4py", "onedal", "cuml")
_METHODS = ("score_samples", "decision_function")
#: How far out the points of :func:`check_direction` lie, in units of the training rows' own distance to the
#: mean, and how many they are at most.
_FAR = 10.0
_ROWS = 32
#: Below this share of pairs in the right order, scores are upside down. Directions without meaning give one
#: half.
_INVERTED = 0.1
#: What to write when the direction cannot be known.
KEY = "higher_is_anomalous"


def is_pyod(model: Any) -> bool:
    """Whether it is one of PyOD's detectors, or of a library built as they are.

    PyOD's base is recognised by its name, so that PyOD is not imported; what is fitted as one of its
    detectors is (``decision_scores_``) counts as one.
    """
    inner = innermost(model)
    bases = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(inner).__mro__}
    return ("pyod", "BaseDetector") in bases or hasattr(inner, "decision_scores_")


def scoring_method(model: Any, name: str) -> str:
    """The method that scores samples.

    Raises
    ------
    ConfigError
        If there is none, or the model needs labels to be trained.
    """
    kind = type(model).__name__
    if _needs_labels(innermost(model)):
        raise ConfigError(
            f"estimator {name}: {kind} is a classifier or a regressor and needs labels; choose a detector"
        )
    methods = [m for m in (reversed(_METHODS) if is_pyod(model) else _METHODS) if hasattr(model, m)]
    if not hasattr(model, "fit") or not methods:
        # LocalOutlierFactor hides its methods otherwise.
        hint = " (it needs novelty: true)" if getattr(model, "novelty", None) is False else ""
        raise ConfigError(f"estimator {name}: {kind} has no fit and score_samples or decision_function{hint}")
    return methods[0]


def higher_is_anomalous(model: Any, method: str, name: str) -> bool:
    """Whether the scores of a method are higher for anomalous samples.

    Raises
    ------
    ConfigError
        If that cannot be known.
    """
    if is_pyod(model):
        return True
    if _is_scikit_learn(model):
        return False
    inner = innermost(model)
    source = next((cls.__module__ for cls in type(inner).__mro__ if method in vars(cls)), "")
    if source.partition(".")[0] in _SCIKIT_LEARN:
        return False
    if method == "score_samples":  # somebody's own class, written for this project
        return True
    raise ConfigError(
        f"estimator {name}: {type(model).__name__} has no score_samples, and whether its {method} is higher "
        f"for anomalous samples (as PyOD's) or for normal ones (as scikit-learn's) cannot be known; "
        f"set +estimator.{KEY}=true or false"
    )


def innermost(model: Any) -> Any:
    """The estimator that gives a pipeline's or a search's scores."""
    for _ in range(10):
        steps = getattr(model, "steps", None)
        if isinstance(steps, list) and steps and isinstance(steps[-1], tuple | list):
            model = steps[-1][-1]
        elif hasattr(getattr(model, "estimator", None), "fit"):
            model = model.estimator
        else:
            break
    return model


def check_direction(scores: NDArray[np.float64], n_near: int, kind: str, *, declared: bool) -> None:
    """See that points far from the training images score higher than these.

    Parameters
    ----------
    scores : ndarray of shape (n_near + m,)
        Of rows as :func:`probe` makes them.
    n_near : int
        How many of them are training images.
    declared : bool
        Whether the user has said which way the scores point: then this is a warning only.

    Raises
    ------
    EstimatorError
        If nearly all far points score lower.
    """
    if np.isnan(scores).any():
        return
    far = np.arange(len(scores)) >= n_near
    limit = np.finfo(np.float64).max
    share = float(ranking_metrics(np.clip(scores, -limit, limit), far).auroc)
    if share >= _INVERTED:
        return
    message = (
        f"{kind} scores training images higher than points {_FAR:g} times as far out "
        f"({100 * (1 - share):.0f} % of the pairs): its scores are upside down"
    )
    if not declared:
        raise EstimatorError(f"{message}; set +estimator.{KEY}=true or false to say which way they point")
    log.warning("%s, although estimator.%s is set", message, KEY)


def probe(train: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Some training rows, then as many far out beyond them; and how many there are of each."""
    some = train[np.unique(np.linspace(0, len(train) - 1, min(_ROWS, len(train))).round().astype(int))]
    mean = train.mean(axis=0)
    return np.concatenate([some, mean + _FAR * (some - mean)]), len(some)


def _is_scikit_learn(model: Any) -> bool:
    """Whether it is a detector or a density model by scikit-learn's own marks."""
    if "sklearn.base" not in sys.modules:  # nothing of it can have been made
        return False
    from sklearn.base import DensityMixin, OutlierMixin

    return isinstance(innermost(model), OutlierMixin | DensityMixin)


def _needs_labels(model: Any) -> bool:
    if "sklearn.base" not in sys.modules:
        return False
    from sklearn.base import BaseEstimator, is_classifier, is_regressor

    return isinstance(model, BaseEstimator) and (is_classifier(model) or is_regressor(model))
