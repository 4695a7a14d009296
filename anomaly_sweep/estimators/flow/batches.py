"""Which samples a training step sees, and how much each weighs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def row_weights(sizes: Sequence[int], columns: int) -> Tensor:
    """``1 / n_i`` for a member's own columns and 0 for its padding, ``(S, columns)``."""
    n = torch.tensor(sizes)[:, None]
    return ((torch.arange(columns) < n) / n).float()


def batches(
    sizes: Sequence[int], generators: Sequence[torch.Generator], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Columns and weights of every step, each ``(S, min(batch_size, max(sizes)))``; it never ends."""
    streams = [
        _member_batches(n, generator, batch_size) for n, generator in zip(sizes, generators, strict=True)
    ]
    longest = min(batch_size, max(sizes))
    while True:
        columns = torch.zeros(len(sizes), longest, dtype=torch.int64)
        parts = [next(stream) for stream in streams]
        for row, part in zip(columns, parts, strict=True):
            row[: len(part)] = part
        yield columns, row_weights([len(part) for part in parts], longest)


def _member_batches(n: int, generator: torch.Generator, batch_size: int) -> Iterator[Tensor]:
    """Random orders of ``range(n)``, one an epoch, cut into batches; the last of an epoch may be short."""
    while True:
        yield from torch.split(torch.randperm(n, generator=generator), batch_size)
