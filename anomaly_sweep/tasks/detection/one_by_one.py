"""Trials one by one: each reduction fitted and scored by its estimator. Flows are trained in stacks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.estimators.create import Detector, build
from anomaly_sweep.metrics.ties import ScoreScale
from anomaly_sweep.tasks.base import Trial, TrialResult, guarded, of_images
from anomaly_sweep.tasks.detection.reductions import Matrix, Reductions
from anomaly_sweep.tracking.names import STATUS_OK

Labels = NDArray[np.int64]


def run_each(reduced: Reductions, labels: Labels, trials: Sequence[Trial]) -> Iterator[TrialResult]:
    """Trials of any estimator, each by itself."""
    for trial in trials:
        yield guarded(trial, _run_one, reduced, labels, trial)


def run_flows(
    flows: Sequence[tuple[Reductions, Trial]], labels: Labels, device: str
) -> Iterator[TrialResult]:
    """Flows with one estimator config, from any (levels, pools) of a shard, stacked."""
    from anomaly_sweep.estimators.flow import CouplingFlow, FittedFlow, plan_stacks, score_stack, train_stack

    try:
        model = build(flows[0][1].estimator, seed=0)
        pairs = [reduced.reduce(trial.pca_mode) for reduced, trial in flows]
    except AnomalySweepError as error:
        for _, trial in flows:
            yield TrialResult.failed(trial.fingerprint, str(error))
        return
    assert isinstance(model, CouplingFlow)
    chosen = flows[0][1].estimator.get("seed")
    for stack in plan_stacks([train.shape for train, _ in pairs], model.settings, device=device):
        seeds = [flows[i][1].seed if chosen is None else int(chosen) for i in stack]
        begun = time.perf_counter()
        refits = [flows[i][0].refit(flows[i][1].pca_mode) for i in stack]
        trained = train_stack([pairs[i][0] for i in stack], seeds, model.settings, device, refits)
        fit = (time.perf_counter() - begun) / len(stack)
        fitted = {i: flow for i, flow in zip(stack, trained, strict=True) if isinstance(flow, FittedFlow)}
        begun = time.perf_counter()
        found = score_stack(list(fitted.values()), [pairs[i][1] for i in fitted])
        score = (time.perf_counter() - begun) / len(stack)
        scores = dict(zip(fitted, found, strict=True))
        for i, outcome in zip(stack, trained, strict=True):
            reduced, trial = flows[i]
            if i in scores:
                own = (trial, reduced, pairs[i][0], scores[i], model.score_scale, labels, fit, score)
                yield guarded(trial, _result, *own)
            else:
                yield TrialResult.failed(trial.fingerprint, str(outcome))


def _run_one(reduced: Reductions, labels: Labels, trial: Trial) -> TrialResult:
    train, test = reduced.reduce(trial.pca_mode)
    estimator = build(trial.estimator, trial.seed)
    begun = time.perf_counter()
    estimator.fit(train)
    fitted = time.perf_counter()
    scores = estimator.score_samples(test)
    scored = time.perf_counter()
    if isinstance(estimator, Detector):
        estimator.check_direction(train)
    scale = estimator.score_scale
    return _result(trial, reduced, train, scores, scale, labels, fitted - begun, scored - fitted)


def _result(
    trial: Trial,
    reduced: Reductions,
    train: Matrix,
    scores: Matrix,
    scale: ScoreScale,
    labels: Labels,
    fit: float,
    score: float,
) -> TrialResult:
    (images,) = of_images(reduced.of_all(scores)[None], labels, scale)
    return TrialResult(
        trial.fingerprint,
        STATUS_OK,
        n_features=train.shape[1],
        n_train=len(train),
        fit_seconds=fit,
        score_seconds=score,
        **images,
    )
