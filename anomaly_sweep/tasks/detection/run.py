"""Trials of a shard: configurations on one category, computed from its features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.estimators.base import SPECTRUM, STACK
from anomaly_sweep.features.pooled import ShardFeatures
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tasks.detection.one_by_one import run_each, run_flows
from anomaly_sweep.tasks.detection.reductions import Reductions
from anomaly_sweep.tasks.detection.shared_spectrum import run_shared
from anomaly_sweep.tasks.detection.trial import DetectionTrial, by


def run_trials(
    features: ShardFeatures,
    labels: NDArray[np.int64],
    trials: Sequence[DetectionTrial],
    *,
    device: str = "cpu",
    shared: bool = True,
    on_trial: Callable[[TrialResult], None] = lambda _result: None,
) -> list[TrialResult]:
    """All trials of a shard, each with its own outcome; one spectrum per (levels, pools) is shared.

    MVG and k-NN are computed for all reductions together (``shared=False``: each by itself, with the same
    results), flows with the same settings are trained together, and everything else is fitted and scored
    trial by trial. Results come in the order in which they are made, which is not that of the trials.

    The shared and the single computation agree to float64's rounding of the features' spread, however far
    from 0 float32 features lie: distances to 2**-40 of themselves, so that a tie in one is a tie in the other
    (see :mod:`anomaly_sweep.metrics.ties`) and AUROCs are the same; Mahalanobis distances to that times the
    ratio of the covariance's largest and smallest eigenvalue.

    Parameters
    ----------
    features : ShardFeatures
    labels : ndarray of shape (test images,)
        1 for anomalous, 0 for good.
    trials : sequence of DetectionTrial
    device : str
        Where flows are trained. The rest is done on the CPU in float64.
    shared : bool
    on_trial : callable
        Told each result as it is made.
    """
    results = []
    flows: list[tuple[Reductions, DetectionTrial]] = []

    def keep(found: Iterable[TrialResult]) -> None:
        for result in found:
            on_trial(result)
            results.append(result)

    for group in by(trials, lambda t: (t.levels, t.pools)):
        try:
            reduced = Reductions(*features.matrices(group[0].levels, group[0].pools))
            several = len(reduced.train) > 1  # one image has no spectrum, but distances to it
            if several:
                _ = reduced.spectrum  # where there is none, no trial is possible
        except AnomalySweepError as error:
            keep(TrialResult.failed(trial.fingerprint, str(error)) for trial in group)
            continue
        together = [trial for trial in group if shared and several and trial.capability == SPECTRUM]
        trained = [trial for trial in group if trial.capability == STACK]
        taken = {id(trial) for trial in (*together, *trained)}
        keep(run_shared(reduced, labels, together))
        keep(run_each(reduced, labels, [trial for trial in group if id(trial) not in taken]))
        flows.extend((reduced, trial) for trial in trained)
    # The flows of all levels wait for each other: those of one shape train together.
    for same in by([trial for _, trial in flows], lambda t: t.estimator):
        alike = {id(trial) for trial in same}
        keep(run_flows([pair for pair in flows if id(pair[1]) in alike], labels, device))
    return results
