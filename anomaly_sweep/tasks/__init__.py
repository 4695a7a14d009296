"""What a trial is, and how the trials of a shard are computed: one package a task."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_sweep.config import AnyConfiguration
    from anomaly_sweep.tasks.base import Task


def task_of(configuration: AnyConfiguration) -> Task[Any, Any]:
    """The task of a configuration."""
    return task_named(configuration.task_name)


@cache
def task_named(name: str) -> Task[Any, Any]:
    """The task of that name (``task=NAME``): ``TASK`` of ``anomaly_sweep.tasks.NAME.task``."""
    task: Task[Any, Any] = import_module(f"anomaly_sweep.tasks.{name}.task").TASK
    return task
