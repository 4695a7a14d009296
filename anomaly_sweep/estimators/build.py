"""Estimators from their configs: any class with a ``_target_``, ours, scikit-learn's or PyOD's."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators import Estimator
from anomaly_sweep.fingerprint import fingerprint

_SEED_NAMES = ("seed", "random_state")


def target_of(config: Mapping[str, Any]) -> Any:
    """The class (or function) that ``_target_`` names.

    Raises
    ------
    ConfigError
        If it cannot be imported.
    """
    path = str(config["_target_"])
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"estimator._target_={path} cannot be imported ({error})") from error


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
    target = target_of(config)
    arguments = _arguments(config)
    try:
        parameters = _parameters(target)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"estimator._target_={config['_target_']} has no named arguments that could be set ({error})"
        ) from error
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    unknown = [key for key in arguments if key not in parameters and not open_ended]
    if unknown:
        raise ConfigError(
            f"estimator.{unknown[0]} is not an argument of {config['_target_']}; "
            f"allowed: {', '.join(parameters)}"
        )
    for name in _SEED_NAMES:
        if name in parameters and arguments.get(name) is None:
            arguments[name] = seed if name == "seed" else seed % 2**32
    try:
        made = target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"estimator {config['name']}: {config['_target_']} refuses its arguments: {error}"
        ) from error
    if type(made).__module__.split(".")[0] in ("sklearn", "pyod"):
        return Detector(made)
    if not (hasattr(made, "fit") and hasattr(made, "score_samples")):
        raise ConfigError(f"estimator {config['name']}: {config['_target_']} has no fit and score_samples")
    return made  # type: ignore[no-any-return]


@functools.lru_cache
def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of an estimator's config changes its results: its name does not, a preset's content does."""
    own = {key: value for key, value in config.items() if key != "name"}
    if str(config["_target_"]).startswith("anomaly_sweep.estimators.flow."):
        own["settings"] = dataclasses.asdict(target_of(config)(**_arguments(config)).settings)
    return own


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("name", "_target_")}


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
