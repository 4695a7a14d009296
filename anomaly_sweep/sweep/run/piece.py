"""Pieces of planned work: shards, and parts of those that are too long for one worker."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.pooled import blocks_of
from anomaly_sweep.features.shard import ImageRange
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.forecast import Forecast, key_of
from anomaly_sweep.sweep.run.progress import Step
from anomaly_sweep.tasks.base import ShardWork, TrialResult
from anomaly_sweep.tasks.forecast import ShardForecast

#: A piece is not made shorter than this: starting on a shard reads its features and makes its network.
_SHORTEST_SECONDS = 15.0
#: Pieces a worker, if all were of one length: with fewer the last ones leave workers idle.
_PIECES_A_WORKER = 3
#: A shard longer than so many times the wanted length is cut.
_TOLERATED = 1.5


@dataclass(frozen=True)
class Piece:
    """What one worker computes at a time: trials of a shard, or features of some of its images.

    Attributes
    ----------
    work : ShardWork
        The shard with the piece's trials; with all that are left of it where features are made.
    shard : str
        The shard's key in the forecast.
    images : tuple of ImageRange
        Those whose features are made and kept in the cache; none where trials are computed.
    needs : frozenset of str
        Pieces that come before.
    whole : bool
        Whether this is all that is to be done of the shard.
    seconds : float
        By the forecast.
    """

    work: ShardWork
    shard: str
    images: tuple[ImageRange, ...] = ()
    needs: frozenset[str] = frozenset()
    whole: bool = True
    seconds: float = 0.0
    id: str = field(init=False)

    def __post_init__(self) -> None:
        # The same in every launch: what an earlier one has left in a queue is recognised.
        content = [sorted(self.work.trials), [vars(one) for one in self.images]]
        object.__setattr__(self, "id", fingerprint(content))

    @property
    def name(self) -> str:
        """For people."""
        shard = self.work.shard
        part = f", images {self.images[0].start}-" if self.images else ""
        return f"{shard.category.name} on {shard.backbone.name}{part}"


@dataclass(frozen=True)
class Report:
    """What a worker sends home of a piece: results, and what was measured and logged on the way."""

    results: list[TrialResult]
    steps: Sequence[Step] = ()
    records: Sequence[logging.LogRecord] = ()


@dataclass(frozen=True)
class Lost:
    """A piece of which nothing came home."""

    reason: str
    #: Contents of the images where they were read: relative path -> (bytes, digest), if they are others.
    contents: dict[str, tuple[int, str]] = field(default_factory=dict)


def cut(works: Sequence[ShardWork], forecast: Forecast, cache: FeatureCache) -> list[Piece]:
    """Cut work for the forecast's workers, the longest pieces first.

    Shards stay whole unless one is longer than a worker's fair share: then the features of ranges of its
    images, and groups of its trials that share nothing, are pieces of their own (see `Task.units`).

    Parameters
    ----------
    works : sequence of ShardWork
    forecast : Forecast
        Of these.
    cache : FeatureCache
        Where features are that need not be made.
    """
    total = math.fsum(shard.seconds for shard in forecast.shards.values())
    target = max(_SHORTEST_SECONDS, total / (_PIECES_A_WORKER * max(1, forecast.workers)))
    pieces: list[Piece] = []
    for work in works:
        shard = forecast.shards[key_of(work)]
        if forecast.workers == 1 or shard.seconds <= _TOLERATED * target:
            pieces.append(Piece(work, key_of(work), seconds=shard.seconds))
        else:
            pieces += _parts(work, shard, target, cache)
    return sorted(pieces, key=lambda piece: -piece.seconds)


def _parts(work: ShardWork, shard: ShardForecast, target: float, cache: FeatureCache) -> list[Piece]:
    image_seconds = shard.images * shard.image_seconds
    splits = work.task.ranged_splits if work.task.missing(work, cache) else ()
    # Where features cannot be made beforehand each group of trials makes them: not too many groups.
    longest = target if splits or not shard.images else max(target, image_seconds)
    groups = _groups(work, shard, longest)
    if len(groups) == 1 and image_seconds <= _TOLERATED * target:
        return [Piece(work, key_of(work), seconds=shard.seconds)]
    ranges = _ranges(work, splits, max(1, round(image_seconds / target)))
    features = [
        Piece(work, key_of(work), images, whole=False, seconds=image_seconds / len(ranges))
        for images in ranges
    ]
    needs = frozenset(piece.id for piece in features)
    own = 0.0 if features else image_seconds
    return features + [
        Piece(
            work.only(set(group)),
            key_of(work),
            needs=needs,
            whole=len(groups) == 1 and not features,
            seconds=own + math.fsum(shard.trials[trial_id][1] for trial_id in group),
        )
        for group in groups
    ]


def _groups(work: ShardWork, shard: ShardForecast, longest: float) -> list[list[str]]:
    """Units of trials put together up to a length, in order."""
    groups: list[list[str]] = []
    length = math.inf
    for unit in work.task.units(work):
        seconds = math.fsum(shard.trials[trial_id][1] for trial_id in unit)
        if length + seconds > longest:
            groups.append([])
            length = 0.0
        groups[-1] += unit
        length += seconds
    return groups


def _ranges(work: ShardWork, splits: Sequence[str], count: int) -> list[tuple[ImageRange, ...]]:
    """All images in so many runs of neighbours, as equal as the cache's blocks allow."""
    blocks = [block for split in splits for block in blocks_of(work.shard, split)]
    count = min(count, len(blocks))
    return [tuple(blocks[len(blocks) * i // count : len(blocks) * (i + 1) // count]) for i in range(count)]
