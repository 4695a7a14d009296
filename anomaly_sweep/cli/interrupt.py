"""Being told to stop: Ctrl-C, and the signals that end a process from outside."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Those that end a process unless it says otherwise, as a batch system or a closed terminal sends them.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """Ended by a signal: what is to be done on the way out is the same as for Ctrl-C."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated where such a signal arrives; a second one ends the process at once.

    A signal that is ignored (``nohup``) or handled already is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    at_default = [signum for signum in _SIGNALS if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in at_default:
        signal.signal(signum, _raise)
    try:
        yield
    finally:
        for signum in at_default:
            signal.signal(signum, signal.SIG_DFL)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """128 and the signal's number, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (interrupt.signum if isinstance(interrupt, Terminated) else signal.SIGINT)


def _raise(signum: int, _frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)
    raise Terminated(signum)
