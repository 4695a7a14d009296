"""What the commands write on a terminal: text as it is, tables that fit, one line that says what goes on.

Names, labels, paths and reasons are other people's text: nothing in them is markup, and what would move the
cursor, colour or reorder the line is shown by its escape.
"""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from anomaly_sweep.errors import AnomalySweepError

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A line of so many columns, at most.
Line = Callable[[int], str]

#: Wide enough that nothing is wrapped or cut where nobody's window is the limit.
UNLIMITED = 100_000
_REFRESH_SECONDS = 0.25
#: In a log, work that takes longer than this is announced, and told of again after a tenth of it is done
#: (not more often than this) or after a minute.
_QUIET_SECONDS = 10.0
_LONGEST_SILENCE = 60.0
_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029}


def visible(text: str, *, lines: bool = False) -> str:
    r"""Text without control characters: each is shown by its escape (``\x1b``, ``\n``, ``\udcff``).

    Parameters
    ----------
    lines : bool
        Leave line ends and tabs as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if (unicodedata.category(character) in ("Cc", "Cs") or ord(character) in _BIDI)
        and not (lines and character in "\n\t")
        else character
        for character in text
    )


def prepare() -> None:
    """Let a character that an output's encoding lacks be shown by its escape instead of ending the command.

    File names need not be valid Unicode, and a log's encoding may be ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def run(body: Callable[[], int]) -> int:
    """A command's exit code: its own, 2 for an error the user can act on, 130 when interrupted."""
    prepare()
    try:
        code = body()
        sys.stdout.flush()
    except AnomalySweepError as error:
        say(f"error: {error}", error=True)
        return 2
    except BrokenPipeError:
        return let_output_go()
    except OSError as error:
        say(f"error: {error.filename or 'file'}: {error.strerror or error}", error=True)
        return 2
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return 130
    return code


def let_output_go() -> int:
    """Write no more: whoever read the output has seen enough (``| head``). Gives the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def say(text: str = "", *, error: bool = False) -> None:
    """Print lines of text as they are, on standard output or standard error."""
    print(visible(text, lines=True), file=sys.stderr if error else sys.stdout)


def columns(stream: TextIO | None = None) -> int:
    """Columns of the terminal that a stream (standard output) writes to; `UNLIMITED` if it is none."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return UNLIMITED
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, io.UnsupportedOperation):
        return shutil.get_terminal_size().columns


def console() -> Console:
    """Rich's console on standard output, for text that is never markup."""
    from rich.console import Console

    # Colour codes belong on a terminal, also where FORCE_COLOR is set for other programs.
    return Console(
        markup=False, emoji=False, highlight=False, width=columns(), force_terminal=sys.stdout.isatty()
    )


def clock(seconds: float) -> str:
    """``0:07``, ``12:30``, ``3:05:00``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def fit(text: str, width: int) -> str:
    """A text in one line of at most so many columns."""
    from rich.cells import cell_len, set_cell_size

    text = visible(text)
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def is_live() -> bool:
    """Whether a person watches: standard error is a terminal that can rewrite a line, of the main process."""
    return (
        sys.stderr.isatty()
        and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
        and multiprocessing.current_process().name == "MainProcess"
    )


class Pace:
    """When a log should hear of work in progress: after a tenth more, or a minute; never in a hurry."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic()
        self._shown_share = 0.0

    def due(self, share: float) -> bool:
        """Whether to tell, now that a share (0 to 1) is done; if so, it counts as told."""
        since = time.monotonic() - self._shown_at
        if since < _LONGEST_SILENCE and (share - self._shown_share < 0.1 or since < _QUIET_SECONDS):
            return False
        self._shown_at, self._shown_share = time.monotonic(), share
        return True


@contextmanager
def line(text: Line) -> Iterator[None]:
    """Show a line that changes for as long as the block takes; the innermost one shows.

    What is printed or logged meanwhile stands above it. Nothing is shown where nobody watches.
    """
    if not is_live():
        yield
        return
    _live.push(text)
    try:
        yield
    finally:
        _live.remove(text)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is going on; in a log, only if it takes its time."""
    begun = time.monotonic()
    if is_live():
        with line(lambda width: fit(f"{what} ... {clock(time.monotonic() - begun)}", width)):
            yield
        return
    timer = threading.Timer(_QUIET_SECONDS, log.info, ("%s ...", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def counted(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield items, saying how many of the total have been taken."""
    begun, done, pace, live = time.monotonic(), 0, Pace(), is_live()

    def text(width: int) -> str:
        return fit(f"{what} {done}/{total}  {clock(time.monotonic() - begun)}", width)

    with line(text):
        for item in items:
            yield item
            done += 1
            if not live and done < total and pace.due(done / total):
                log.info("%s: %d of %d", what, done, total)


class _Live:
    """The live line on standard error."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._lines: list[Line] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: TextIO = sys.stderr
        self._partial = False  # something was written that does not end its line
        self._undo: list[Callable[[], object]] = []

    def push(self, text: Line) -> None:
        with self._lock:
            self._lines.append(text)
            if self._thread is None:
                self._start()
            self._draw()

    def remove(self, text: Line) -> None:
        with self._lock:
            self._lines.remove(text)
            if self._lines:
                self._draw()
                return
            thread, self._thread = self._thread, None
            self._erase()
            for undo in reversed(self._undo):
                undo()
            self._undo.clear()
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def above(self, stream: TextIO, text: str) -> int:
        """Write to a terminal, above the line."""
        with self._lock:
            if self._lines and not self._partial:
                self._erase()
            written = stream.write(text)
            stream.flush()
            if text:
                self._partial = not text.endswith("\n")
            self._draw()
            return written

    def _start(self) -> None:
        self._stream, self._partial, self._stop = sys.stderr, False, threading.Event()
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                proxy: Any = _Above(stream, self)
                setattr(sys, name, proxy)
                self._undo.append(partial(setattr, sys, name, stream))
        for handler in logging.getLogger().handlers:
            if type(handler) is logging.StreamHandler and handler.stream.isatty():
                stream = handler.stream
                if not isinstance(stream, _Above):
                    handler.setStream(_Above(stream, self))
                    self._undo.append(partial(handler.setStream, stream))
        self._thread = threading.Thread(target=self._refresh, args=(self._stop,), daemon=True)
        self._thread.start()

    def _refresh(self, stop: threading.Event) -> None:
        while not stop.wait(_REFRESH_SECONDS):
            with self._lock:
                if not stop.is_set():
                    self._draw()

    def _draw(self) -> None:
        if self._lines and not self._partial:
            # One column is left free: writing into the last one moves some terminals to the next line.
            self._write(f"\r{self._lines[-1](columns(self._stream) - 1)}\x1b[K")

    def _erase(self) -> None:
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone; the work is not
            self._lines[:] = [lambda _width: ""] * len(self._lines)


class _Above:
    """A terminal's stream whose text goes above the live line."""

    def __init__(self, stream: TextIO, live: _Live) -> None:
        self._stream = stream
        self._live = live

    def write(self, text: str) -> int:
        return self._live.above(self._stream, text)

    def writelines(self, texts: Iterable[str]) -> None:
        self.write("".join(texts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_live = _Live()


def near(path: Path) -> Path:
    """A path as seen from here, if it lies below."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
