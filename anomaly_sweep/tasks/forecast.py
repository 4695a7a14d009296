"""What the tasks' forecasts have in common. Costs are rough; a sweep corrects them by what it measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly_sweep.features.backbone.cost import NetworkCost

if TYPE_CHECKING:
    from anomaly_sweep.tasks.base import ShardWork


@dataclass(frozen=True)
class Rates:
    """Of a processor: floating point operations, and bytes to and from memory, a second.

    Networks of small (depthwise) products wait for the bytes.
    """

    flops: float
    bytes: float


#: One core of an ordinary CPU, and a GPU.
CORE, GPU = Rates(100e9, 10e9), Rates(10e12, 500e9)
#: Decoding and resizing an image, seconds a byte of its file.
_DECODE_SECONDS = 3e-8

IMAGES, CLOSED_FORM, FLOW, OTHER, LOCALIZER = "images", "closed form", "flows", "other", "localizers"
KINDS = (IMAGES, CLOSED_FORM, FLOW, OTHER, LOCALIZER)


def image_kind(work: ShardWork) -> str:
    """Whose measured time tells of a shard's images."""
    return f"{IMAGES} {work.shard.backbone.name} {work.shard.side}"


def decode_seconds(work: ShardWork) -> float:
    """Of one image; a category's files are of one kind."""
    category = work.shard.category
    for record in (*category.train[:1], *category.test[:1]):
        try:
            return _DECODE_SECONDS * record.path.stat().st_size
        except OSError:  # told when it is read
            continue
    return 0.0


def image_seconds(network: NetworkCost, levels: Sequence[str], rates: Rates = CORE) -> float:
    """Seconds of one image through a network as far as some levels."""
    flops = max((network.flops.get(level, 0.0) for level in levels), default=0.0)
    moved = max((network.moved.get(level, 0.0) for level in levels), default=0.0)
    return flops / rates.flops + moved / rates.bytes
