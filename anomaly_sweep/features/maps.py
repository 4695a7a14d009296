"""Feature maps of a split, batch by batch: from the cache or the network, never all of them at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.backbone.loaded import network_of
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.extract import forward_or_halve, in_order, normalised
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.shard import Shard

if TYPE_CHECKING:
    from anomaly_sweep.features.backbone.network import Network

log = logging.getLogger(__name__)

#: Images of one cache entry.
CHUNK = 16


@dataclass
class MapBatch:
    """Maps of consecutive images, and the seconds the network took for them (0 from the cache)."""

    maps: dict[str, Tensor]
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(next(iter(self.maps.values())))


@dataclass
class MapStream:
    """The maps of a shard's images at some levels.

    Parameters
    ----------
    shard : Shard
    levels : sequence of str
    device : str
        As ``runtime.device``.
    batch_size : int
        Images in a forward pass; halved, down to 1, whenever the device runs out of memory.
    decoders : int
        Threads that decode and resize.
    cache : FeatureCache or None
        Where maps are looked for and kept; None: nowhere.
    on_image : callable
        Told how many images each batch had.
    """

    shard: Shard
    levels: Sequence[str]
    device: str = "auto"
    batch_size: int = 16
    decoders: int = 1
    cache: FeatureCache | None = None
    on_image: Callable[[int], None] = field(default=lambda _count: None)

    @property
    def network(self) -> Network:
        """The network with the shard's weights."""
        return network_of(self.shard.backbone, self.device, self.shard.weights)

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Level -> (channels, height, width) of its maps, from one image of zeros.

        Raises
        ------
        AnomalySweepError
            If no network can be made, or its weights do not reach a level.
        """
        network = self.network
        unusable = network.unusable(self.levels)
        if unusable:
            raise AnomalySweepError(next(iter(unusable.values())))
        return network.shapes(self.levels, self.shard.side)

    def batches(self, split: str) -> Iterator[MapBatch]:
        """The maps of ``train`` or ``test``, in the order of the records; float32, contiguous, on the device.

        Raises
        ------
        DatasetError
            If an image cannot be read.
        AnomalySweepError
            If the device has not enough memory for one image, or a map is not finite.
        """
        category = self.shard.category
        records = category.train if split == "train" else category.test
        if self.cache is None:
            yield from self._computed(records, self.levels)
            return
        for start in range(0, len(records), CHUNK):
            yield self._chunk(split, start, records[start : start + CHUNK], self.cache)

    def _chunk(self, split: str, start: int, records: Sequence[ImageRecord], cache: FeatureCache) -> MapBatch:
        about = {
            level: self.shard.about(split, level) | {"maps": [start, start + len(records)]}
            for level in self.levels
        }
        device = self.network.device
        batch = MapBatch({})
        for level in self.levels:
            arrays, damage = cache.get(about[level])
            if damage:
                log.warning("cache entry rebuilt: %s", damage)
            if arrays is not None:
                batch.maps[level] = torch.from_numpy(arrays["maps"]).to(device)
        lacking = [level for level in self.levels if level not in batch.maps]
        if lacking:
            parts = list(self._computed(records, lacking))
            batch.seconds = sum(part.seconds for part in parts)
            for level in lacking:
                batch.maps[level] = torch.cat([part.maps[level] for part in parts])
                cache.put(about[level], {"maps": batch.maps[level].cpu().numpy()})
        else:
            self.on_image(len(records))
        return batch

    def _computed(self, records: Sequence[ImageRecord], levels: Sequence[str]) -> Iterator[MapBatch]:
        shard, network = self.shard, self.network
        waiting: list[Any] = []

        def load(record: ImageRecord) -> Any:
            return load_square(record.path, shard.input_size, shard.center_crop)

        for image in in_order(load, records, self.decoders):
            waiting.append(image)
            while len(waiting) >= self.batch_size:
                yield from self._forward(network, waiting, levels)
        while waiting:
            yield from self._forward(network, waiting, levels)

    def _forward(self, network: Network, waiting: list[Any], levels: Sequence[str]) -> Iterator[MapBatch]:
        """One batch off the queue; on out-of-memory it stays there and the batch size is halved."""
        made: list[MapBatch] = []
        size = min(self.batch_size, len(waiting))
        left = forward_or_halve(lambda images: made.append(forward(network, images, levels)), waiting, size)
        if left < size:
            self.batch_size = left
        for batch in made:
            self.on_image(len(batch))
            yield batch


def forward(network: Network, images: Sequence[Any], levels: Sequence[str]) -> MapBatch:
    """Maps of some uint8 images (h, w, 3), in one pass.

    Raises
    ------
    AnomalySweepError
        If a map holds NaN or infinity.
    """
    read: dict[str, Tensor] = {}
    batch = normalised(network, images)
    synchronise(network.device)
    begun = time.perf_counter()
    network.read(batch, levels, read.__setitem__)
    synchronise(network.device)
    seconds = time.perf_counter() - begun
    # Copies: the network may reuse its memory, and inference tensors could not be changed later.
    maps = {
        level: torch.empty_like(m, memory_format=torch.contiguous_format).copy_(m)
        for level, m in read.items()
    }
    for level, m in maps.items():
        if not bool(torch.isfinite(m).all()):
            raise AnomalySweepError(
                f"the feature maps at {level} hold NaN or infinity; check the weights and the normalisation"
            )
    return MapBatch(maps, seconds)


def synchronise(device: torch.device) -> None:
    """Wait until a CUDA device has done what it was told, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
