"""A queue of pieces in a folder that several machines see: files, renamed from one state to the next.

Renaming is atomic on every file system that clusters share, so that two workers never take one piece. Nothing
is read off clocks, which differ between machines: a sign of life is a file whose content changes.

``pieces/ID``
    What is to be computed, pickled.
``todo/ID``
    It waits. ``taken/ID@WORKER``: a worker has it.
``done/ID@WORKER``
    What came of it, pickled.
``alive/WORKER``
    A counter, written again and again; ``refused/WORKER``: why a worker has left.
``origin``, ``stop``
    What workers have to be like; that they are to leave.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STATES = ("pieces", "todo", "taken", "done", "alive", "refused")
_BEAT_SECONDS = 2.0


class SharedQueue:
    """The queue in a folder, for who hands out and for who takes.

    Parameters
    ----------
    folder : Path
        Made when it is not there.

    Raises
    ------
    OSError
        If it cannot be made or written (here, and in every method).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for state in _STATES:
            (folder / state).mkdir(parents=True, exist_ok=True)

    def write(self, name: str, value: Any) -> None:
        """Put a pickled value into a file, whole or not at all."""
        temporary = self.folder / f".{uuid.uuid4().hex}"
        temporary.write_bytes(pickle.dumps(value))
        temporary.replace(self.folder / name)

    def read(self, name: str) -> Any:
        """The value of a file."""
        return pickle.loads((self.folder / name).read_bytes())

    def names(self, state: str) -> list[str]:
        """The files of a state, in order."""
        return sorted(path.name for path in (self.folder / state).iterdir())

    # Who hands out.

    def put(self, piece_id: str, content: bytes) -> None:
        """Let a piece wait, unless it waits, is computed or is done already."""
        known = {name.partition("@")[0] for state in ("todo", "taken", "done") for name in self.names(state)}
        if piece_id not in known:
            self.write(f"pieces/{piece_id}", content)
            (self.folder / "todo" / piece_id).touch()

    def put_back(self, piece_id: str, worker: str) -> bool:
        """Let a piece wait again that a worker has; False if it has it no more."""
        try:
            (self.folder / "taken" / f"{piece_id}@{worker}").rename(self.folder / "todo" / piece_id)
        except FileNotFoundError:
            return False
        return True

    def forget(self, piece_id: str, *states: str) -> None:
        """Remove a piece from some states."""
        for state in states:
            for name in self.names(state):
                if name.partition("@")[0] == piece_id:
                    (self.folder / state / name).unlink(missing_ok=True)

    def stop(self) -> None:
        """Let workers leave after the piece they are at."""
        (self.folder / "stop").touch()

    def reopen(self) -> None:
        """Take :meth:`stop` back."""
        (self.folder / "stop").unlink(missing_ok=True)

    @property
    def stopped(self) -> bool:
        """Whether workers are to leave."""
        return (self.folder / "stop").exists()

    # Who takes.

    def take(self, worker: str) -> tuple[str, bytes] | None:
        """A piece, and its content; None where none waits."""
        for piece_id in self.names("todo"):
            try:
                (self.folder / "todo" / piece_id).rename(self.folder / "taken" / f"{piece_id}@{worker}")
            except FileNotFoundError:  # another was faster
                continue
            content: bytes = self.read(f"pieces/{piece_id}")
            return piece_id, content
        return None

    def finish(self, piece_id: str, worker: str, outcome: Any) -> None:
        """Leave what came of a piece."""
        self.write(f"done/{piece_id}@{worker}", outcome)
        (self.folder / "taken" / f"{piece_id}@{worker}").unlink(missing_ok=True)

    @contextmanager
    def alive(self, worker: str) -> Iterator[None]:
        """Give signs of life meanwhile."""
        stop = threading.Event()

        def beat() -> None:
            count = 0
            while True:
                count += 1
                with suppress(OSError):  # missed once is not dead
                    self.write(f"alive/{worker}", count)
                if stop.wait(_BEAT_SECONDS):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            (self.folder / "alive" / worker).unlink(missing_ok=True)


class Pulse:
    """Who of a queue's workers is alive: those whose sign has changed within some seconds of this clock."""

    def __init__(self, queue: SharedQueue, lost_seconds: float) -> None:
        self._queue = queue
        self._lost = lost_seconds
        self._seen: dict[str, tuple[bytes, float]] = {}

    def living(self) -> set[str]:
        """Their names."""
        now = time.monotonic()
        found = {}
        for name in self._queue.names("alive"):
            try:
                sign = (self._queue.folder / "alive" / name).read_bytes()
            except FileNotFoundError:
                continue
            before = self._seen.get(name)
            found[name] = before if before is not None and before[0] == sign else (sign, now)
        self._seen = found
        return {name for name, (_, at) in found.items() if now - at <= self._lost}
