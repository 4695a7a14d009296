"""Trials: a configuration on one category, computed from a shard's features."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import Configuration, PcaModeConf
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.estimators.build import build, identity
from anomaly_sweep.features.shards import Shard, ShardFeatures
from anomaly_sweep.fingerprint import fingerprint, seed_of
from anomaly_sweep.metrics.ranking import auroc, settle_ties
from anomaly_sweep.spectrum import Spectrum
from anomaly_sweep.tracking.names import STATUS_FAILED, STATUS_OK

log = logging.getLogger(__name__)

#: Raised when the computation of a trial changes so that its numbers do.
TRIAL_VERSION = 1

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """What is done with a shard's features. The fingerprint covers everything that changes the result."""

    fingerprint: str
    levels: tuple[str, ...]
    pools: tuple[str, ...]
    pca_mode: PcaModeConf
    estimator: dict[str, Any]

    @property
    def seed(self) -> int:
        """Seed of everything random in the trial."""
        return seed_of(self.fingerprint)


@dataclass(frozen=True)
class TrialResult:
    """Outcome of a trial. ``image_auroc`` is None exactly when it failed, for the ``reason``."""

    fingerprint: str
    status: str
    image_auroc: float | None = None
    n_features: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    fit_seconds: float | None = None
    score_seconds: float | None = None
    reason: str = ""

    @classmethod
    def failed(cls, print_: str, reason: str) -> TrialResult:
        """A hole with a reason."""
        return cls(print_, STATUS_FAILED, reason=reason)

    @property
    def ok(self) -> bool:
        """Whether there is a number."""
        return self.status == STATUS_OK


def features_fingerprint(shard: Shard, levels: Sequence[str]) -> str:
    """Identity of a shard's features at some levels."""
    return fingerprint(*(shard.about(split, level) for split in ("train", "test") for level in levels))


def settings_fingerprint(configuration: Configuration) -> str:
    """Identity of what a configuration does with features: every setting that changes a trial's value."""
    pca = configuration.pca_mode
    reduction = [pca.mode] if pca.mode == "none" else [pca.mode, pca.rate, pca.basis]
    return fingerprint(
        TRIAL_VERSION, configuration.pooling.kinds, reduction, identity(configuration.estimator)
    )


def run_trials(
    features: ShardFeatures,
    labels: NDArray[np.int64],
    trials: Sequence[Trial],
    *,
    device: str = "cpu",
    on_trial: Callable[[TrialResult], None] = lambda _result: None,
) -> list[TrialResult]:
    """All trials of a shard, each with its own outcome; one spectrum per (levels, pools) is shared.

    Flows of one shape are trained together; everything else is fitted and scored trial by trial.
    """
    results = []
    for group in _by(trials, lambda t: (t.levels, t.pools)):
        try:
            train, test = features.matrices(group[0].levels, group[0].pools)
            reduced = Reductions(train, test)
        except AnomalySweepError as error:
            found: Iterator[TrialResult] = (TrialResult.failed(t.fingerprint, str(error)) for t in group)
        else:
            found = _run_group(reduced, labels, group, device)
        for result in found:
            on_trial(result)
            results.append(result)
    return results


class Reductions:
    """Training and test features of one (levels, pools), reduced as asked; the spectrum is made once."""

    def __init__(self, train: Matrix, test: Matrix) -> None:
        self.train = train
        self.test = test
        self._spectrum: Spectrum | None = None
        self._test: Matrix | None = None

    def reduce(self, pca_mode: PcaModeConf) -> tuple[Matrix, Matrix]:
        """Reduced training and test features."""
        if self._spectrum is None:
            self._spectrum = Spectrum.fit(self.train)
            self._test = self._spectrum.transform(self.test)
        if pca_mode.mode == "none":
            return self.train, self.test
        assert self._test is not None
        kept = self._spectrum.keep(pca_mode)
        return self._spectrum.train[:, kept], self._test[:, kept]


def _run_group(
    reduced: Reductions, labels: NDArray[np.int64], trials: Sequence[Trial], device: str
) -> Iterator[TrialResult]:
    flows = [trial for trial in trials if _is_flow(trial)]
    for trial in trials:
        if not _is_flow(trial):
            yield _guarded(trial, lambda trial=trial: _run_one(reduced, labels, trial))
    for same in _by(flows, lambda t: identity(t.estimator)):
        yield from _run_flows(reduced, labels, same, device)


def _is_flow(trial: Trial) -> bool:
    return str(trial.estimator["_target_"]).startswith("anomaly_sweep.estimators.flow.")


def _run_one(reduced: Reductions, labels: NDArray[np.int64], trial: Trial) -> TrialResult:
    train, test = reduced.reduce(trial.pca_mode)
    estimator = build(trial.estimator, trial.seed)
    begun = time.perf_counter()
    estimator.fit(train)
    fitted = time.perf_counter()
    scores = estimator.score_samples(test)
    scored = time.perf_counter()
    return _result(trial, train, scores, labels, fitted - begun, scored - fitted)


def _run_flows(
    reduced: Reductions, labels: NDArray[np.int64], trials: Sequence[Trial], device: str
) -> Iterator[TrialResult]:
    """Flows with the same settings, stacked. Times are a member's share of its stack's."""
    from anomaly_sweep.estimators.flow import CouplingFlow, FittedFlow, plan_stacks, score_stack, train_stack

    model = build(trials[0].estimator, seed=0)
    assert isinstance(model, CouplingFlow)
    pairs = [reduced.reduce(trial.pca_mode) for trial in trials]
    for stack in plan_stacks([train.shape for train, _ in pairs], model.settings, device=device):
        members = [trials[i] for i in stack]
        begun = time.perf_counter()
        trained = train_stack([pairs[i][0] for i in stack], [t.seed for t in members], model.settings, device)
        fit = (time.perf_counter() - begun) / len(stack)
        flows = {i: flow for i, flow in zip(stack, trained, strict=True) if isinstance(flow, FittedFlow)}
        begun = time.perf_counter()
        scores = dict(
            zip(flows, score_stack(list(flows.values()), [pairs[i][1] for i in flows]), strict=True)
        )
        score = (time.perf_counter() - begun) / len(stack)
        for i, trial, outcome in zip(stack, members, trained, strict=True):
            if i in scores:
                train, found = pairs[i][0], scores[i]
                yield _guarded(trial, lambda: _result(trial, train, found, labels, fit, score))  # noqa: B023
            else:
                yield TrialResult.failed(trial.fingerprint, str(outcome))


def _result(
    trial: Trial, train: Matrix, scores: Matrix, labels: NDArray[np.int64], fit: float, score: float
) -> TrialResult:
    finite = np.isfinite(scores).all()
    return TrialResult(
        trial.fingerprint,
        STATUS_OK,
        image_auroc=auroc(settle_ties(scores) if finite else scores, labels),
        n_features=train.shape[1],
        n_train=len(train),
        n_test=len(labels),
        fit_seconds=fit,
        score_seconds=score,
    )


def _guarded(trial: Trial, compute: Callable[[], TrialResult]) -> TrialResult:
    """A trial's failure is its own: the sweep goes on."""
    try:
        return compute()
    except AnomalySweepError as error:
        return TrialResult.failed(trial.fingerprint, str(error))
    except Exception as error:
        log.exception("trial %s", trial.fingerprint)
        return TrialResult.failed(trial.fingerprint, f"{type(error).__name__}: {error}")


def _by(trials: Sequence[Trial], key: Callable[[Trial], Any]) -> Iterator[list[Trial]]:
    """Groups of trials with equal keys, in order of first appearance."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(repr(key(trial)), []).append(trial)
    yield from groups.values()
