"""``anomaly-sweep-cache``: list, verify and prune the cached features."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_sweep import terminal
from anomaly_sweep.errors import CacheError

if TYPE_CHECKING:
    from anomaly_sweep.features.cache.store import Entry, FeatureCache

_DAY = 86400.0
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_COLUMNS = ("dataset", "category", "split", "backbone", "level", "weights", "input size", "augmentation")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments; those of the process if None.

    Returns
    -------
    int
        0: done, or nothing wrong; 1: ``verify`` found damaged entries; 2: the command cannot be carried out.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "prune":
        limited = arguments.older_than is not None or arguments.max_size is not None
        if arguments.all == limited:
            parser.error("prune needs --older-than, --max-size or both of them, or else --all")
    return terminal.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    cache = _open(arguments.cache_dir)
    if arguments.command == "list":
        return _list(cache)
    if arguments.command == "verify":
        return _verify(cache, delete=arguments.delete)
    return _prune(cache, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomaly-sweep-cache", description=__doc__)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--cache-dir",
        type=Path,
        default=Path(".anomaly_sweep"),
        metavar="DIR",
        help="the folder that runs had as runtime.cache_dir (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[shared], help="what is in the cache, most recently used first")
    verify = commands.add_parser("verify", parents=[shared], help="read every entry and name those damaged")
    verify.add_argument("--delete", action="store_true", help="remove them; the next run makes them again")
    prune = commands.add_parser("prune", parents=[shared], help="remove entries")
    prune.add_argument("--older-than", type=_days, metavar="DAYS", help="those not used for so many days")
    prune.add_argument("--max-size", type=_size, metavar="SIZE", help="the longest unused beyond SIZE (5GB)")
    prune.add_argument("--all", action="store_true", help="all of them")
    prune.add_argument("--dry-run", action="store_true", help="say what would go and leave it")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give a number of days, 0 or more")
    return days


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?B?)", text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: give a size such as 5GB, 500MB or a number of bytes")
    unit = match[2] if match[2] in _UNITS else f"{match[2]}B"
    return int(float(match[1]) * _UNITS[unit])


def _open(folder: Path) -> FeatureCache:
    # Opening a cache makes its folders: a wrong --cache-dir must not leave some behind.
    if not (folder / "features").is_dir():
        raise CacheError(
            f"{folder}: no feature cache is there; give the folder that runs had as runtime.cache_dir "
            "(--cache-dir DIR)"
        )
    from anomaly_sweep.features.cache.store import FeatureCache

    return FeatureCache(folder)


def _list(cache: FeatureCache) -> int:
    entries = list(cache.entries())
    if entries:
        head = (*_COLUMNS, "size", "last used")
        rows = [(*_described(entry.description), _shown(entry.bytes), _when(entry.used)) for entry in entries]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            terminal.say(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )
    terminal.say(_total(entries))
    return 0


def _verify(cache: FeatureCache, *, delete: bool) -> int:
    checked = 0
    damaged = []
    for entry, problem in cache.verify():
        checked += 1
        if problem:
            terminal.say(problem)
            damaged.append(entry)
    if delete:
        cache.remove(damaged)
    terminal.say(
        f"{checked} entries checked, {len(damaged)} damaged{' and removed' if delete and damaged else ''}"
    )
    return int(bool(damaged))


def _prune(cache: FeatureCache, arguments: argparse.Namespace) -> int:
    older_than = None if arguments.older_than is None else arguments.older_than * _DAY
    found = cache.prunable(older_than=older_than, max_bytes=arguments.max_size)
    if not arguments.dry_run:
        cache.remove(found)
    terminal.say(f"{'would free' if arguments.dry_run else 'freed'}: {_total(found)}")
    return 0


def _described(description: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of an entry's description; ``?`` where it cannot be read."""
    cells = {
        key: str(description.get(key, "?")) for key in ("dataset", "category", "split", "backbone", "level")
    }
    cells["weights"] = _weights(str(description.get("weights", "?")))
    cells["input size"] = str(description.get("input_size", "?"))
    cells["augmentation"] = _augmentation(description)
    return tuple(cells[column] for column in _COLUMNS)


def _weights(identity: str) -> str:
    kind, _, rest = identity.partition(":")
    return f"{kind}:{rest[:8]}" if kind == "file" else identity.partition(" ")[0]


def _augmentation(description: Mapping[str, Any]) -> str:
    if not description:
        return "?"
    drawn = description.get("augmentation")
    if not isinstance(drawn, dict):
        return "none"
    return f"{drawn.get('kind', '?')} x{drawn.get('passes', '?')} seed {drawn.get('seed', '?')}"


def _total(entries: Sequence[Entry]) -> str:
    count = len(entries)
    return f"{count} {'entry' if count == 1 else 'entries'}, {_shown(sum(entry.bytes for entry in entries))}"


def _shown(size: int) -> str:
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _UNITS[unit.upper()]:
            return f"{size / _UNITS[unit.upper()]:.1f} {unit}"
    return f"{size} B"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


if __name__ == "__main__":
    sys.exit(main())
