"""A configuration: what one Hydra job, and one MLflow run, is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from anomaly_sweep.config.groups import (
    DETECTION,
    LOCALIZATION,
    AugmentationConf,
    BackboneConf,
    DatasetConf,
    LayerConf,
    PcaModeConf,
    PoolingConf,
    TaskConf,
)
from anomaly_sweep.config.labels import label_of


@dataclass(frozen=True)
class AnyConfiguration(ABC):
    """What the configurations of every task have: a data set, a backbone, an augmentation, and labels."""

    #: As in ``task=...``.
    task_name: ClassVar[str]

    dataset: DatasetConf
    backbone: BackboneConf

    if TYPE_CHECKING:  # a field of each, where its other fields have their order

        @property
        def augmentation(self) -> AugmentationConf:
            """Of the training images."""

    @property
    def task_label(self) -> str:
        """The task as it is recorded: its name, with the settings that differ from the shipped ones."""
        return self.task_name

    @property
    def dataset_label(self) -> str:
        """See :func:`dataset_label`."""
        return dataset_label(self.dataset)

    @property
    def input_size(self) -> int:
        """Side of the square that images are resized to, in pixels."""
        return self.dataset.input_size or self.backbone.input_size

    @property
    @abstractmethod
    def labels(self) -> dict[str, str]:
        """Config group -> the choice as it is recorded."""


@dataclass(frozen=True)
class Configuration(AnyConfiguration):
    """One choice of (backbone, layer, pooling, augmentation, pca_mode, estimator) on a data set."""

    task_name: ClassVar[str] = DETECTION

    layer: LayerConf
    pooling: PoolingConf
    augmentation: AugmentationConf
    pca_mode: PcaModeConf
    estimator: Mapping[str, Any]

    @cached_property
    def labels(self) -> dict[str, str]:
        """The six choices as they are recorded: an option's name, with what differs from that option.

        ``mvg``, ``knn1[aggregation=kth]``, ``npca12.5``. Weights and input size are recorded apart.
        """
        return {
            "backbone": backbone_label(self.backbone),
            "layer": label_of("layer", self.layer),
            "pooling": label_of("pooling", self.pooling),
            "augmentation": label_of("augmentation", self.augmentation),
            "pca_mode": self.pca_mode.label,
            "estimator": label_of("estimator", self.estimator),
        }


_NONE = AugmentationConf(name="none")


@dataclass(frozen=True)
class LocalizationConfiguration(AnyConfiguration):
    """One choice of (backbone, localizer) on a data set, with how maps are made and measured."""

    task_name: ClassVar[str] = LOCALIZATION

    task: TaskConf
    localizer: Mapping[str, Any]
    augmentation: AugmentationConf = field(default_factory=lambda: _NONE)

    @property
    def task_label(self) -> str:
        """``localization``, with the settings that differ from the shipped ones and change a number."""
        return label_of("task", self.task, apart=("figure", "save_maps", "cache_maps"))

    @cached_property
    def labels(self) -> dict[str, str]:
        """The two choices as they are recorded, as :attr:`Configuration.labels`."""
        return {
            "backbone": backbone_label(self.backbone),
            "localizer": label_of("localizer", self.localizer),
        }


def dataset_label(dataset: DatasetConf) -> str:
    """A data set's name; for a generated one with what differs: ``synthetic[generate.seed=1]``.

    Its root, categories, input size and center crop are recorded apart.
    """
    if dataset.generate is None:
        return dataset.name
    return label_of("dataset", dataset, apart=("root", "categories", "input_size", "center_crop"))


def backbone_label(backbone: BackboneConf) -> str:
    """A backbone's label; weights and input size are recorded apart."""
    return label_of("backbone", backbone, apart=("weights", "weights_seed", "input_size"))
