"""One file of the feature cache: safetensors with what it is made of and a digest of its content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import CacheError

Arrays = dict[str, NDArray[np.float32]]
_HEADER_BYTES = 1 << 16


class Damaged(CacheError):
    """The file's bytes are not those that were written."""


def to_bytes(description: Mapping[str, Any], arrays: Arrays) -> bytes:
    """The file's content."""
    from safetensors.numpy import save

    metadata = {"about": json.dumps(dict(description), sort_keys=True), "digest": _digest(arrays)}
    # safetensors writes the bytes as they lie in memory: a view's would be in another order.
    content: bytes = save({n: np.ascontiguousarray(a) for n, a in arrays.items()}, metadata=metadata)
    return content


def read_description(path: Path) -> dict[str, Any]:
    """What an entry is made of, from its header alone; empty if that cannot be read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    try:
        with path.open("rb") as stream:
            description = json.loads(_metadata(stream.read(_HEADER_BYTES))["about"])
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}


def read(path: Path) -> Arrays:
    """Arrays of a file whose bytes are those that were written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    Damaged
        If its bytes are others.
    CacheError
        If it cannot be opened.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
    try:
        arrays: Arrays = load(raw)
        digest = _metadata(raw).get("digest")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path}: damaged ({error})") from error
    if digest != _digest(arrays):
        raise Damaged(f"{path}: damaged (its content is not what was written)")
    return arrays


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _metadata(raw: bytes) -> dict[str, str]:
    """The metadata in the leading bytes of a safetensors file; ValueError if they are none."""
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("no safetensors header")
    return metadata
