"""Memory held by a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def peak_of(step: Callable[[], None], trace: Path) -> int:
    """The most bytes of tensors that a step held at once, LAPACK's workspace included."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    profile.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "[memory]"]
    assert events
    events.sort(key=lambda e: e["ts"])
    return int(np.cumsum([e["args"]["Bytes"] for e in events]).max())
