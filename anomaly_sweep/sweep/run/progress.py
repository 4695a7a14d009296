"""What long work shows: a live line on a terminal, a line a minute in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

#: Told (images read, trials done, trials failed) since the last call.
Tick = Callable[[int, int, int], None]

_LOG_SECONDS = 60.0


class Progress:
    """Trials done and failed, rate and ETA; images while features are being made.

    On a terminal (stderr) a live line; elsewhere a log line a minute, so that logs stay quiet.
    """

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.done = self.failed = self.images = 0
        self.current = ""
        self._lock = threading.Lock()
        self._begun = self._logged = time.monotonic()
        self._live = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._live = Bar(
                TextColumn("trials"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rest]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._live.add_task("", total=trials, rest="")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tick(self, images: int, trials: int, failed: int) -> None:
        """Count what has been done since the last call (any thread)."""
        with self._lock:
            self.images += images
            self.done += trials
            self.failed += failed
            if self._live is not None:
                self._live.update(self._task, completed=self.done, rest=self.line())
            elif time.monotonic() - self._logged >= _LOG_SECONDS:
                self._logged = time.monotonic()
                log.info("%d / %d trials, %s", self.done, self.trials, self.line())

    def line(self) -> str:
        """Failures, rate, ETA and images as text."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        parts = [f"{self.failed} failed"]
        if self.done:
            rate = self.done / seconds
            left = (self.trials - self.done) / rate
            parts.append(f"{rate:.1f}/s, ETA {int(left // 60)}:{int(left % 60):02d}")
        if self.images:
            parts.append(f"{self.images} images")
        if self.current:
            parts.append(self.current)
        return ", ".join(parts)
