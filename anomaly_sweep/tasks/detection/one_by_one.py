"""Trials one by one: each reduction fitted and scored by its estimator. Flows are trained in stacks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import AnomalySweepError, EstimatorError
from anomaly_sweep.estimators.create import Detector, build
from anomaly_sweep.fingerprint import seeds_of
from anomaly_sweep.metrics.ties import ScoreScale
from anomaly_sweep.tasks.base import TrialResult, guarded, of_images, over_seeds
from anomaly_sweep.tasks.detection.reductions import Matrix, Reductions
from anomaly_sweep.tasks.detection.trial import DetectionTrial
from anomaly_sweep.tracking.names import STATUS_OK

if TYPE_CHECKING:
    from anomaly_sweep.estimators.flow import FittedFlow

Labels = NDArray[np.int64]


def run_each(reduced: Reductions, labels: Labels, trials: Sequence[DetectionTrial]) -> Iterator[TrialResult]:
    """Trials of any estimator, each by itself."""
    for trial in trials:
        yield guarded(trial, _run_one, reduced, labels, trial)


def run_flows(
    flows: Sequence[tuple[Reductions, DetectionTrial]], labels: Labels, device: str
) -> Iterator[TrialResult]:
    """Flows with one estimator config, from any (levels, pools) of a shard, stacked."""
    from anomaly_sweep.estimators.flow import CouplingFlow, plan_stacks, train_stack

    try:
        model = build(flows[0][1].estimator, seed=0)
        pairs = [reduced.reduce(trial.pca_mode) for reduced, trial in flows]
    except AnomalySweepError as error:
        for _, trial in flows:
            yield TrialResult.failed(trial.fingerprint, str(error))
        return
    assert isinstance(model, CouplingFlow)
    chosen = flows[0][1].estimator.get("seed")
    seeds = [seeds_of(trial.seed if chosen is None else model.seed, model.seeds) for _, trial in flows]
    members = [(i, seed) for i, own in enumerate(seeds) for seed in own]
    refits = [reduced.refit(trial.pca_mode) for reduced, trial in flows]
    ended: dict[int, list[_Flow]] = defaultdict(list)
    for stack in plan_stacks([pairs[i][0].shape for i, _ in members], model.settings, device=device):
        some = [members[place] for place in stack]
        begun = time.perf_counter()
        trained = train_stack(
            [pairs[i][0] for i, _ in some],
            [seed for _, seed in some],
            model.settings,
            device,
            [refits[i] for i, _ in some],
        )
        fit = (time.perf_counter() - begun) / len(stack)
        begun = time.perf_counter()
        found = _scored(trained, [pairs[i][1] for i, _ in some])
        score = (time.perf_counter() - begun) / len(stack)
        for (i, seed), scores in zip(some, found, strict=True):
            ended[i].append(_Flow(seed, scores, fit, score))
            if len(ended[i]) == model.seeds:
                reduced, trial = flows[i]
                mine = sorted(ended.pop(i), key=lambda flow: seeds[i].index(flow.seed))
                yield guarded(trial, _of_seeds, trial, reduced, pairs[i][0], mine, model.score_scale, labels)


def _scored(flows: Sequence[FittedFlow | EstimatorError], tests: Sequence[Matrix]) -> list[Matrix | str]:
    """Scores of a stack's flows, or why one has none."""
    from anomaly_sweep.estimators.flow import FittedFlow, score_stack

    pairs = [(flow, test) for flow, test in zip(flows, tests, strict=True) if isinstance(flow, FittedFlow)]
    try:
        scores = iter(score_stack([flow for flow, _ in pairs], [test for _, test in pairs]))
    except EstimatorError as error:
        if len(flows) == 1:
            return [str(error)]
        return [_scored([flow], [test])[0] for flow, test in zip(flows, tests, strict=True)]
    return [next(scores) if isinstance(flow, FittedFlow) else str(flow) for flow in flows]


@dataclass(frozen=True)
class _Flow:
    """Scores of one trained flow (or why there are none), and its share of the seconds."""

    seed: int
    scores: Matrix | str
    fit: float
    score: float


def _of_seeds(
    trial: DetectionTrial,
    reduced: Reductions,
    train: Matrix,
    flows: Sequence[_Flow],
    scale: ScoreScale,
    labels: Labels,
) -> TrialResult:
    """Metrics over the seeds' flows, and the seconds of all of them."""
    scores = []
    for flow in flows:
        if isinstance(flow.scores, str):
            raise EstimatorError(flow.scores)
        scores.append(flow.scores)
    each = [
        TrialResult(
            trial.fingerprint,
            STATUS_OK,
            n_features=train.shape[1],
            n_train=len(train),
            fit_seconds=sum(flow.fit for flow in flows),
            score_seconds=sum(flow.score for flow in flows),
            **images,
        )
        for images in of_images(reduced.of_all(np.stack(scores)), labels, scale)
    ]
    return over_seeds(each)


def _run_one(reduced: Reductions, labels: Labels, trial: DetectionTrial) -> TrialResult:
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
    trial: DetectionTrial,
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
