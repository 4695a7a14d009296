"""Feature maps of a split, batch by batch: from the cache or the network, never all of them at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.backbone.loaded import network_of
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.extract import ImageRunner
from anomaly_sweep.features.shard import Shard

if TYPE_CHECKING:
    from anomaly_sweep.features.backbone.network import Network

#: Images of one cache entry.
CHUNK = 16


@dataclass
class MapBatch:
    """Maps of images in their order, and the seconds the network took for them (0 from the cache).

    ``names`` are the images' paths in the data set.
    """

    maps: dict[str, Tensor]
    seconds: float = 0.0
    names: tuple[str, ...] = ()
    _finite: dict[str, bool] = field(default_factory=dict)

    def of(self, levels: Sequence[str]) -> dict[str, Tensor]:
        """The maps of some levels.

        Raises
        ------
        AnomalySweepError
            If one of them holds NaN or infinity.
        """
        for level in levels:
            if level not in self._finite:
                self._finite[level] = bool(torch.isfinite(self.maps[level]).all())
            if not self._finite[level]:
                raise AnomalySweepError(
                    f"the feature maps at {level} hold NaN or infinity; check the weights and the "
                    "normalisation"
                )
        return {level: self.maps[level] for level in levels}

    def only(self, names: Collection[str]) -> MapBatch:
        """The maps of some of the images, with their share of the seconds."""
        rows = [i for i, name in enumerate(self.names) if name in names]
        if len(rows) == len(self):
            return self
        maps = {level: found[rows] for level, found in self.maps.items()}
        share = self.seconds * len(rows) / len(self)
        return MapBatch(maps, share, tuple(self.names[i] for i in rows))

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
        Images of a forward pass, see :meth:`Network.images_a_pass`; halved, down to 1, whenever the device
        runs out of memory.
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

    def unusable(self) -> dict[str, str]:
        """Levels that cannot be had -> why.

        Raises
        ------
        AnomalySweepError
            If no network can be made.
        """
        return self.network.unusable(self.levels, self.shard.side)

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Level -> (channels, height, width) of its maps, from one image of zeros.

        Raises
        ------
        AnomalySweepError
            If no network can be made, or a level cannot be had.
        """
        for reason in self.unusable().values():
            raise AnomalySweepError(reason)
        return self.network.shapes(self.levels, self.shard.side)

    def batches(self, split: str, names: Collection[str] | None = None) -> Iterator[MapBatch]:
        """The maps of ``train`` or ``test``, in the order of the records; float32, contiguous, on the device.

        Parameters
        ----------
        split : str
        names : collection of str, optional
            Of the images that are wanted; all of the split's when None.

        Raises
        ------
        DatasetError
            If an image cannot be read.
        AnomalySweepError
            If the device has not enough memory for one image.
        """
        category = self.shard.category
        records = category.train if split == "train" else category.test
        wanted = {record.relative for record in records} if names is None else set(names)
        if self.cache is None:
            yield from self._computed([one for one in records if one.relative in wanted], self.levels)
            return
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            if any(record.relative in wanted for record in chunk):
                yield self._chunk(split, start, chunk, self.cache).only(wanted)

    def _chunk(self, split: str, start: int, records: Sequence[ImageRecord], cache: FeatureCache) -> MapBatch:
        span = {"maps": [start, start + len(records)]}
        descriptions = {level: self.shard.describe(split, level) | span for level in self.levels}
        named = tuple(record.relative for record in records)
        batch = MapBatch(self._cached(descriptions, self.levels, cache), names=named)
        if len(batch.maps) < len(self.levels):
            with cache.lock(self.shard.describe(split) | span):
                batch.maps |= self._cached(descriptions, self._lacking(batch), cache)
                lacking = self._lacking(batch)
                if lacking:
                    parts = list(self._computed(records, lacking))
                    batch.seconds = sum(part.seconds for part in parts)
                    for level in lacking:
                        batch.maps[level] = torch.cat([part.maps[level] for part in parts])
                        cache.put(descriptions[level], {"maps": batch.maps[level].cpu().numpy()})
                    return batch
        self.on_image(len(records))
        return batch

    def _lacking(self, batch: MapBatch) -> list[str]:
        return [level for level in self.levels if level not in batch.maps]

    def _cached(
        self, descriptions: dict[str, dict[str, Any]], levels: Sequence[str], cache: FeatureCache
    ) -> dict[str, Tensor]:
        found = {}
        for level in levels:
            arrays = cache.find(descriptions[level])
            if arrays is not None:
                found[level] = torch.from_numpy(arrays["maps"]).to(self.network.device)
        return found

    def _computed(self, records: Sequence[ImageRecord], levels: Sequence[str]) -> Iterator[MapBatch]:
        runner = self._runner
        place = 0
        for batch in runner.run(
            records, lambda images, count: read_maps(runner.network, images, levels, count)
        ):
            batch.names = tuple(record.relative for record in records[place : place + len(batch)])
            place += len(batch)
            yield batch

    @cached_property
    def _runner(self) -> ImageRunner:
        shard = self.shard
        return ImageRunner(
            self.network, shard.input_size, shard.center_crop, self.batch_size, self.decoders, self.on_image
        )


def read_maps(network: Network, batch: Tensor, levels: Sequence[str], count: int | None = None) -> MapBatch:
    """Maps of the first ``count`` images (None: all) of a network's input, from one pass."""
    maps: dict[str, Tensor] = {}

    def keep(level: str, m: Tensor) -> None:
        # Copied at once: what comes next in the network may overwrite its memory. Filled from outside, since
        # inference tensors could not be changed later.
        kept = m[:count]
        with torch.inference_mode(False):
            copy = torch.empty(kept.shape, dtype=m.dtype, device=m.device)
        maps[level] = copy.copy_(kept)

    synchronise(network.device)
    begun = time.perf_counter()
    network.read(batch, levels, keep)
    synchronise(network.device)
    return MapBatch(maps, time.perf_counter() - begun)


def synchronise(device: torch.device) -> None:
    """Wait until a CUDA device has done what it was told, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
