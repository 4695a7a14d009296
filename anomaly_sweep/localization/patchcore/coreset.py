"""Greedy k-centre selection: rows such that every row has a selected one nearby.

Each selected row is the one farthest from those selected before. Done plainly, every selection passes over
all rows; here most rows are left alone most of the time, with the same result. A distance to the selected
rows only ever falls, so an old one is an upper bound: a row whose bound is below the largest up-to-date
distance cannot be next. Selections are made among a small set of leading rows for as long as they lead, then
the bounds of those that follow are brought up to date with all selections since, as matrix products.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FARTHEST, RANDOM, AVERAGED = "farthest", "random", "averaged"
STARTS = (FARTHEST, RANDOM, AVERAGED)

#: Rows among which selections are made one by one.
_LEADING = 2048
#: Squared distances below this share of the squared norm are rounding: the rows are taken as equal.
_ROUNDING = 2e-6
#: Random rows of ``averaged``.
_AVERAGED = 10


def select(rows: Tensor, count: int, start: str, seed: int) -> Tensor:
    """Indices of a coreset by the greedy k-centre rule.

    Parameters
    ----------
    rows : Tensor of shape (n, d), float32
        Finite.
    count : int
        How many to select, at most n.
    start : {"farthest", "random", "averaged"}
        farthest: the first one is the row farthest from the mean. random: any. averaged, as the authors'
        code: no row is given; the mean of a row's distances to ten random ones stands for its distance to
        the selected until it is nearer than that to one of them.
    seed : int
        Of the random rows.

    Returns
    -------
    Tensor of shape (count,), int64, on the rows' device
        In the order of selection. Of rows equally far, the first in ascending order of the first coordinate
        (then the last); when every row equals a selected one, the first that are left.

    Notes
    -----
    Squared distances are float32, by |x|^2 + |y|^2 - 2 x.y around a row in the middle; those below 2e-6 of
    the squared norm count as 0. The order of the rows has no influence on which vectors are selected.
    """
    # In an order of their own: near ties are many, and one decided otherwise leads to another selection.
    order = rows[:, -1].argsort(stable=True)
    order = order[rows[order, 0].argsort(stable=True)]
    rows = rows[order]
    rows -= rows[_squares(rows, rows.mean(0)).argmin()].clone()
    return order[greedy(rows, count, _initial(rows, start, seed))]


def _initial(rows: Tensor, start: str, seed: int) -> Tensor:
    """Squared distances to the selected before any is selected."""
    reach = rows.new_full((len(rows),), torch.finfo(rows.dtype).max)
    if start == FARTHEST:
        first = _squares(rows, rows.mean(0)).argmax()
    else:
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(rows), (_AVERAGED,), generator=generator).to(rows.device)
        if start == AVERAGED:
            distances = torch.stack([_squares(rows, row).sqrt_() for row in rows[chosen]])
            return distances.mean(0).square_()
        first = chosen[0]
    reach[first] = math.inf
    return reach


def _squares(rows: Tensor, point: Tensor) -> Tensor:
    """Squared distances (n,) to a point; in blocks, since there may be no room for the rows again."""
    return torch.cat([(some - point).square_().sum(1) for some in torch.split(rows, 4096)])


def greedy(rows: Tensor, count: int, reach: Tensor) -> Tensor:
    """Select from given squared distances ``reach`` (n,), which are overwritten.

    Of rows equally far, the lowest index; when every row equals a selected one, the lowest that are left.
    """
    n, taken = len(rows), 0
    norms = _squares(rows, torch.zeros_like(rows[0]))
    picks = torch.empty(count, dtype=torch.int64, device=rows.device)
    #: Selections that a row's reach takes into account; a selected row's reach is -1.
    seen = torch.zeros(n, dtype=torch.int32, device=rows.device)
    while taken < count:
        candidates, bound = _lead(rows, norms, reach, seen, picks[:taken])
        most, order = reach[candidates].sort(descending=True, stable=True)
        if most[0] <= 0:
            rest = (reach >= 0).nonzero()[: count - taken, 0]
            picks[taken:] = rest
            break
        if len(most) > _LEADING:
            bound = max(bound, float(most[_LEADING]))
        leading = candidates[order[:_LEADING]].sort().values
        chosen, left = _pick(rows[leading].cpu(), reach[leading].cpu(), bound, count - taken)
        picks[taken : taken + len(chosen)] = leading[torch.tensor(chosen, device=rows.device)]
        taken += len(chosen)
        reach[leading] = left.to(rows.device)
        seen[leading] = taken
    return picks


def _lead(rows: Tensor, norms: Tensor, reach: Tensor, seen: Tensor, picks: Tensor) -> tuple[Tensor, float]:
    """Rows in ascending order whose reach is up to date, and a bound of all others' below the largest."""
    n, size = len(rows), _LEADING
    while True:
        size = min(size, n)
        most, order = reach.topk(min(size + 1, n))
        bound = float(most[size]) if size < n else -math.inf
        candidates = order[:size]
        stale = candidates[seen[candidates] < len(picks)]
        stale = stale[seen[stale].argsort()]
        # Rows that were last looked at together are done together: each group from its oldest on.
        for group in stale.tensor_split(4 if len(stale) > _LEADING else 1):
            if len(group):
                _update(rows, norms, reach, group, picks[int(seen[group[0]]) :])
        seen[stale] = len(picks)
        if float(reach[candidates].max()) > bound or size == n:
            return candidates.sort().values, bound
        size *= 4


def _update(rows: Tensor, norms: Tensor, reach: Tensor, which: Tensor, picks: Tensor) -> None:
    """Lower the reach of some rows to their distances to some selected ones."""
    # Blocks that stay in a processor's cache, or fill a GPU.
    high, wide = (1024, 256) if rows.device.type == "cpu" else (65536, 1024)
    selected, lengths = rows[picks], norms[picks]
    for some in torch.split(which, high):
        block, length = rows[some], norms[some]
        least = torch.full_like(length, math.inf)
        for others, there in zip(torch.split(selected, wide), torch.split(lengths, wide), strict=True):
            products = torch.addmm(there, block, others.T, alpha=-2)
            least = torch.minimum(least, products.amin(1))
        reach[some] = torch.minimum(reach[some], _distance(least + length, length))


def _pick(rows: Tensor, reach: Tensor, bound: float, most: int) -> tuple[list[int], Tensor]:
    """Selections among up-to-date rows: the first in any case, more while they exceed the bound."""
    norms = rows.square().sum(1)
    chosen: list[int] = []
    #: NumPy's calls on the same memory: these steps are short and many.
    values = reach.numpy()
    while len(chosen) < most:
        i = int(values.argmax())
        if chosen and not values[i] > bound:
            break
        chosen.append(i)
        squares = torch.addmv(norms, rows, rows[i], alpha=-2).add_(norms[i])
        torch.minimum(reach, _distance(squares, norms), out=reach)
        values[i] = -1
    return chosen, reach


def _distance(squares: Tensor, norms: Tensor) -> Tensor:
    """Squared distances with what is only rounding set to 0; selected rows' norms do not matter."""
    return squares * (squares > _ROUNDING * norms)
