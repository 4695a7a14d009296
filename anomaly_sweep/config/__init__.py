"""Structured configs of the groups, and their checks.

Hydra checks keys and types while it composes (through :func:`register`); ranges and choices are checked
here when a composed config becomes a configuration, before any work starts.
"""

from anomaly_sweep.checks import in_range, one_of, whole
from anomaly_sweep.config.anchor import anchored_configuration, anchored_runtime, anchored_tracking
from anomaly_sweep.config.configuration import (
    NO_BACKBONE,
    AnyConfiguration,
    Configuration,
    CustomConfiguration,
    LocalizationConfiguration,
)
from anomaly_sweep.config.executor import ExecutorConf, RayConf, SlurmConf
from anomaly_sweep.config.groups import (
    ALL_IMAGES,
    ALL_LEVELS,
    CLASS_TOKEN,
    DETECTION,
    LOCALIZATION,
    NO_WEIGHTS,
    PACKAGED,
    POOLS,
    PRETRAINED,
    RANDOM,
    SUBSET,
    AugmentationConf,
    BackboneConf,
    CustomTaskConf,
    DatasetConf,
    GenerateConf,
    LayerConf,
    LocalizationConf,
    PcaModeConf,
    PoolingConf,
    TaskConf,
)
from anomaly_sweep.config.parse import (
    NODE_TYPES,
    NODES,
    OPEN_NODES,
    TASK,
    RootConf,
    parse_node,
    register,
)
from anomaly_sweep.config.quoting import for_hydra
from anomaly_sweep.config.runtime import OBJECTIVES, RuntimeConf, TrackingConf

__all__ = [
    "ALL_IMAGES",
    "ALL_LEVELS",
    "CLASS_TOKEN",
    "DETECTION",
    "LOCALIZATION",
    "NODES",
    "NODE_TYPES",
    "NO_BACKBONE",
    "NO_WEIGHTS",
    "OBJECTIVES",
    "OPEN_NODES",
    "PACKAGED",
    "POOLS",
    "PRETRAINED",
    "RANDOM",
    "SUBSET",
    "TASK",
    "AnyConfiguration",
    "AugmentationConf",
    "BackboneConf",
    "Configuration",
    "CustomConfiguration",
    "CustomTaskConf",
    "DatasetConf",
    "ExecutorConf",
    "GenerateConf",
    "LayerConf",
    "LocalizationConf",
    "LocalizationConfiguration",
    "PcaModeConf",
    "PoolingConf",
    "RayConf",
    "RootConf",
    "RuntimeConf",
    "SlurmConf",
    "TaskConf",
    "TrackingConf",
    "anchored_configuration",
    "anchored_runtime",
    "anchored_tracking",
    "for_hydra",
    "in_range",
    "one_of",
    "parse_node",
    "register",
    "whole",
]
