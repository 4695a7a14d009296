"""Which flows to train together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anomaly_sweep.estimators.flow.coupling import FlowShape
from anomaly_sweep.estimators.flow.descent import step_numbers
from anomaly_sweep.estimators.flow.settings import FAST, FlowSettings

#: Largest ratio of sample counts within a stack: it bounds the work spent on padding.
PADDING = 1.25

#: On a CPU, stacking saves the start of small operations, most of a tiny flow's step and nothing of a large
#: one's, and costs time once a step's data leave the cache. Work is members x parameters x (rows + 64): the
#: products' with the rows, and the optimiser's. Up to about this much larger stacks were faster.
CPU_WORK = 3e8
CPU_MEMBERS = 32
#: Rows x parameters that take as long as the start of a step's operations: padding for more than this costs
#: more than another stack does.
CPU_START = 1e7

#: On a GPU a step's kernels take less time than the work to start them until a stack is large; memory is the
#: limit. This share of what is free is planned for, the rest left to other processes and to rounding up.
CUDA_SHARE = 0.5
CUDA_MEMBERS = 512


def plan_stacks(
    shapes: Sequence[tuple[int, int]],
    settings: FlowSettings = FAST,
    *,
    device: str = "cpu",
    max_stack: int | None = None,
    memory: float | None = None,
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
    memory : float, optional
        Bytes that training a stack may take on a GPU; by default half of what is free there.

    Returns
    -------
    list of lists of int
        Indices into `shapes`, every one exactly once. Within a list `d` is the same and the largest `n` is
        at most `PADDING` times the smallest.
    """
    stacks: list[list[int]] = []
    if memory is None and device != "cpu":
        memory = CUDA_SHARE * _free_bytes(device)
    for index in sorted(range(len(shapes)), key=lambda i: (shapes[i][1], shapes[i][0], i)):
        n, d = shapes[index]
        if not (stacks and _joins([shapes[i] for i in stacks[-1]], n, d, settings, memory, max_stack)):
            stacks.append([])
        stacks[-1].append(index)
    return stacks


def stack_bytes(n: int, d: int, settings: FlowSettings) -> int:
    """Memory that training takes for each member of a stack, of `d` dimensions and `n` samples.

    With `folds` these are trained together, and are what takes most.
    """
    shape = FlowShape(d, settings)
    rows = settings.rows(n)
    # The data and a batch; parameters, their gradient and two moments; a step; the last losses' forward pass.
    numbers = d * (n + rows) + 4 * shape.parameters + step_numbers(shape, rows) + (shape.blocks + 6) * d * n
    return 4 * numbers * max(1, settings.folds)


def _joins(
    stack: Sequence[tuple[int, int]],
    n: int,
    d: int,
    settings: FlowSettings,
    memory: float | None,
    max_stack: int | None,
) -> bool:
    """Whether a flow, with no fewer samples than those of the stack, is best trained with them."""
    limit = min(_members(n, d, settings, memory), max_stack or CUDA_MEMBERS)
    if stack[0][1] != d or n > PADDING * stack[0][0] or len(stack) >= limit:
        return False
    padded = len(stack) * (settings.rows(n) - settings.rows(stack[-1][0])) * FlowShape(d, settings).parameters
    return memory is not None or padded <= CPU_START


def _members(n: int, d: int, settings: FlowSettings, memory: float | None) -> int:
    """How many flows of `d` dimensions on `n` samples to train together; `memory` is None on a CPU."""
    if memory is not None:
        return int(min(CUDA_MEMBERS, max(1, memory // stack_bytes(n, d, settings))))
    rows = settings.rows(n)
    work = (rows + 64) * FlowShape(d, settings).parameters * max(1, settings.folds)
    return int(min(CPU_MEMBERS, max(1, CPU_WORK // max(1, work))))


def _free_bytes(device: str) -> int:
    """What is free on a GPU; 0 where there is none, which training then says."""
    if not torch.cuda.is_available():
        return 0
    return torch.cuda.mem_get_info(device)[0]
