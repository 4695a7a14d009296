"""How many steps a flow takes: as many as the likelihood of held-back training samples speaks for.

A flow that begins as a Gaussian leaves it step by step, and with few samples in many dimensions soon follows
them instead of what they are drawn from. K flows of the same beginning are trained, each without one K-th of
the samples, whitening included; every sample thus has, after each number of steps, a negative log-likelihood
under a flow that has not seen it. The number chosen is the smallest whose mean is within one standard error
of the best one's (Breiman et al., 1984, for the size of trees), the error being that of the differences by
sample. Then a flow is trained on all samples for that many steps. Test samples have no part in it.

Folds are blocks of consecutive samples, as in scikit-learn's ``KFold``: augmented versions of an image follow
one another and stay together, and neighbours in a series are not held back for each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.estimators.flow.data import Floats

#: So many held-back samples are enough: of a larger data set not every fold is trained.
ENOUGH = 1000

#: The training data as a reduction fitted to some of the samples (their indices) gives them, ``(n, d)``. A
#: sample is not held back if the principal components that `d` are taken from have seen it.
Refit = Callable[[NDArray[np.intp]], Floats]


def fold_samples(n: int, folds: int) -> list[NDArray[np.intp]]:
    """The samples each fold's flow is trained on; none if `n` is less than two for each fold."""
    if n < 2 * folds:
        return []
    every = np.arange(n)
    trained = min(folds, -(-ENOUGH * folds // n))
    return [np.setdiff1d(every, held) for held in np.array_split(every, folds)[:trained]]


def is_decided(means: Floats, patience: int) -> bool:
    """Whether a choice looks no further. `means`: of the negative log-likelihoods after 0, 1, ... steps."""
    return _end(means, patience) is not None


def choose(nll: Floats, patience: int) -> int:
    """The number of steps. `nll`: the samples' negative log-likelihoods after 0, 1, ... steps, a row each.

    What comes after the choice was decided has no say: the flows of a stack go on for each other's sake.
    """
    means = _finite(nll.mean(1))
    end = _end(means, patience)
    nll, means = nll[:end], means[:end]
    best = int(means.argmin())
    for steps in range(best):
        if np.isfinite(means[steps]):
            worse = nll[steps] - nll[best]
            if worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)):
                return steps
    return best


def _end(means: Floats, patience: int) -> int | None:
    """How many values the choice looks at; None while it wants more."""
    best = 0
    means = _finite(means)
    for steps, mean in enumerate(means):
        if mean < means[best]:
            best = steps
        if steps >= 2 * best + patience:
            return steps + 1
    return None


def _finite(means: Floats) -> Floats:
    """Training that diverged is worse than anything."""
    return np.where(np.isfinite(means), means, np.inf)
