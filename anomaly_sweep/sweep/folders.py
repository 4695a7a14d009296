"""Where a sweep keeps what it need not compute again."""

from __future__ import annotations

from pathlib import Path

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.errors import CacheError


def cache_folder(runtime: RuntimeConf) -> Path:
    """The cache folder, made if it is not there.

    Raises
    ------
    CacheError
        If it cannot be made.
    """
    folder = Path(runtime.cache_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"runtime.cache_dir={folder} cannot be made ({error})") from error
    return folder
