"""What a trial is, and how the trials of a shard are computed: one package a task."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomaly_sweep.checks import one_of
from anomaly_sweep.config import NODES, parse_node
from anomaly_sweep.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from anomaly_sweep.config import AnyConfiguration, RuntimeConf, TrackingConf
    from anomaly_sweep.tasks.base import Task


def task_names() -> list[str]:
    """The tasks there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def task_of(configuration: AnyConfiguration) -> Task[Any, Any]:
    """The task of a configuration."""
    return task_named(configuration.task_name)


@cache
def task_named(name: str) -> Task[Any, Any]:
    """The task of that name (``task=NAME``): ``TASK`` of ``anomaly_sweep.tasks.NAME.task``.

    Raises
    ------
    ConfigError
        If there is none.
    """
    one_of("task.name", name, task_names())
    task: Task[Any, Any] = import_module(f"{__name__}.{name}.task").TASK
    return task


def configuration_of(nodes: Mapping[str, Any]) -> AnyConfiguration:
    """Put parsed nodes together and check what concerns several of them.

    Raises
    ------
    ConfigError
        If nodes do not fit each other.
    """
    configuration: AnyConfiguration = task_named(nodes["task"].name).configuration(nodes)
    crop = configuration.dataset.center_crop
    if crop is not None and crop > configuration.input_size:
        raise ConfigError(
            f"dataset.center_crop={crop} is larger than the image, which is resized to "
            f"{configuration.input_size} pixels (dataset.input_size)"
        )
    return configuration


def parse(cfg: DictConfig) -> tuple[AnyConfiguration, TrackingConf, RuntimeConf]:
    """A composed config as checked objects."""
    nodes = {name: parse_node(name, cfg[name]) for name in NODES}
    return configuration_of(nodes), nodes["tracking"], nodes["runtime"]
