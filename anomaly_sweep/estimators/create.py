"""Estimators from their configs: any class with a ``_target_``, ours, scikit-learn's or PyOD's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators import Estimator
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.instantiate import arguments_of, construct, target_of


def check(config: Mapping[str, Any]) -> None:
    """Build the estimator once and throw it away, so that a wrong key or value is told before the work.

    Raises
    ------
    ConfigError
        If the target cannot be imported or called, if a key is not an argument of it (the message lists
        those that are), or if it refuses a value.
    """
    build(config, seed=0)


def check_each(configs: Iterable[Mapping[str, Any]]) -> None:
    """:func:`check` each distinct one of many estimators."""
    for config in {fingerprint(dict(config)): config for config in configs}.values():
        check(config)


def build(config: Mapping[str, Any], seed: int) -> Estimator:
    """An unfitted estimator under the one contract: higher scores are more anomalous.

    Parameters
    ----------
    config : mapping
        ``name``, ``_target_`` and the target's arguments.
    seed : int
        Given to the target as ``seed`` or ``random_state`` if it takes one and the config sets none.

    Raises
    ------
    ConfigError
        As :func:`check`.
    """
    made = construct("estimator", config, seed=seed, random_state=seed % 2**32)
    if type(made).__module__.split(".")[0] in ("sklearn", "pyod"):
        return Detector(made)
    if not (hasattr(made, "fit") and hasattr(made, "score_samples")):
        raise ConfigError(f"estimator {config['name']}: {config['_target_']} has no fit and score_samples")
    return made  # type: ignore[no-any-return]


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of an estimator's config changes its results: its name does not, a preset's content does."""
    own = {key: value for key, value in config.items() if key != "name"}
    if str(config["_target_"]).startswith("anomaly_sweep.estimators.flow."):
        own["settings"] = dataclasses.asdict(target_of("estimator", config)(**arguments_of(config)).settings)
    return own


class Detector:
    """A scikit-learn or PyOD detector under the one contract.

    scikit-learn's scores are higher for *normal* samples and are negated; PyOD's ``decision_function`` is
    higher for anomalous ones already.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._pyod = type(model).__module__.startswith("pyod")
        if not self._pyod and not any(hasattr(model, m) for m in ("score_samples", "decision_function")):
            raise ConfigError(
                f"estimator: {type(model).__name__} has neither score_samples nor decision_function "
                "(LocalOutlierFactor needs novelty: true)"
            )

    def fit(self, X: NDArray[np.float64]) -> Self:
        """Fit to (n, d).

        Raises
        ------
        EstimatorError
            If the detector refuses the data.
        """
        try:
            self.model.fit(X)
        except ValueError as error:
            raise EstimatorError(f"{type(self.model).__name__}: {error}") from error
        return self

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores (m,) of (m, d)."""
        if self._pyod:
            return np.asarray(self.model.decision_function(X), dtype=np.float64)
        score = getattr(self.model, "score_samples", None) or self.model.decision_function
        return -np.asarray(score(X), dtype=np.float64)
