"""A configuration: what one Hydra job, and one MLflow run, is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from anomaly_sweep.config.groups import (
    DETECTION,
    LOCALIZATION,
    NO_WEIGHTS,
    SUBSET,
    AugmentationConf,
    BackboneConf,
    CustomTaskConf,
    DatasetConf,
    LayerConf,
    LocalizationConf,
    PcaModeConf,
    PoolingConf,
)
from anomaly_sweep.config.labels import label_of, text_of


@dataclass(frozen=True)
class AnyConfiguration(ABC):
    """What the configurations of every task have: a data set, a backbone, an augmentation, and labels."""

    dataset: DatasetConf
    backbone: BackboneConf

    if TYPE_CHECKING:  # a field of each, where its other fields have their order

        @property
        def augmentation(self) -> AugmentationConf:
            """Of the training images."""

    @property
    @abstractmethod
    def task_name(self) -> str:
        """As in ``task=...``."""

    @property
    def task_target(self) -> str:
        """What the task is found by: the name of one of ``anomaly_sweep.tasks``, or the path of a class."""
        return self.task_name

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

    layer: LayerConf
    pooling: PoolingConf
    augmentation: AugmentationConf
    pca_mode: PcaModeConf
    estimator: Mapping[str, Any]

    @property
    def task_name(self) -> str:
        """``detection``."""
        return DETECTION

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

    task: LocalizationConf
    localizer: Mapping[str, Any]
    augmentation: AugmentationConf = field(default_factory=lambda: _NONE)

    @property
    def task_name(self) -> str:
        """``localization``."""
        return LOCALIZATION

    @property
    def task_label(self) -> str:
        """``localization``, with the settings that differ from the shipped ones and change a number."""
        return label_of("task", self.task, exclude=("figure", "save_maps", "cache_maps"))

    @cached_property
    def labels(self) -> dict[str, str]:
        """The two choices as they are recorded, as :attr:`Configuration.labels`."""
        return {
            "backbone": backbone_label(self.backbone),
            "localizer": label_of("localizer", self.localizer),
        }


@dataclass(frozen=True)
class CustomConfiguration(AnyConfiguration):
    """One choice from each group that a task from elsewhere names, with the task's settings.

    ``choices`` are the groups' nodes; ``backbone`` is :data:`NO_BACKBONE` where the task names none.
    """

    task: CustomTaskConf
    choices: Mapping[str, Any]
    augmentation: AugmentationConf = field(default_factory=lambda: _NONE)

    @property
    def task_name(self) -> str:
        """As its config says."""
        return self.task.name

    @property
    def task_target(self) -> str:
        """The path of its class."""
        return self.task._target_

    @cached_property
    def labels(self) -> dict[str, str]:
        """The choices as they are recorded, and the task's settings: a column of the long table each."""
        groups = {group: group_label(group, node) for group, node in self.choices.items()}
        return groups | {key: text_of(value) for key, value in self.settings.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """The task's own settings."""
        return {key: value for key, value in vars(self.task).items() if key not in ("name", "_target_")}


#: Of tasks that read no network's features.
NO_BACKBONE = BackboneConf(name=NO_WEIGHTS, model=NO_WEIGHTS, levels={NO_WEIGHTS: ""}, weights=NO_WEIGHTS)


def group_label(group: str, node: Any) -> str:
    """The label of a choice of any group."""
    if isinstance(node, BackboneConf):
        return backbone_label(node)
    return node.label if isinstance(node, PcaModeConf) else label_of(group, node)


def dataset_label(dataset: DatasetConf) -> str:
    """A data set's name; for a generated one with what differs: ``synthetic[generate.seed=1]``.

    Its root, categories, input size, center crop and choice of training images are recorded apart.
    """
    if dataset.generate is None:
        return dataset.name
    return label_of("dataset", dataset, exclude=("root", "categories", "input_size", "center_crop", *SUBSET))


def backbone_label(backbone: BackboneConf) -> str:
    """A backbone's label; weights and input size are recorded apart."""
    return label_of("backbone", backbone, exclude=("weights", "weights_seed", "input_size"))
