"""What the tasks' forecasts have in common. Costs are rough; a sweep corrects them by what it measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from anomaly_sweep.datasets import Category
from anomaly_sweep.features.backbone.cost import NetworkCost


@dataclass(frozen=True)
class Rates:
    """Of a processor: floating point operations, and bytes to and from memory, a second.

    Networks of small (depthwise) products wait for the bytes.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class ShardForecast:
    """What one shard's work will cost.

    Attributes
    ----------
    images : int
        Passes of an image through the network that are left.
    image_kind : str
        Whose measured time tells of theirs.
    image_seconds : float
        Of one of them.
    trials : mapping
        Fingerprint -> (kind, seconds).
    """

    images: int
    image_kind: str
    image_seconds: float
    trials: Mapping[str, tuple[str, float]]

    @cached_property
    def seconds(self) -> float:
        """Of all of it, in one process."""
        return self.images * self.image_seconds + math.fsum(s for _, s in self.trials.values())


#: One core of an ordinary CPU, and a GPU.
CORE, GPU = Rates(100e9, 10e9), Rates(10e12, 500e9)
#: The kind of passes through a network, whichever it is.
IMAGES = "images"
#: Decoding and resizing an image, seconds a byte of its file.
_DECODE_SECONDS = 3e-8


def decode_seconds(category: Category) -> float:
    """Of one image; a category's files are of one kind."""
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
