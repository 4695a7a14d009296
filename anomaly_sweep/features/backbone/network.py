"""A timm network read at named nodes: one forward gives every level, cut after the last one needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.features.backbone import weights
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.folding import fold_batch_norm


class _AllLevelsSeen(Exception):
    """Leaves the forward pass once the last node has been read."""


class Network:
    """A frozen backbone whose named levels can be read.

    Parameters
    ----------
    backbone : BackboneConf
    device : torch.device

    Raises
    ------
    ConfigError
        If timm does not know the model, its arguments, or a level's node.
    WeightsError
        If the weights cannot be had or do not fit.
    """

    def __init__(self, backbone: BackboneConf, device: torch.device) -> None:
        self.backbone = backbone
        self.device = device
        self._shapes: dict[tuple[str, int], tuple[int, int, int]] = {}
        self.model, self._lacking = create(backbone)
        self.model.eval().requires_grad_(False)
        modules = dict(self.model.named_modules())
        for level, node in backbone.levels.items():
            if not node or node not in modules:
                raise ConfigError(
                    f"backbone.levels.{level}={node}: {backbone.model} has no module of that name "
                    f"(top-level modules: {', '.join(name for name, _ in self.model.named_children())})"
                )
        if device.type == "cpu":
            nodes = {modules[node] for node in backbone.levels.values()}
            fold_batch_norm(self.model, self._probe(), keep=nodes)
        self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def unusable(self, levels: Iterable[str]) -> dict[str, str]:
        """Levels that the weights do not reach -> why (only a partial file has any)."""
        if not self._lacking:
            return {}
        reasons = {}
        for level in levels:
            missing = self._used_by(level) & self._lacking
            if missing:
                reasons[level] = weights.missing_message(self.backbone, level, missing)
        return reasons

    def shapes(self, levels: Iterable[str], side: int) -> dict[str, tuple[int, int, int]]:
        """Level -> (channels, height, width) of its maps of square images; each is looked at once."""
        levels = list(levels)
        unknown = [level for level in levels if (level, side) not in self._shapes]
        if unknown:
            zeros = torch.zeros(1, 3, side, side, device=self.device)
            self.read(zeros, unknown, lambda level, m: self._note(level, side, m))
        return {level: self._shapes[level, side] for level in levels}

    def _note(self, level: str, side: int, maps: Tensor) -> None:
        self._shapes[level, side] = (maps.shape[1], maps.shape[2], maps.shape[3])

    def _used_by(self, level: str) -> set[str]:
        """Names of the parameters and buffers that a forward pass up to a level touches."""
        used: set[str] = set()
        hooks = []
        # A folded batch norm has left its parameters with the convolution: the file's names still count.
        for name, module in self.model.named_modules():
            own = [f"{name}.{p}" if name else p for p in (*module._parameters, *module._buffers)]
            own += getattr(module, "folded_names", [])
            if own:
                hooks.append(module.register_forward_pre_hook(lambda _m, _i, own=own: used.update(own)))
        try:
            self.read(self._probe(), [level], lambda _level, _map: None)
        finally:
            for hook in hooks:
                hook.remove()
        return used

    def _probe(self) -> Tensor:
        size = self.backbone.input_size
        return torch.zeros(1, 3, size, size, device=self.device)

    @torch.inference_mode()
    def read(self, batch: Tensor, levels: Iterable[str], visit: Callable[[str, Tensor], None]) -> None:
        """One forward pass; ``visit(level, map)`` is called with each level's map (b, c, h, w), float32.

        A module that the network calls several times is read the first time, whatever else is read.

        Raises
        ------
        ConfigError
            If a level's node does not give a map of that shape, or is not reached.
        """
        wanted = set(levels)
        with _full_precision(self.device), self._hooks(wanted, visit) as seen:
            try:
                features = getattr(self.model, "forward_features", self.model)
                features(batch)
            except _AllLevelsSeen:
                return
        left = sorted(wanted - seen)
        if left:
            nodes = ", ".join(f"{level}={self.backbone.levels[level]}" for level in left)
            raise ConfigError(
                f"backbone.levels: the forward pass of {self.backbone.model} never reaches {nodes}"
            )

    @contextmanager
    def _hooks(self, wanted: set[str], visit: Callable[[str, Tensor], None]) -> Iterator[set[str]]:
        seen: set[str] = set()

        def hook(level: str) -> Callable[[nn.Module, Any, Any], None]:
            def read(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if level in seen:
                    return
                if not isinstance(output, Tensor) or output.ndim != 4:
                    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                    raise ConfigError(
                        f"backbone.levels.{level}={self.backbone.levels[level]} gives {found}, not a "
                        "feature map (batch, channels, height, width); choose another module"
                    )
                visit(level, output)
                seen.add(level)
                if seen == wanted:
                    raise _AllLevelsSeen

            return read

        handles = [
            self.model.get_submodule(self.backbone.levels[level]).register_forward_hook(hook(level))
            for level in wanted
        ]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """float32 convolutions in float32: by default cuDNN rounds their inputs to TF32's 10-bit mantissas."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    return flags
