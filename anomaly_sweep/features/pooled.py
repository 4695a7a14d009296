"""Pooled features of a shard, from the cache or made, as matrices of rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import AnomalySweepError, DatasetError
from anomaly_sweep.features.augmentation import passes_of
from anomaly_sweep.features.backbone.loaded import network_of
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.shard import ImageRange, Shard

if TYPE_CHECKING:
    from anomaly_sweep.features.extract import ImageRunner, Pooled


@dataclass(frozen=True)
class ShardFeatures:
    """Features of a shard: ``train[level][pool]`` and ``test[level][pool]``, float32 (n, c).

    ``unusable`` says why a level that was asked for is not among them.
    """

    train: dict[str, Pooled]
    test: dict[str, Pooled]
    unusable: dict[str, str]

    def of(self, shard: Shard) -> ShardFeatures:
        """Those of a subset of the shard that they are of, in the order of its images."""
        if shard.source is None:
            return self
        category, source = shard.category, shard.source.category
        in_train = {record.relative: i for i, record in enumerate(source.train)}
        in_test = {record.relative: i for i, record in enumerate(source.test)}
        passes = passes_of(shard.augmentation)
        moved = [in_test[record.relative] for record in category.train if record.label]
        kept = [in_train[record.relative] for record in category.train if not record.label]
        rows = [passes * i + version for i in kept for version in range(passes)]
        tested = [in_test[record.relative] for record in category.test]
        train: dict[str, Pooled] = {}
        for level, pools in self.train.items():
            test = self.test[level]
            train[level] = {name: np.concatenate([test[name][moved], p[rows]]) for name, p in pools.items()}
        test_rows = {
            level: {name: p[tested] for name, p in pools.items()} for level, pools in self.test.items()
        }
        return ShardFeatures(train, test_rows, self.unusable)

    def matrices(
        self, levels: Sequence[str], pools: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Train and test features, level by level and pool by pool joined by concatenation, float64.

        Raises
        ------
        AnomalySweepError
            If a level is unusable, or its features are not all finite.
        """
        for level in levels:
            if level in self.unusable:
                raise AnomalySweepError(self.unusable[level])
        joined = []
        for split, name in ((self.train, "training"), (self.test, "test")):
            for level in levels:
                for lacking in (p for p in pools if p not in split[level]):
                    raise AnomalySweepError(
                        f"{level} has no {lacking}: its node gives no class token; choose another pooling"
                    )
                _check_finite(level, [split[level][p] for p in pools], name)
            parts = [split[level][p] for level in levels for p in pools]
            joined.append(np.concatenate(parts, axis=1, dtype=np.float64))
        return joined[0], joined[1]


def _check_finite(level: str, parts: Sequence[NDArray[np.float32]], split: str) -> None:
    bad = np.flatnonzero(~np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in parts]))
    if len(bad):
        raise AnomalySweepError(
            f"the features of {len(bad)} of {len(parts[0])} {split} images at {level} hold NaN or infinity "
            f"(first: row {bad[0]}); check the weights and the normalisation"
        )


def features_of(
    shard: Shard,
    levels: Sequence[str],
    cache: FeatureCache,
    *,
    device: str = "auto",
    batch_size: int = 16,
    decoders: int = 1,
    on_image: Callable[[int], None] = lambda _count: None,
) -> ShardFeatures:
    """Features of a shard at some levels, from the cache where they are there.

    Raises
    ------
    AnomalySweepError
        If an image cannot be read or no network can be made.
    """
    from anomaly_sweep.features.extract import ImageRunner  # torch

    unusable: dict[str, str] = {}
    splits: dict[str, dict[str, Pooled]] = {}
    for split in ("train", "test"):
        found = _cached(shard, split, levels, cache)
        if len(found) < len(levels):
            with cache.lock(shard.describe(split)):
                found |= _cached(shard, split, [lv for lv in levels if lv not in found], cache)
                found |= _joined(shard, split, [lv for lv in levels if lv not in found], cache)
                lacking = [level for level in levels if level not in found and level not in unusable]
                if lacking:
                    network = network_of(shard.backbone, device, shard.weights)
                    unusable |= network.unusable(lacking, shard.side)
                    runner = ImageRunner(
                        network, shard.input_size, shard.center_crop, batch_size, decoders, on_image
                    )
                    usable = [lv for lv in lacking if lv not in unusable]
                    extracted = _extract(runner, shard, split, usable, shard.records(split))
                    for level, pools in extracted.items():
                        cache.put(shard.describe(split, level), pools)
                    found |= extracted
        splits[split] = found
    return ShardFeatures(splits["train"], splits["test"], unusable)


def make_block(
    shard: Shard,
    levels: Sequence[str],
    block: ImageRange,
    cache: FeatureCache,
    *,
    device: str = "auto",
    batch_size: int = 16,
    decoders: int = 1,
    on_image: Callable[[int], None] = lambda _count: None,
) -> None:
    """Put features of some of a shard's images into the cache, where :func:`features_of` finds them.

    Levels that are there for all images, or cannot be had, are left out.

    Raises
    ------
    AnomalySweepError
        If an image cannot be read or no network can be made.
    """
    from anomaly_sweep.features.extract import ImageRunner  # torch

    with cache.lock(_block_of(shard, block, None)):
        lacking = [
            level
            for level in levels
            if not cache.has(shard.describe(block.split, level))
            and not cache.has(_block_of(shard, block, level))
        ]
        if lacking:
            network = network_of(shard.backbone, device, shard.weights)
            unusable = network.unusable(lacking, shard.side)
            runner = ImageRunner(network, shard.input_size, shard.center_crop, batch_size, decoders, on_image)
            records = shard.records(block.split)[block.start : block.stop]
            usable = [level for level in lacking if level not in unusable]
            for level, pools in _extract(runner, shard, block.split, usable, records).items():
                cache.put(_block_of(shard, block, level), pools)


def _block_of(shard: Shard, block: ImageRange, level: str | None) -> dict[str, Any]:
    return shard.describe(block.split, level) | {"images": [block.start, block.stop]}


def blocks_of(shard: Shard, split: str) -> list[ImageRange]:
    """The blocks of a split's images."""
    size = len(shard.records(split))
    return [
        ImageRange(split, start, min(start + ImageRange.BLOCK, size))
        for start in range(0, size, ImageRange.BLOCK)
    ]


def _joined(shard: Shard, split: str, levels: Sequence[str], cache: FeatureCache) -> dict[str, Pooled]:
    """Levels whose blocks are all in the cache, put together: into the cache, in the blocks' place."""
    found: dict[str, Pooled] = {}
    for level in levels:
        described = [_block_of(shard, block, level) for block in blocks_of(shard, split)]
        if not described or not all(cache.has(one) for one in described):
            continue
        parts = [cache.find(one) for one in described]
        whole = [part for part in parts if part is not None]
        if len(whole) < len(parts):
            continue
        found[level] = {name: np.concatenate([part[name] for part in whole]) for name in whole[0]}
        cache.put(shard.describe(split, level), found[level])
        cache.discard(described)
    return found


def _cached(shard: Shard, split: str, levels: Sequence[str], cache: FeatureCache) -> dict[str, Pooled]:
    arrays = {level: cache.find(shard.describe(split, level)) for level in levels}
    return {level: pools for level, pools in arrays.items() if pools is not None}


def _extract(
    runner: ImageRunner, shard: Shard, split: str, levels: Sequence[str], records: Sequence[ImageRecord]
) -> dict[str, Pooled]:
    from anomaly_sweep.features.extract import extract

    if not levels:
        return {}
    if not records:
        raise DatasetError(
            f"{shard.category.name}: there are no {split} images; add some or leave the category out"
        )
    augmentation = shard.augmentation if split == "train" else None
    extracted = extract(runner, records, levels, augmentation=augmentation, category=shard.category.name)
    expected = len(records) * (passes_of(shard.augmentation) if split == "train" else 1)
    for level, pools in extracted.items():
        for name, rows in pools.items():
            if len(rows) != expected:
                raise AnomalySweepError(
                    f"{shard.category.name}: {level} gave {len(rows)} rows of {name} features for {expected} "
                    f"{split} images; its node ({shard.backbone.levels[level]}) must give one map an image"
                )
    return extracted
