"""Shards: what one pass of a category's images through one network depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from anomaly_sweep.config import AugmentationConf, BackboneConf
from anomaly_sweep.datasets import Category, FileIndex, ImageRecord, contents_digest, manifest_digest
from anomaly_sweep.features.augmentation import describe, passes_of
from anomaly_sweep.features.backbone.weights import weights_identity
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.images import RESIZE

#: Raised when extraction, or the reading of images or masks, changes so that numbers do.
EXTRACTOR_VERSION = 2


@dataclass(frozen=True)
class ImageRange:
    """Images ``start`` to ``stop`` of a split, with the bounds of a block of the cache."""

    #: Images of a block: a multiple of a CPU's forward pass, so that each is in the same pass as ever.
    BLOCK: ClassVar[int] = 64

    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """(data set, category, backbone + weights, input size, augmentation).

    ``train_manifest`` and ``test_manifest`` are the images' content digests, ``weights`` the parameters'
    identity: both belong to what decides the features. ``train_contents`` identifies the training images
    without their names. ``source`` is the shard of all of the category's images where this one's are some of
    them (see `anomaly_sweep.datasets.subsets`): features are made and kept of the source's.
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
    source: Shard | None = None

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

    def subset(self, category: Category, index: FileIndex) -> Shard:
        """The shard of some of its category's images.

        Raises
        ------
        DatasetError
            If an image cannot be read.
        """
        train, test = (manifest_digest(records, index) for records in (category.train, category.test))
        contents = contents_digest(category.train, index)
        return replace(
            self,
            category=category,
            train_manifest=train,
            test_manifest=test,
            train_contents=contents,
            source=self,
        )

    @property
    def side(self) -> int:
        """Side in pixels of the square that the network sees."""
        return self.center_crop or self.input_size

    def records(self, split: str) -> tuple[ImageRecord, ...]:
        """The images of ``train`` or ``test``."""
        return self.category.train if split == "train" else self.category.test

    @property
    def n_train(self) -> int:
        """Rows of the training features."""
        return len(self.category.train) * passes_of(self.augmentation)

    def describe(self, split: str, level: str | None = None) -> dict[str, Any]:
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

    def training_content(self, level: str | None) -> dict[str, Any]:
        """What decides the training features at a level (None: all), whatever anything is called."""
        described = self.describe("train", level)
        names = ("extractor", "dataset", "category", "images", "backbone", "level")
        return {key: value for key, value in described.items() if key not in names} | {
            "contents": self.train_contents
        }

    def missing(self, cache: FeatureCache, levels: Sequence[str]) -> list[str]:
        """Levels whose features are not in the cache for both splits."""
        return [
            level
            for level in levels
            if not all(cache.has(self.describe(split, level)) for split in ("train", "test"))
        ]
