"""Fingerprints: short identities of values, equal exactly when the values are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_BYTES = 16


def _plain(value: Any) -> Any:
    """JSON-able form of a value; floats keep all their digits, sets and odd types are refused."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"no fingerprint for a value of type {type(value).__name__}: {value!r}")


def fingerprint(*values: Any) -> str:
    """Hexadecimal BLAKE2b digest of the values' canonical JSON (key order does not matter).

    Raises
    ------
    TypeError
        For a value that is not made of dataclasses, dicts, lists, strings, numbers and None.
    """
    text = json.dumps(_plain(list(values)), sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def seed_of(digest: str) -> int:
    """A seed in [0, 2**63) that depends on nothing but the fingerprint (hexadecimal digits)."""
    return int(hashlib.blake2b(digest.encode(), digest_size=8).hexdigest(), 16) >> 1


def seeds_of(seed: int, count: int) -> list[int]:
    """So many seeds: the given one, and others that follow from it."""
    return [seed, *(seed_of(fingerprint(seed, i)) for i in range(1, count))]


def file_digest(path: Path) -> str:
    """BLAKE2b digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
