"""A progress bar for a person, nothing for a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield ``items``, with a progress bar on standard error if that is a terminal."""
    console = Console(stderr=True)
    yield from track(
        items, description, total=total, console=console, transient=True, disable=not console.is_terminal
    )
