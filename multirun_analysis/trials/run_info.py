"""What is known of runs beside their trials: when they ended, what they ran with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """A parent run: its sweep, its id and the versions it ran with."""

    sweep: str
    run_id: str
    versions: str

    def __str__(self) -> str:
        return f"sweep {self.sweep}: run {self.run_id}; {self.versions}"


@dataclass(frozen=True)
class RunEnd:
    """Whether a run finished, and when it ended (or began, where it did not end), in milliseconds.

    ``launched`` is when its sweep was launched last (a run without one: when it ended).
    """

    finished: bool
    time: int
    launched: int = 0
