"""What computes pieces of work, and how lost ones are tried again: the same for every executor."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.sweep.plan.forecast import Forecast
from anomaly_sweep.sweep.run.piece import Lost, Piece, Report
from anomaly_sweep.sweep.run.progress import Progress, Step
from anomaly_sweep.tasks.base import ShardWork, TrialResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardOutcome:
    """A shard, or a part of one, that has been worked through, with a result for each of its trials."""

    work: ShardWork
    results: list[TrialResult]


@dataclass(frozen=True)
class Ended:
    """A piece that is no longer computed, and what there is of it."""

    piece: Piece
    outcome: Report | Lost


class Executor(ABC):
    """Where pieces of work are computed. A context: leaving it ends what it started.

    Results do not depend on which it is: the plan, the trials' seeds and what is computed together are
    decided before, and recording after.

    Attributes
    ----------
    workers : int
        Pieces that are computed at once.
    on_step : callable
        Told of progress within a piece, where that can be heard; reports bring the rest home.
    """

    #: How often a piece is handed out before its trials fail.
    tries: ClassVar[int] = 3
    #: Whether a lost piece may have taken others with it, so that it is tried again by itself, at the end.
    isolates: ClassVar[bool] = False

    workers: int = 1
    on_step: Callable[[Step], None] = staticmethod(lambda _step: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was started: at once, where an error is the reason."""
        return

    def prepare(self, works: Sequence[ShardWork], forecast: Forecast) -> None:
        """Hear of what will be handed over.

        Raises
        ------
        AnomalySweepError
            If there is nobody who could compute it.
        """
        return

    @property
    def capacity(self) -> int:
        """Pieces that are taken in at once; more are kept back."""
        return self.workers

    @abstractmethod
    def submit(self, piece: Piece) -> None:
        """Take a piece in."""

    @abstractmethod
    def wait(self) -> list[Ended]:
        """Those that have ended since the last call: at least one, unless there is nothing new to hear of."""


def execute(
    pieces: Sequence[Piece], executor: Executor, progress: Progress, index: FileIndex | None = None
) -> Generator[ShardOutcome, None, None]:
    """Have pieces computed, yielding what has results as it ends (in any order).

    A piece that is lost is handed out again, ``executor.tries`` times in all; then its trials fail.

    Parameters
    ----------
    pieces : sequence of Piece
    executor : Executor
        Prepared for them.
    progress : Progress
        Of their forecast.
    index : FileIndex, optional
        Of this process: says which file differs where another machine has other images.
    """
    executor.on_step = progress.step
    ready = deque(piece for piece in pieces if not piece.needs)
    blocked = [piece for piece in pieces if piece.needs]
    alone: deque[Piece] = deque()
    flying: set[str] = set()
    done: set[str] = set()
    tries: Counter[str] = Counter()

    def hand_out(piece: Piece) -> None:
        flying.add(piece.id)
        tries[piece.id] += 1
        executor.submit(piece)

    while ready or blocked or alone or flying:
        while ready and len(flying) < executor.capacity:
            hand_out(ready.popleft())
        if not flying and alone:
            hand_out(alone.popleft())
        for ended in executor.wait():
            piece, outcome = ended.piece, ended.outcome
            if piece.id not in flying:  # home for the second time: its worker was only slow
                continue
            flying.discard(piece.id)
            if isinstance(outcome, Lost):
                reason = _in_words(piece, outcome, index)
                progress.again(piece.shard, None if piece.whole else piece.work.trials)
                if tries[piece.id] < executor.tries:
                    by_itself = " by itself" if executor.isolates else ""
                    log.warning("%s; trying %s again%s", reason, piece.name, by_itself)
                    (alone if executor.isolates else ready).append(piece)
                    continue
                times = "twice" if executor.tries == 2 else f"{executor.tries} times"
                reason = f"lost {times}: {reason}"
                log.error("%s: %s", piece.name, reason)
                trials = () if piece.images else piece.work.trials
                results = [TrialResult.failed(trial_id, reason) for trial_id in trials]
            else:
                results = outcome.results
                for record in outcome.records:
                    logging.getLogger(record.name).handle(record)
                for step in outcome.steps:
                    progress.step(step)
            done.add(piece.id)
            unblocked = [one for one in blocked if one.needs <= done]
            if unblocked:
                ready.extend(unblocked)
                blocked = [one for one in blocked if not one.needs <= done]
            progress.finish(piece.shard, piece.work.shard.category.name, results, whole=piece.whole)
            if results:
                yield ShardOutcome(piece.work, results)


def _in_words(piece: Piece, lost: Lost, index: FileIndex | None) -> str:
    """Why a piece was lost; where a worker reads other images, which of them is the first."""
    if not lost.contents or index is None:
        return lost.reason
    records = piece.work.shard.category.images
    own = dict(zip((r.relative for r in records), index.lookup([r.path for r in records]), strict=True))
    differs = [name for name, content in own.items() if lost.contents.get(name) != content]
    names = ", ".join(differs[:2]) + (f" and {len(differs) - 2} more" if len(differs) > 2 else "")
    return f"{lost.reason} ({names})" if differs else lost.reason
