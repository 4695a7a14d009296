"""A run's artifacts when they are on this machine's disk.

A file is a file: MLflow's copy of a temporary one costs ten times more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from anomaly_sweep.errors import TrackingError


def local_artifacts(artifact_uri: str) -> Path | None:
    """The folder of a run's artifacts when it is on this machine's disk."""
    if artifact_uri.startswith("file:"):
        return Path(unquote(urlparse(artifact_uri).path))
    return None if urlparse(artifact_uri).scheme else Path(artifact_uri)


def as_json(content: Any) -> str:
    """Content as JSON; a list has a line for each element."""
    if isinstance(content, list):
        return "[" + ",\n ".join(json.dumps(element) for element in content) + "]"
    return json.dumps(content, indent=1)


def put_text(folder: Path, name: str, text: str) -> None:
    """Write an artifact.

    Raises
    ------
    TrackingError
        If it cannot be written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def put_file(folder: Path, name: str, path: Path) -> None:
    """Copy a file to an artifact; raises as ``put_text``."""
    with _writing(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrackingError(
            f"{folder}: artifacts cannot be written ({error}); make room, or set tracking.artifacts "
            "and tracking.experiment"
        ) from error
