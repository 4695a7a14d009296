"""Where networks and flows are computed. torch is imported when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_sweep.errors import AnomalySweepError, ConfigError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    AnomalySweepError
        If the device asked for is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"runtime.device={name} is no device; use auto, cpu, cuda, cuda:N or mps"
        ) from error
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = counts.get(device.type)
    if count is not None and (device.index or 0) >= count:
        raise AnomalySweepError(
            f"runtime.device={name}: this machine has {count} {device.type} devices; use runtime.device=cpu"
        )
    return device


def on_cuda(name: str) -> bool:
    """Whether a device's name means CUDA here."""
    if name == "auto":
        import torch

        return torch.cuda.is_available()
    return name.startswith("cuda")


def on_gpu(name: str) -> bool:
    """Whether a device's name means a GPU of any kind here."""
    return name == "mps" or on_cuda(name)
