"""How much memory there is, and what is refused for want of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_sweep import memory
from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.memory import available_bytes, refuse_too_much

CPU = torch.device("cpu")


def test_available_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       64 kB\nMemFree:        10 kB\nMemAvailable:   48 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    assert available_bytes(CPU) == 48 * 1024
    assert available_bytes(torch.device("mps")) is None
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 16, "SC_PHYS_PAGES": 5}.__getitem__)
    assert available_bytes(CPU) == 80


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held already counts as had; a limit that is set goes before what there is."""
    monkeypatch.setattr(memory, "available_bytes", lambda _device: 10)
    refuse_too_much("x", 15, device=CPU, held=5)
    with pytest.raises(EstimatorError, match=r"^x needs .* GB of memory, it can have .* GB; wait$"):
        refuse_too_much("x", 16, device=CPU, held=5, advice="wait")
    refuse_too_much("x", 99, device=CPU, limit=99, setting="some.limit")
    with pytest.raises(EstimatorError, match=r"some\.limit allows"):
        refuse_too_much("x", 100, device=CPU, limit=99, setting="some.limit")
    monkeypatch.setattr(memory, "available_bytes", lambda _device: None)
    refuse_too_much("x", 10**15, device=CPU)
