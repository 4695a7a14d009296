"""What a trial is, and how the trials of a shard are computed: one package a task."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomaly_sweep import config
from anomaly_sweep.checks import one_of
from anomaly_sweep.config import NODES, TASK, CustomTaskConf
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.features.backbone.by_name import register_resolver
from anomaly_sweep.instantiate import target_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from anomaly_sweep.config import AnyConfiguration, RuntimeConf, TaskConf, TrackingConf
    from anomaly_sweep.tasks.base import Task

# Here, where configs are read: in the workers of any launcher too.
register_resolver()


def task_names() -> list[str]:
    """The tasks of the project, by name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def task_of(configuration: AnyConfiguration) -> Task[Any, Any]:
    """The task of a configuration."""
    return task_at(configuration.task_target)


@cache
def task_at(target: str) -> Task[Any, Any]:
    """The task of a name (see :func:`task_named`), or of the path of a class.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from anomaly_sweep.tasks.base import Task

    if "." not in target:
        return task_named(target)
    found = target_of(TASK, {"_target_": target})
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task._target_={target} is no task: derive it from anomaly_sweep.tasks.base.Task")
    return found()


def task_with(settings: TaskConf) -> Task[Any, Any]:
    """The task that settings are of."""
    return task_at(settings._target_ if isinstance(settings, CustomTaskConf) else settings.name)


def parse_node(name: str, node: Any) -> Any:
    """A node of a composed config as its checked class; a task's settings as the class that the task has.

    Raises
    ------
    ConfigError
        As :func:`anomaly_sweep.config.parse_node`, or if there is no such task.
    """
    if name != TASK:
        return config.parse_node(name, node)
    own = "_target_" in node
    task = task_at(str(node["_target_" if own else "name"]))
    if own and not issubclass(task.conf, CustomTaskConf):
        raise ConfigError(f"task._target_={node['_target_']}: its conf has to derive from CustomTaskConf")
    return config.parse_node(name, node, task.conf)


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
    configuration: AnyConfiguration = task_with(nodes[TASK]).configuration(nodes)
    crop = configuration.dataset.center_crop
    if crop is not None and crop > configuration.input_size:
        raise ConfigError(
            f"dataset.center_crop={crop} is larger than the image, which is resized to "
            f"{configuration.input_size} pixels (dataset.input_size)"
        )
    dataset = configuration.dataset
    if dataset.contamination and configuration.augmentation.kind != "none":
        raise ConfigError(
            f"dataset.contamination={dataset.contamination:g} with augmentation="
            f"{configuration.augmentation.name} is not defined: what is drawn for good images need not suit "
            "anomalous ones; use augmentation=none, or dataset.contamination=0"
        )
    return configuration


def parse(cfg: DictConfig) -> tuple[AnyConfiguration, TrackingConf, RuntimeConf]:
    """A composed config as checked objects."""
    nodes = {name: parse_node(name, cfg[name]) for name in NODES}
    return configuration_of(nodes), nodes["tracking"], nodes["runtime"]
