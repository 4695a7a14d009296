"""Levels of a network: read by hooks in a forward pass, and looked at before long work starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.errors import AnomalySweepError, ConfigError, shortened

#: Of nodes that are no modules: ``forward_intermediates.3`` is the fourth map of timm's method of that name.
INTERMEDIATES = "forward_intermediates."

#: (channels, height, width) of a level's maps.
Shape: TypeAlias = tuple[int, int, int]

#: Told each level and its maps (b, c, h, w), which are the network's own: they hold until it returns.
Visit: TypeAlias = Callable[[str, Tensor], None]


class _AllLevelsSeen(Exception):
    """Leaves the forward pass once the last node has been read."""


def check_nodes(model: nn.Module, backbone: BackboneConf) -> None:
    """Raise ConfigError unless each level's node is a module of the network or one of its intermediates."""
    modules = dict(model.named_modules())
    for level, node in backbone.levels.items():
        if node.startswith(INTERMEDIATES) and _number(node) in range(len(feature_info(model))):
            continue
        if not node or node not in modules:
            raise ConfigError(
                f"backbone.levels.{level}={node}: {backbone.model} has no module of that name "
                f"(top-level modules: {', '.join(name for name, _ in model.named_children())})"
            )


@torch.inference_mode()
def read_levels(
    model: nn.Module,
    backbone: BackboneConf,
    batch: Tensor,
    levels: Iterable[str],
    visit: Visit,
    visit_token: Visit | None = None,
) -> None:
    """One forward pass, cut after the last level; ``visit(level, maps)`` is called with each level's maps.

    Tokens of a transformer are maps too: those of the places, in rows and columns. ``visit_token(level,
    token)`` is called before with a level's class tokens (b, c), where the network has them. Register tokens
    and the like are dropped.

    What ``visit`` is given is the network's memory, which a later operation may overwrite in place (an
    activation, a residual sum): what is to be kept must be copied there and then.

    A module that the network calls several times is read the first time, whatever else is read.

    Raises
    ------
    ConfigError
        If a level's node does not give maps (b, c, h, w), one for each image, or is not reached.
    """
    wanted = set(levels)
    stated = {level for level in wanted if backbone.levels[level].startswith(INTERMEDIATES)}
    if stated:
        _read_intermediates(model, backbone, batch, stated, visit)
        wanted -= stated
        if not wanted:
            return
    with _hooks(model, backbone, len(batch), wanted, visit, visit_token) as seen:
        try:
            getattr(model, "forward_features", model)(batch)
        except _AllLevelsSeen:
            return
    left = sorted(wanted - seen)
    if left:
        nodes = ", ".join(f"{level}={backbone.levels[level]}" for level in left)
        raise ConfigError(f"backbone.levels: the forward pass of {backbone.model} never reaches {nodes}")


def look(
    model: nn.Module, backbone: BackboneConf, levels: Sequence[str], side: int, device: torch.device
) -> dict[str, Shape | str]:
    """The shape of each level's maps of square images, or why there are none.

    One image of zeros is passed through for all levels together; where that fails, one for each.

    Parameters
    ----------
    device : torch.device
        Where the model is; on ``meta`` nothing is computed.
    """
    try:
        return {**_shapes(model, backbone, levels, side, device)}
    except Exception as error:  # whatever a network raises of an input that it is not made for
        if len(levels) == 1:
            return {levels[0]: _why_not(backbone, levels[0], side, error)}
    found: dict[str, Shape | str] = {}
    for level in levels:
        found |= look(model, backbone, [level], side, device)
    return found


def _shapes(
    model: nn.Module, backbone: BackboneConf, levels: Sequence[str], side: int, device: torch.device
) -> dict[str, Shape]:
    found: dict[str, Shape] = {}

    def note(level: str, maps: Tensor) -> None:
        _, channels, height, width = maps.shape
        if not maps.numel():
            raise ConfigError(
                f"backbone.levels.{level}={backbone.levels[level]} has no place left of images of {side} px "
                f"({channels}x{height}x{width}); choose a larger dataset.input_size"
            )
        found[level] = (channels, height, width)

    read_levels(model, backbone, torch.zeros(1, 3, side, side, device=device), levels, note)
    return found


def _why_not(backbone: BackboneConf, level: str, side: int, error: Exception) -> str:
    if isinstance(error, AnomalySweepError):
        return str(error)
    return (
        f"backbone {backbone.name}: {backbone.model} cannot take an RGB image of {side} x {side} px as far "
        f"as {level} ({type(error).__name__}: {shortened(error)}); choose another dataset.input_size, "
        "backbone.kwargs or a shallower level"
    )


@contextmanager
def _hooks(
    model: nn.Module,
    backbone: BackboneConf,
    images: int,
    wanted: set[str],
    visit: Visit,
    visit_token: Visit | None,
) -> Iterator[set[str]]:
    seen: set[str] = set()

    def hook(level: str) -> Callable[[nn.Module, Any, Any], None]:
        def read(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if level in seen:
                return
            maps = _as_maps(model, output)
            if maps is None or len(maps) != images:
                raise _no_maps(backbone, level, images, output)
            if visit_token is not None and output.ndim == 3 and has_class_token(model):
                visit_token(level, output[:, 0])
            visit(level, maps)
            seen.add(level)
            if seen == wanted:
                raise _AllLevelsSeen

        return read

    handles = [
        model.get_submodule(backbone.levels[level]).register_forward_hook(hook(level)) for level in wanted
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _read_intermediates(
    model: nn.Module, backbone: BackboneConf, batch: Tensor, levels: Iterable[str], visit: Visit
) -> None:
    """Read by timm's own method, for networks whose modules give something else than maps."""
    ordered = sorted(levels, key=lambda level: _number(backbone.levels[level]))
    numbers = sorted({_number(backbone.levels[level]) for level in ordered})
    read: Any = model.forward_intermediates
    found = read(batch, indices=numbers, stop_early=True, output_fmt="NCHW", intermediates_only=True)
    by_number = dict(zip(numbers, found, strict=True))
    for level in ordered:
        maps = by_number[_number(backbone.levels[level])]
        if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != len(batch):
            raise _no_maps(backbone, level, len(batch), maps)
        visit(level, maps)


def _number(node: str) -> int:
    number = node.removeprefix(INTERMEDIATES)
    return int(number) if number.isdecimal() else -1


def _no_maps(backbone: BackboneConf, level: str, images: int, output: Any) -> ConfigError:
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    return ConfigError(
        f"backbone.levels.{level}={backbone.levels[level]} gives {found}, not a feature map of each "
        f"of {images} images (batch, channels, height, width); choose another module"
    )


def feature_info(model: nn.Module) -> list[dict[str, Any]]:
    """What timm says of its intermediates, shallowest first; empty if it says nothing."""
    known: Any = getattr(model, "feature_info", None) or []
    return list(getattr(known, "info", known))


def has_class_token(model: nn.Module) -> bool:
    """Whether the tokens of each block begin with a class token."""
    return bool(getattr(model, "num_prefix_tokens", 0)) and getattr(model, "cls_token", None) is not None


def _as_maps(model: nn.Module, output: Any) -> Tensor | None:
    """A node's output as maps (b, c, h, w); None if it is none.

    The layout is what timm declares of the network: ``output_fmt`` of maps; of tokens, ``num_prefix_tokens``
    (class, registers) before those of the places, row by row. Images are square, and so are grids.
    """
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else output
    prefix = getattr(model, "num_prefix_tokens", None)
    if output.ndim != 3 or prefix is None:
        return None
    places = output[:, prefix:].mT
    side = isqrt(places.shape[2])
    return places.reshape(*places.shape[:2], side, side) if side * side == places.shape[2] else None
