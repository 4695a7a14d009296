"""Estimators from their configs: any class with a ``_target_``, ours, scikit-learn's or PyOD's."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.checks import one_of
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators import direction
from anomaly_sweep.estimators.base import ALONE, Capability, Estimator, capability
from anomaly_sweep.estimators.direction import KEY, scoring_method
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.instantiate import construct
from anomaly_sweep.metrics.ties import ScoreScale

log = logging.getLogger(__name__)

_OURS = "anomaly_sweep.estimators"
_MOST_EXAMPLES = 256
_examples: dict[str, Estimator] = {}


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
        ``name``, ``_target_`` and the target's arguments; ``higher_is_anomalous`` (bool) says which way the
        scores of somebody's own class point, where that cannot be known or is known wrongly.
    seed : int
        Given to the target as ``seed`` or ``random_state`` if it takes one and the config sets none.

    Raises
    ------
    ConfigError
        As :func:`check`, or if the config says where one of ours is computed: how a sweep runs is no part of
        what a trial is.
    """
    declared = config.get(KEY)
    if declared is not None and not isinstance(declared, bool):
        raise ConfigError(f"estimator.{KEY}={declared} is not allowed; allowed: true, false, null")
    node = {key: value for key, value in config.items() if key != KEY}
    estimator = construct("estimator", node, seed=seed, random_state=seed % 2**32)
    if type(estimator).__module__.startswith(f"{_OURS}."):
        if declared is not None:
            raise ConfigError(
                f"estimator.{KEY} has no part in {config['_target_']}: its scores are higher for anomalous "
                "images"
            )
        if "device" in config:
            raise ConfigError(
                f"estimator.device has no part in {config['_target_']}: flows train where runtime.device "
                "puts the network; remove the key and set runtime.device"
            )
        return estimator  # type: ignore[no-any-return]
    return Detector(estimator, config["name"], declared)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of an estimator's config changes its results: its name does not, a preset's content does."""
    content = {key: value for key, value in config.items() if key != "name" and (key, value) != (KEY, None)}
    settings = getattr(build(config, seed=0), "settings", None)
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        content["settings"] = dataclasses.asdict(settings)
    return content


def capability_of(config: Mapping[str, Any]) -> Capability:
    """How an estimator can be computed together with others: its class's `capability`.

    One that cannot be made is alone with its failure.
    """
    try:
        return capability(type(_example(config)))
    except Exception:
        return ALONE


def _example(config: Mapping[str, Any]) -> Estimator:
    """An unfitted estimator of a config, to be looked at only; each distinct one is made once."""
    key = fingerprint(dict(config))
    if key not in _examples:
        if len(_examples) >= _MOST_EXAMPLES:
            _examples.clear()
        _examples[key] = build(config, seed=0)
    return _examples[key]


class Detector:
    """Any detector under the one contract: scikit-learn's, PyOD's or somebody's own.

    Parameters
    ----------
    model : object
        With ``fit`` and ``score_samples`` or ``decision_function``.
    name : str
        For messages.
    higher_is_anomalous : bool, optional
        Which way its scores point; None finds out (see :mod:`anomaly_sweep.estimators.direction`).

    Raises
    ------
    ConfigError
        If it cannot score samples, has a parameter of an impossible value (scikit-learn's), or which way its
        scores point cannot be known.
    """

    def __init__(self, model: Any, name: str = "", higher_is_anomalous: bool | None = None) -> None:
        self.model = model
        self._kind = type(model).__name__
        self._method = scoring_method(model, name)
        self._declared = higher_is_anomalous
        anomalous = higher_is_anomalous
        if anomalous is None:
            anomalous = direction.higher_is_anomalous(model, self._method, name)
        self._sign = 1.0 if anomalous else -1.0
        self.score_scale: ScoreScale = getattr(model, "score_scale", "interval")
        one_of(f"score_scale of {self._kind}", self.score_scale, get_args(ScoreScale))
        self._validate(name)

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
            raise EstimatorError(f"{self._kind}: {error}") from error
        return self

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores (m,) of (m, d).

        Raises
        ------
        EstimatorError
            If the detector refuses the data, or what it gives is not one real number for each row.
        """
        try:
            found = getattr(self.model, self._method)(X)
        except ValueError as error:
            raise EstimatorError(f"{self._kind}: {error}") from error
        return self._sign * _vector(found, len(X), f"{self._kind}.{self._method}")

    def check_direction(self, X: NDArray[np.float64]) -> None:
        """See, once it is fitted to (n, d), that points far from these images score higher.

        Raises
        ------
        EstimatorError
            If they score lower, and the user has not said which way the scores point.
        """
        rows, n_near = direction.probe(X)
        try:
            with np.errstate(all="ignore"):
                scores = self.score_samples(rows)
        except Exception as error:  # points out there need not be scored
            log.debug("%s cannot score far points: %s", self._kind, error)
            return
        direction.check_direction(scores, n_near, self._kind, declared=self._declared is not None)

    def _validate(self, name: str) -> None:
        """What scikit-learn would find wrong with the parameters when it is fitted, hours from now."""
        if not hasattr(self.model, "_parameter_constraints"):
            return
        try:
            self.model._validate_params()
        except ValueError as error:
            raise ConfigError(f"estimator {name}: {error}") from error


def _vector(found: Any, n: int, what: str) -> NDArray[np.float64]:
    """Scores as float64 (n,), if they are one real number for each of n images."""
    try:
        values = np.asarray(found)
    except ValueError as error:
        raise EstimatorError(f"{what} gave scores that are no array ({error})") from error
    if values.shape != (n,):
        raise EstimatorError(f"{what} gave scores of shape {values.shape} for {n} images; it must be ({n},)")
    if values.dtype.kind not in "biuf":
        raise EstimatorError(f"{what} gave scores of type {values.dtype}; they must be real numbers")
    return values.astype(np.float64)
