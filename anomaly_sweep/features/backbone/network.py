"""A timm network with its weights whose named levels can be read."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.features.backbone import weights
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.folding import fold_batch_norm
from anomaly_sweep.features.backbone.levels import (
    INTERMEDIATES,
    Shape,
    Visit,
    check_nodes,
    look,
    read_levels,
)

log = logging.getLogger(__name__)

#: Images of a forward pass on a CPU, where more of them are no faster.
CPU_BATCH = 8


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
        #: What was seen of each level at each side: the shape of its maps, or why it has none.
        self._looked: dict[tuple[str, int], Shape | str] = {}
        self.model, self._lacking = create(backbone)
        self.model.eval().requires_grad_(False)
        check_nodes(self.model, backbone)
        if device.type == "cpu":
            self._fold()
        self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _fold(self) -> None:
        if any(node.startswith(INTERMEDIATES) for node in self.backbone.levels.values()):
            return  # which module's output is read is not known
        nodes = {self.model.get_submodule(node) for node in self.backbone.levels.values()}
        size = self.backbone.input_size
        try:
            fold_batch_norm(self.model, torch.zeros(1, 3, size, size), keep=nodes)
        except Exception as error:  # whatever a network raises of an input that it is not made for
            # It is as good unfolded, only slower, and may serve at another size or at its first levels.
            log.debug("%s left unfolded at %d px: %s", self.backbone.model, size, error)

    def images_a_pass(self, batch_size: int) -> int:
        """How many images each forward pass takes, the last one filled up.

        Libraries choose a convolution's algorithm, and so its rounding, by the batch's shape: with one shape
        for all passes an image's features depend on the image alone. On a CPU it is always the same; on a
        GPU it is ``batch_size``, and features made with another differ by rounding (docs/evidence.md says how
        much).
        """
        return CPU_BATCH if self.device.type == "cpu" else batch_size

    def unusable(self, levels: Iterable[str], side: int) -> dict[str, str]:
        """Levels that cannot be had of square images -> why.

        The weights do not reach them (only a partial file's), the network cannot take such images as far as
        there, or the node gives no feature maps.
        """
        reasons = {}
        for level, found in self._look(levels, side).items():
            if isinstance(found, str):
                reasons[level] = found
            elif self._lacking and (missing := self._used_by(level, side) & self._lacking):
                reasons[level] = weights.missing_message(self.backbone, level, missing)
        return reasons

    def shapes(self, levels: Iterable[str], side: int) -> dict[str, Shape]:
        """Level -> (channels, height, width) of its maps of square images.

        Raises
        ------
        ConfigError
            If there are no such maps.
        """
        shapes = {}
        for level, found in self._look(levels, side).items():
            if isinstance(found, str):
                raise ConfigError(found)
            shapes[level] = found
        return shapes

    def _look(self, levels: Iterable[str], side: int) -> dict[str, Shape | str]:
        """Each level is looked at once."""
        levels = list(levels)
        unknown = [level for level in levels if (level, side) not in self._looked]
        if unknown:
            with _full_precision(self.device):
                found = look(self.model, self.backbone, unknown, side, self.device)
            self._looked |= {(level, side): what for level, what in found.items()}
        return {level: self._looked[level, side] for level in levels}

    def _used_by(self, level: str, side: int) -> set[str]:
        """Names of the parameters and buffers that a forward pass up to a level touches."""
        used: set[str] = set()
        hooks = []
        # A folded batch norm has left its parameters with the convolution: the file's names still count.
        for name, module in self.model.named_modules():
            names = [f"{name}.{p}" if name else p for p in (*module._parameters, *module._buffers)]
            names += getattr(module, "folded_names", [])
            if names:
                hooks.append(module.register_forward_pre_hook(lambda _m, _i, names=names: used.update(names)))
        try:
            self.read(torch.zeros(1, 3, side, side, device=self.device), [level], lambda _level, _maps: None)
        finally:
            for hook in hooks:
                hook.remove()
        return used

    def read(
        self, batch: Tensor, levels: Iterable[str], visit: Visit, visit_token: Visit | None = None
    ) -> None:
        """One forward pass; ``visit(level, maps)`` is called with each level's maps (b, c, h, w), float32.

        ``visit_token(level, token)`` is called before with its class tokens (b, c), where there are any. They
        hold until it returns, see :func:`anomaly_sweep.features.backbone.levels.read_levels`.

        Raises
        ------
        ConfigError
            If a level's node does not give maps of that shape, or is not reached.
        """
        with _full_precision(self.device):
            read_levels(self.model, self.backbone, batch, levels, visit, visit_token)


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """float32 convolutions in float32: by default cuDNN rounds their inputs to TF32's 10-bit mantissas."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    return flags
