"""Trials of a shard: configurations on one category, computed from its features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.matrices import ShardFeatures
from anomaly_sweep.sweep.plain import run_each, run_flows
from anomaly_sweep.sweep.reductions import Reductions
from anomaly_sweep.sweep.shared import is_shared, run_shared
from anomaly_sweep.sweep.trial import (
    TRIAL_VERSION,
    Trial,
    TrialResult,
    by,
    features_fingerprint,
    settings_fingerprint,
)

__all__ = [
    "TRIAL_VERSION",
    "Trial",
    "TrialResult",
    "features_fingerprint",
    "run_trials",
    "settings_fingerprint",
]


def run_trials(
    features: ShardFeatures,
    labels: NDArray[np.int64],
    trials: Sequence[Trial],
    *,
    device: str = "cpu",
    shared: bool = True,
    on_trial: Callable[[TrialResult], None] = lambda _result: None,
) -> list[TrialResult]:
    """All trials of a shard, each with its own outcome; one spectrum per (levels, pools) is shared.

    MVG and k-NN are computed for all reductions together (``shared=False``: each by itself, with the same
    results), flows with the same settings are trained together, and everything else is fitted and scored
    trial by trial. Results come in the order in which they are made, which is not that of the trials.

    Parameters
    ----------
    features : ShardFeatures
    labels : ndarray of shape (test images,)
        1 for anomalous, 0 for good.
    trials : sequence of Trial
    device : str
        Where flows are trained. The rest is done on the CPU in float64.
    shared : bool
    on_trial : callable
        Told each result as it is made.
    """
    results = []
    for group in by(trials, lambda t: (t.levels, t.pools)):
        for result in _run_group(features, labels, group, device, shared):
            on_trial(result)
            results.append(result)
    return results


def _run_group(
    features: ShardFeatures, labels: NDArray[np.int64], trials: Sequence[Trial], device: str, shared: bool
) -> Iterator[TrialResult]:
    try:
        reduced = Reductions(*features.matrices(trials[0].levels, trials[0].pools))
    except AnomalySweepError as error:
        for trial in trials:
            yield TrialResult.failed(trial.fingerprint, str(error))
        return
    flows = [trial for trial in trials if _is_flow(trial)]
    together = [trial for trial in trials if shared and is_shared(trial)]
    taken = {id(trial) for trial in (*flows, *together)}
    yield from run_shared(reduced, labels, together)
    yield from run_each(reduced, labels, [trial for trial in trials if id(trial) not in taken])
    for same in by(flows, lambda t: t.estimator):
        yield from run_flows(reduced, labels, same, device)


def _is_flow(trial: Trial) -> bool:
    return str(trial.estimator["_target_"]).startswith("anomaly_sweep.estimators.flow.")
