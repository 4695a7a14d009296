"""MVG and k-NN trials of one spectrum together: what fitting each by itself gives, from shared sums."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.estimators import Estimator
from anomaly_sweep.estimators.closed_form import (
    DiagonalGaussian,
    Reduction,
    fit_gaussians,
    mahalanobis,
    neighbor_distances,
)
from anomaly_sweep.estimators.create import build
from anomaly_sweep.estimators.gaussian import MultivariateGaussian
from anomaly_sweep.estimators.neighbors import NearestNeighborDistance, aggregate, too_few
from anomaly_sweep.tasks.base import TrialResult, of_images, reason_of
from anomaly_sweep.tasks.detection.reductions import Matrix, Reductions
from anomaly_sweep.tasks.detection.trial import DetectionTrial, by
from anomaly_sweep.tracking.names import STATUS_OK


@dataclass(frozen=True, eq=False)
class _Scored:
    trial: DetectionTrial
    reduction: Reduction
    scores: Matrix
    fit_seconds: float
    score_seconds: float


def run_shared(
    reduced: Reductions, labels: NDArray[np.int64], trials: Sequence[DetectionTrial]
) -> Iterator[TrialResult]:
    """Trials whose estimators all reductions of a spectrum can share."""
    gaussians: dict[str, list[DetectionTrial]] = {}
    neighbors: list[tuple[DetectionTrial, NearestNeighborDistance]] = []
    for same in by(trials, lambda t: t.estimator):
        try:
            model: Estimator = build(same[0].estimator, seed=0)
        except Exception as error:
            yield from _failed(same, error)
            continue
        if isinstance(model, MultivariateGaussian):
            gaussians.setdefault(model.shrinkage, []).extend(same)
        elif isinstance(model, NearestNeighborDistance):
            neighbors += [(trial, model) for trial in same]
    scored: list[_Scored] = []
    for shrinkage, members in gaussians.items():
        yield from _gaussians(reduced, members, shrinkage, scored)
    yield from _neighbors(reduced, neighbors, scored)
    yield from _results(reduced, labels, scored)


def _gaussians(
    reduced: Reductions, trials: Sequence[DetectionTrial], shrinkage: str, scored: list[_Scored]
) -> Iterator[TrialResult]:
    """Put scores on ``scored``; yield the failed."""
    try:
        reductions = [reduced.reduction(trial.pca_mode) for trial in trials]
        begun = time.perf_counter()
        fitted = fit_gaussians(reduced.spectrum, reductions, shrinkage)
        fit = (time.perf_counter() - begun) / len(trials)
        good = [i for i, outcome in enumerate(fitted) if isinstance(outcome, DiagonalGaussian)]
        begun = time.perf_counter()
        scores = mahalanobis([g for g in fitted if isinstance(g, DiagonalGaussian)], reduced.projection)
        score = (time.perf_counter() - begun) / len(trials)
    except Exception as error:
        yield from _failed(trials, error)
        return
    for trial, outcome in zip(trials, fitted, strict=True):
        if isinstance(outcome, Exception):
            yield from _failed([trial], outcome)
    scored += [
        _Scored(trials[i], reductions[i], row, fit, score) for i, row in zip(good, scores, strict=True)
    ]


def _neighbors(
    reduced: Reductions,
    pairs: Sequence[tuple[DetectionTrial, NearestNeighborDistance]],
    scored: list[_Scored],
) -> Iterator[TrialResult]:
    """Put scores on ``scored``; yield the failed."""
    n = len(reduced.train)
    for trial, model in pairs:
        if model.k > n:
            yield from _failed([trial], too_few(model.k, n))
    pairs = [(trial, model) for trial, model in pairs if model.k <= n]
    if not pairs:
        return
    try:
        begun = time.perf_counter()
        reductions = [reduced.reduction(trial.pca_mode) for trial, _ in pairs]
        place = {reduction: i for i, reduction in enumerate(dict.fromkeys(reductions))}
        most = max(model.k for _, model in pairs)
        ordered = neighbor_distances(
            reduced.spectrum, reduced.projection, (reduced.train, reduced.test), list(place), most
        )
        rules = {(model.k, model.aggregation) for _, model in pairs}
        scores = {rule: aggregate(ordered, *rule) for rule in rules}
        score = (time.perf_counter() - begun) / len(pairs)
    except Exception as error:
        yield from _failed([trial for trial, _ in pairs], error)
        return
    scored += [
        _Scored(trial, reduction, scores[model.k, model.aggregation][place[reduction]], 0.0, score)
        for (trial, model), reduction in zip(pairs, reductions, strict=True)
    ]


def _results(
    reduced: Reductions, labels: NDArray[np.int64], scored: Sequence[_Scored]
) -> Iterator[TrialResult]:
    if not scored:
        return
    try:
        scores = reduced.of_all(np.stack([one.scores for one in scored]))
        found = of_images(scores, labels, "ratio")  # distances all of them
    except Exception as error:
        yield from _failed([one.trial for one in scored], error)
        return
    d = reduced.train.shape[1]
    for one, images in zip(scored, found, strict=True):
        yield TrialResult(
            one.trial.fingerprint,
            STATUS_OK,
            n_features=d if one.reduction.whole else one.reduction.stop - one.reduction.start,
            n_train=len(reduced.train),
            fit_seconds=one.fit_seconds,
            score_seconds=one.score_seconds,
            **images,
        )


def _failed(trials: Sequence[DetectionTrial], error: Exception) -> Iterator[TrialResult]:
    for trial in trials:
        yield TrialResult.failed(trial.fingerprint, reason_of(error, f"trial {trial.fingerprint}"))
