"""Which flows to train together."""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_sweep.estimators.flow.coupling import FlowShape
from anomaly_sweep.estimators.flow.settings import FAST, FlowSettings

#: Largest ratio of sample counts within a stack: it bounds the work spent on padding.
PADDING = 1.25

#: On a CPU, stacking saves the cost of starting small operations: most of the step of a tiny flow, nothing of
#: a large one's, and it stops paying once a step's data leave the cache. Above this product of members, rows
#: and parameters, smaller stacks were as fast.
CPU_WORK = 1e8
CPU_MEMBERS = 32

#: On a GPU nearly every flow is bound by kernel launches, and memory is the limit.
CUDA_BYTES = 8e9
CUDA_MEMBERS = 512


def plan_stacks(
    shapes: Sequence[tuple[int, int]],
    settings: FlowSettings = FAST,
    *,
    device: str = "cpu",
    max_stack: int | None = None,
) -> list[list[int]]:
    """Group flows into stacks that are worth training together.

    Parameters
    ----------
    shapes : sequence of (n, d)
        Training samples and dimensions of every flow.
    settings : FlowSettings
        Common to all.
    device : str
        As in `train_stack`.
    max_stack : int, optional
        Upper bound of a stack, >= 1, below the one chosen by work and memory.

    Returns
    -------
    list of lists of int
        Indices into `shapes`, every one exactly once. Within a list `d` is the same and the largest `n` is
        at most `PADDING` times the smallest.
    """
    stacks: list[list[int]] = []
    for index in sorted(range(len(shapes)), key=lambda i: (shapes[i][1], shapes[i][0], i)):
        n, d = shapes[index]
        if stacks:
            smallest, same = shapes[stacks[-1][0]]
            limit = min(_members(n, d, settings, device), max_stack or CUDA_MEMBERS)
            if same == d and n <= PADDING * smallest and len(stacks[-1]) < limit:
                stacks[-1].append(index)
                continue
        stacks.append([index])
    return stacks


def _members(n: int, d: int, settings: FlowSettings, device: str) -> int:
    """How many flows of `d` dimensions on `n` samples to train together."""
    shape = FlowShape(d, settings)
    rows = min(n, settings.batch_size or n)
    if device == "cpu":
        return int(min(CPU_MEMBERS, max(1, CPU_WORK // max(1, rows * shape.parameters))))
    # A network keeps its hidden layers and about eight tensors of the data's size for the backward pass; a
    # parameter has a gradient and two moments.
    per_net = settings.hidden_layers * settings.width(d) + 8 * d
    numbers = 4 * shape.parameters + n * d + shape.blocks * len(shape.nets) * rows * per_net
    return int(min(CUDA_MEMBERS, max(1, CUDA_BYTES // (4 * numbers))))
