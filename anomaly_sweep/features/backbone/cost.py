"""What an image costs in a network, counted without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.fingerprint import fingerprint

_counted: dict[str, NetworkCost] = {}


@dataclass(frozen=True)
class NetworkCost:
    """What one image costs in a network, and what it gives, level by level.

    Attributes
    ----------
    flops, moved : mapping of str to float
        Floating point operations, and bytes read and written, of a forward pass that ends after a level.
    shapes : mapping of str to (int, int, int)
        Channels, height and width of a level's maps.
    unusable : mapping of str to str
        Levels that cannot be had of such an image -> why.
    parameter_bytes, map_bytes : float
        Of all parameters; of the largest map.
    """

    flops: Mapping[str, float]
    moved: Mapping[str, float]
    shapes: Mapping[str, tuple[int, int, int]]
    unusable: Mapping[str, str] = field(default_factory=dict)
    parameter_bytes: float = 0.0
    map_bytes: float = 0.0


def network_cost(backbone: BackboneConf, side: int) -> NetworkCost:
    """Count a network's operations on one square image, without computing anything.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    key = fingerprint(backbone, side)
    if key not in _counted:
        _counted[key] = _count(backbone, side)
    return _counted[key]


def _count(backbone: BackboneConf, side: int) -> NetworkCost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from anomaly_sweep.features.backbone.create import create_without_memory
    from anomaly_sweep.features.backbone.levels import INTERMEDIATES, check_nodes, look, read_levels

    flops: dict[str, float] = {}
    moved: dict[str, float] = {}
    written = 0
    meta = torch.device("meta")
    largest = 0
    model = create_without_memory(backbone)
    with meta, torch.inference_mode():
        check_nodes(model, backbone)
        looked = look(model, backbone, list(backbone.levels), side, meta)
        shapes = {level: found for level, found in looked.items() if not isinstance(found, str)}
        unusable = {level: found for level, found in looked.items() if isinstance(found, str)}

        def seen(module: torch.nn.Module, _inputs: object, output: object) -> None:
            nonlocal largest, written
            if isinstance(output, torch.Tensor):
                largest = max(largest, output.numel())
                written += output.numel() if next(module.children(), None) is None else 0

        for module in model.modules():
            module.register_forward_hook(seen)

        def one_pass(levels: list[str]) -> None:
            nonlocal written
            written = 0
            with FlopCounterMode(display=False) as counter:

                def visit(level: str, _maps: torch.Tensor) -> None:
                    flops[level] = float(counter.get_total_flops())
                    moved[level] = 4.0 * 2 * written  # each value is written once and read once

                read_levels(model, backbone, torch.empty(1, 3, side, side), levels, visit)

        # A pass tells of each level as it comes by; timm's own method, of all of them when it ends.
        inner = [level for level in shapes if backbone.levels[level].startswith(INTERMEDIATES)]
        together = [level for level in shapes if level not in inner]
        for levels in [*([together] if together else []), *([level] for level in inner)]:
            one_pass(levels)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return NetworkCost(flops, moved, shapes, unusable, 4.0 * parameters, 4.0 * largest)
