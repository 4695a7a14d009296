"""How much memory there is, so that what does not fit is refused before it is taken."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_sweep.errors import EstimatorError

if TYPE_CHECKING:
    import torch

_MEMINFO = Path("/proc/meminfo")


def available_bytes(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None where the system does not tell.

    On a GPU what is free, with what PyTorch holds unused. In main memory what Linux calls available (caches
    of files do not count as used), elsewhere all there is.
    """
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    if _MEMINFO.is_file():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def refuse_too_much(
    what: str,
    needed: int,
    *,
    device: torch.device,
    held: int = 0,
    limit: int | None = None,
    setting: str = "",
    advice: str = "",
) -> None:
    """Raise EstimatorError if something needs more memory than it may take.

    Parameters
    ----------
    what : str
        What needs it, and which of its settings say how much.
    needed, held : int
        Bytes in all, and those of them that it has already.
    device : torch.device
        Where it takes them.
    limit : int or None
        The most bytes it may take; None for what the device has left.
    setting : str
        What sets the limit, for the message.
    advice : str
        What to do about it.
    """
    if limit is not None:
        source = f"{setting} allows"
    else:
        free = available_bytes(device)
        if free is None:
            return
        limit, source = free + held, "it can have"
    if needed > limit:
        raise EstimatorError(
            f"{what} needs {needed / 1e9:.3g} GB of memory, {source} {limit / 1e9:.3g} GB; {advice}"
        )
