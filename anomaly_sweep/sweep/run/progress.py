"""How far a sweep is: counts, and the time left by the plan's forecast, corrected by what was measured."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from anomaly_sweep import terminal
from anomaly_sweep.sweep.plan.forecast import Forecast, elapsed
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tasks.forecast import ShardForecast

log = logging.getLogger(__name__)

#: Seconds of forecast work of a kind that must have been measured for it to count half.
_PRIOR_SECONDS = 1.0
#: While nothing is heard, the time left is at least this share of the silence.
_OVERDUE = 0.1


@dataclass(frozen=True)
class Step:
    """A piece of a shard's work that has been done: images, or a trial.

    ``seconds`` is what passed in its process since the piece before.
    """

    shard: str
    images: int = 0
    trial: str = ""
    failed: bool = False
    seconds: float = 0.0


class Reporter:
    """A `Tick` for one shard, by its key, in the process that works on it: measures steps and sends them."""

    def __init__(self, shard: str, send: Callable[[Step], None]) -> None:
        self._shard = shard
        self._send = send
        self._last = time.monotonic()

    def __call__(self, images: int, result: TrialResult | None) -> None:
        """Send what has been done since the last call."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        if result is None:
            self._send(Step(self._shard, images=images, seconds=seconds))
        else:
            self._send(Step(self._shard, images, result.fingerprint, not result.ok, seconds))


class Remaining:
    """What is left of forecast work, and how long it will take: values in, values out.

    Seconds that were measured correct the forecast of their kind: with f seconds of forecast work done in
    m seconds, its factor is (m + p) / (f + p) with a prior p of one second. A kind of which nothing has been
    done yet has the geometric mean of the others' factors and of one that is 1: it is the machine's.
    """

    def __init__(self, forecast: Forecast) -> None:
        self.workers = forecast.workers
        self._start = forecast.start_seconds
        self._shards = forecast.shards
        self._open = {key: _Open(shard) for key, shard in forecast.shards.items()}
        self._measured: dict[str, float] = defaultdict(float)
        self._forecast: dict[str, float] = defaultdict(float)
        self._whole = math.fsum(shard.seconds for shard in forecast.shards.values())

    @property
    def begun(self) -> bool:
        """Whether anything has been done yet."""
        return bool(self._forecast)

    @property
    def images_done(self) -> int:
        """Images that have been through their network."""
        return sum(self._shards[key].images - left.images for key, left in self._open.items())

    @property
    def trials_done(self) -> int:
        """Trials that have a result."""
        return sum(len(self._shards[key].trials) - len(left.trials) for key, left in self._open.items())

    @property
    def trials_failed(self) -> int:
        """Trials whose result is a failure."""
        return sum(left.failed for left in self._open.values())

    def step(self, step: Step) -> None:
        """A piece of work is done."""
        shard, left = self._shards[step.shard], self._open[step.shard]
        if step.images:
            left.read(min(step.images, left.images))
            self._add(shard.image_kind, step.images * shard.image_seconds, step.seconds)
        if step.trial:
            if not step.failed:  # heard late, after its shard was finished, it is measured all the same
                self._add(*shard.trials[step.trial], step.seconds)
            if step.trial in left.trials:
                left.take(step.trial, step.failed)

    def again(self, key: str, trials: Iterable[str] | None = None) -> None:
        """A shard's work, or that of some of its trials, is lost and begins anew."""
        if trials is None:
            self._open[key] = _Open(self._shards[key])
            return
        for trial in trials:
            self._open[key].put_back(trial)

    def finish(self, key: str, results: Sequence[TrialResult], *, whole: bool = True) -> None:
        """A shard (or but a part of it) is done, whatever was heard of it."""
        left = self._open[key]
        if whole:
            left.read(left.images)
        for result in results:
            if result.fingerprint in left.trials:
                left.take(result.fingerprint, not result.ok)

    def _add(self, kind: str, forecast: float, measured: float) -> None:
        self._forecast[kind] += forecast
        self._measured[kind] += measured

    def factors(self) -> dict[str, float]:
        """Measured over forecast time of each kind of which something has been done."""
        return {
            kind: (self._measured[kind] + _PRIOR_SECONDS) / (self._forecast[kind] + _PRIOR_SECONDS)
            for kind in self._forecast
        }

    def seconds(self) -> float:
        """How long the rest will take."""
        factors = self.factors()
        logs = [math.log(factor) for factor in factors.values()]
        others = math.exp(math.fsum(logs) / (len(logs) + 1))
        start = 0.0 if self.begun else self._start
        return start + elapsed((self._left(key, factors, others) for key in self._shards), self.workers)

    def share(self) -> float:
        """Share of the work that is done, by the forecast, 0 to 1."""
        left = math.fsum(self._left(key, {}, 1.0) for key in self._shards)
        return 1.0 - left / self._whole if self._whole else 1.0

    def _left(self, key: str, factors: Mapping[str, float], others: float) -> float:
        seconds = self._open[key].seconds
        return math.fsum(max(0.0, own) * factors.get(kind, others) for kind, own in seconds.items())


class _Open:
    """What is left of one shard."""

    def __init__(self, shard: ShardForecast) -> None:
        self._shard = shard
        self.images = shard.images
        self.trials = dict(shard.trials)
        self.failed = 0
        self.seconds: dict[str, float] = defaultdict(float)  # by kind; kept, as many ask for them
        self.seconds[shard.image_kind] = shard.images * shard.image_seconds
        for kind, seconds in shard.trials.values():
            self.seconds[kind] += seconds

    def read(self, images: int) -> None:
        self.images -= images
        self.seconds[self._shard.image_kind] = self.images * self._shard.image_seconds

    def put_back(self, trial: str) -> None:
        if trial not in self.trials:
            kind, seconds = self.trials[trial] = self._shard.trials[trial]
            self.seconds[kind] += seconds

    def take(self, trial: str, failed: bool) -> None:
        kind, seconds = self.trials.pop(trial)
        self.failed += failed
        self.seconds[kind] -= seconds


class Progress:
    """A sweep's live line on a terminal; in a log, a line each tenth of the work or minute.

    Parameters
    ----------
    forecast : Forecast
        What is to be done.
    """

    def __init__(self, forecast: Forecast) -> None:
        self.forecast = forecast
        self.trials = sum(len(shard.trials) for shard in forecast.shards.values())
        self.images = forecast.images
        self.current = f"starting {forecast.workers} processes" if forecast.workers > 1 else ""
        self._left = Remaining(forecast)
        self._lock = threading.Lock()
        self._begun = self._last_step = time.monotonic()
        self._pace = terminal.Pace()
        self._shown = terminal.line(self.line)
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._keep_log, daemon=True)

    def __enter__(self) -> Self:
        self._shown.__enter__()
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self._stop.set()
        self._watch.join()
        self._shown.__exit__(kind, e, t)

    def step(self, step: Step) -> None:
        """Count a piece of work (any thread)."""
        with self._lock:
            if not self._left.begun:
                self.current = ""
            self._left.step(step)
            self._last_step = time.monotonic()

    def again(self, key: str, trials: Iterable[str] | None = None) -> None:
        """A shard, or some of its trials, begin anew: the process that worked on them died."""
        with self._lock:
            self._left.again(key, trials)

    def finish(self, key: str, name: str, results: Sequence[TrialResult], *, whole: bool = True) -> None:
        """Count what is left of a shard, or of a part of it, that is done; ``name`` is for people."""
        with self._lock:
            self._left.finish(key, results, whole=whole)
            self._last_step = time.monotonic()
        self.current = f"{name} done"

    def line(self, width: int = terminal.UNLIMITED) -> str:
        """How far the work is, in so many columns; where room is short, what matters less goes."""
        now = time.monotonic()
        with self._lock:
            done = self._left
            silence = now - self._last_step if done.begun else 0.0  # processes start when they start
            left, share = max(done.seconds() - silence, _OVERDUE * silence), done.share()
        failed = f"{done.trials_failed} failed" if done.trials_failed else ""
        images = f"{done.images_done}/{self.images} images" if self.images else ""
        eta = f"ETA {terminal.clock(left)}" if done.trials_done < self.trials else "ETA 0:00"
        parts = [  # text and its rank
            (f"{100 * max(0.0, share):.0f} %", 3),
            (f"{done.trials_done}/{self.trials} trials", 0),
            (images, 4),
            (failed, 2),
            (eta, 1),
            (f"after {terminal.clock(now - self._begun)}", 5),
            (self.current, 6),
        ]
        kept: set[int] = set()
        remaining = width
        for index in sorted(range(len(parts)), key=lambda i: parts[i][1]):
            text = parts[index][0]
            if text and (len(text) + 2 <= remaining or not kept):
                kept.add(index)
                remaining -= len(text) + 2
        return terminal.fit("  ".join(parts[index][0] for index in sorted(kept)), width)

    def _keep_log(self) -> None:
        while not self._stop.wait(1.0):
            if self._pace.due(self._left.share()):
                # A person who watches has the line already: only the file is told.
                log.info("%s", self.line(), extra={"file_only": terminal.is_live()})
