"""Shards: what one pass of a category's images through one network yields, from the cache or made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_sweep.config import AugmentationConf, BackboneConf
from anomaly_sweep.datasets import Category, FileIndex, contents_digest, manifest_digest
from anomaly_sweep.errors import AnomalySweepError, DatasetError
from anomaly_sweep.features.augmentation import describe, passes_of
from anomaly_sweep.features.backbone.loaded import check_network, network_of
from anomaly_sweep.features.backbone.weights import weights_identity
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.images import RESIZE
from anomaly_sweep.features.matrices import Level, ShardFeatures

if TYPE_CHECKING:
    from anomaly_sweep.features.backbone.network import Network

__all__ = ["Shard", "ShardFeatures", "cache_at", "check_network", "features_of"]

log = logging.getLogger(__name__)

#: Raised when extraction, or the reading of images or masks, changes so that numbers do.
EXTRACTOR_VERSION = 2


@dataclass(frozen=True)
class Shard:
    """(data set, category, backbone + weights, input size, augmentation).

    ``train_manifest`` and ``test_manifest`` are the images' content digests, ``weights`` the parameters'
    identity: both belong to what decides the features. ``train_contents`` identifies the training images
    without their names.
    """

    category: Category
    backbone: BackboneConf
    input_size: int
    augmentation: AugmentationConf
    train_manifest: str
    test_manifest: str
    weights: dict[str, str]
    train_contents: str
    center_crop: int | None = None

    @classmethod
    def of(
        cls,
        category: Category,
        backbone: BackboneConf,
        input_size: int,
        augmentation: AugmentationConf,
        index: FileIndex,
        center_crop: int | None = None,
    ) -> Shard:
        """A shard with its identities looked up.

        Raises
        ------
        DatasetError, WeightsError
            If an image or the weight file cannot be read.
        """
        train, test = (manifest_digest(records, index) for records in (category.train, category.test))
        weights, contents = weights_identity(backbone), contents_digest(category.train, index)
        return cls(category, backbone, input_size, augmentation, train, test, weights, contents, center_crop)

    @property
    def side(self) -> int:
        """Side in pixels of the square that the network sees."""
        return self.center_crop or self.input_size

    @property
    def n_train(self) -> int:
        """Rows of the training features."""
        return len(self.category.train) * passes_of(self.augmentation)

    def about(self, split: str, level: str | None = None) -> dict[str, Any]:
        """What decides the features of a split at a level (all of them: None).

        Test features do not depend on the augmentation, so augmentations share them.
        """
        described: dict[str, Any] = {
            "extractor": EXTRACTOR_VERSION,
            "dataset": self.category.dataset,
            "category": self.category.name,
            "split": split,
            "images": self.train_manifest if split == "train" else self.test_manifest,
            "backbone": self.backbone.name,
            "model": self.backbone.model,
            "kwargs": dict(self.backbone.kwargs),
            **self.weights,
            "input_size": self.input_size,
            "resize": RESIZE,
            "mean": list(self.backbone.mean),
            "std": list(self.backbone.std),
        }
        if self.center_crop is not None:
            described["center_crop"] = self.center_crop
        if split == "train" and self.augmentation.kind != "none":
            described["augmentation"] = describe(self.augmentation, self.category.name)
        if level is not None:
            described |= {"level": level, "node": self.backbone.levels[level]}
        return described

    def training_content(self, level: str) -> dict[str, Any]:
        """What decides the training features at a level, whatever anything is called."""
        described = self.about("train", level)
        names = ("extractor", "dataset", "category", "images", "backbone", "level")
        return {key: value for key, value in described.items() if key not in names} | {
            "contents": self.train_contents
        }

    def missing(self, cache: FeatureCache, levels: Sequence[str]) -> list[str]:
        """Levels whose features are not in the cache for both splits."""
        return [
            level
            for level in levels
            if not all(cache.has(self.about(split, level)) for split in ("train", "test"))
        ]


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
    unusable: dict[str, str] = {}
    splits: dict[str, dict[str, Level]] = {}
    for split in ("train", "test"):
        found = _cached(shard, split, levels, cache)
        if len(found) < len(levels):
            with cache.lock(shard.about(split)):
                found |= _cached(shard, split, [lv for lv in levels if lv not in found], cache)
                lacking = [level for level in levels if level not in found and level not in unusable]
                if lacking:
                    network = network_of(shard.backbone, device, shard.weights)
                    unusable |= network.unusable(lacking, shard.side)
                    made = _extract(
                        network, shard, split, [lv for lv in lacking if lv not in unusable],
                        batch_size=batch_size, decoders=decoders, on_image=on_image,
                    )  # fmt: skip
                    for level, pools in made.items():
                        cache.put(shard.about(split, level), pools)
                    found |= made
        splits[split] = found
    return ShardFeatures(splits["train"], splits["test"], unusable)


def _cached(shard: Shard, split: str, levels: Sequence[str], cache: FeatureCache) -> dict[str, Level]:
    found = {}
    for level in levels:
        arrays, damage = cache.get(shard.about(split, level))
        if damage:
            log.warning("cache entry rebuilt: %s", damage)
        if arrays is not None:
            found[level] = arrays
    return found


def _extract(
    network: Network, shard: Shard, split: str, levels: Sequence[str], **how: Any
) -> dict[str, Level]:
    from anomaly_sweep.features.extract import extract

    if not levels:
        return {}
    records = shard.category.train if split == "train" else shard.category.test
    if not records:
        raise DatasetError(
            f"{shard.category.name}: there are no {split} images; add some or leave the category out"
        )
    made = extract(
        network, records, levels, input_size=shard.input_size, center_crop=shard.center_crop,
        category=shard.category.name,
        augmentation=shard.augmentation if split == "train" else None, **how,
    )  # fmt: skip
    expected = shard.n_train if split == "train" else len(records)
    for level, pools in made.items():
        for name, rows in pools.items():
            if len(rows) != expected:
                raise AnomalySweepError(
                    f"{shard.category.name}: {level} gave {len(rows)} rows of {name} features for {expected} "
                    f"{split} images; its node ({shard.backbone.levels[level]}) must give one map an image"
                )
    return made


def cache_at(folder: str) -> FeatureCache:
    """The feature cache in a cache folder."""
    return FeatureCache(Path(folder))
