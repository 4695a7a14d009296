"""What can be wrong with configurations before any data is looked at."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anomaly_sweep.config import (
    RANDOM,
    AnyConfiguration,
    RuntimeConf,
)
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.tasks import task_at, task_named, task_names, task_of

#: Settings that change no number, or that rows tell apart.
_NOT_RESULTS = (
    *(f"task.{key}" for key in ("figure", "save_maps", "cache_maps")),
    *("dataset.categories", "dataset.input_size", "backbone.input_size", "backbone.weights_seed"),
    *(f"{group}.name" for group in ("layer", "pooling", "augmentation", "pca_mode", "dataset", "task")),
)


def check_settings(configurations: Iterable[AnyConfiguration]) -> None:
    """Build each distinct estimator and localizer once and throw it away.

    Raises
    ------
    ConfigError
        For a wrong key or value of one of them, or a level that the backbone lacks.
    """
    by_task: dict[str, list[AnyConfiguration]] = defaultdict(list)
    for configuration in configurations:
        by_task[configuration.task_target].append(configuration)
    for target, same in by_task.items():
        task_at(target).check(same)


def check_told_apart(configurations: Iterable[AnyConfiguration]) -> None:
    """Raise ConfigError if two configurations that differ would be recorded under the same labels."""
    seen: dict[tuple[str, ...], AnyConfiguration] = {}
    for configuration in configurations:
        dataset, backbone = configuration.dataset, configuration.backbone
        shown = (
            *configuration.labels.values(),
            configuration.task_label,
            configuration.dataset_label,
            *map(str, (Path(dataset.root), configuration.input_size, dataset.center_crop)),
            *map(str, dataset.subset.values()),
            *map(str, (backbone.weights, backbone.weights_seed if backbone.weights == RANDOM else None)),
        )
        other = seen.setdefault(shown, configuration)
        if other is configuration or _settings(other) == _settings(configuration):
            continue
        keys = [k for k, v in _settings(configuration).items() if _settings(other).get(k, ...) != v]
        keys += [k for k in _settings(other) if k not in _settings(configuration)]
        node = keys[0].split(".")[0]
        name = configuration.labels.get(node, shown[0])
        raise ConfigError(
            f"jobs that differ in {', '.join(keys)} would all be recorded as {name}: give each an option of "
            f"its own (a file in {node}/ of your --config-dir), or a name (as in {node}.name=NAME)"
        )


def _settings(configuration: AnyConfiguration) -> dict[str, Any]:
    """Dotted key -> value, of every setting that labels are to tell apart."""
    flat: dict[str, Any] = {}

    def put(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for inner, one in value.items():
                put(f"{key}.{inner}" if key else str(inner), one)
        elif key not in _NOT_RESULTS:
            flat[key] = value

    put("", dataclasses.asdict(configuration))
    flat["dataset.root"] = str(Path(configuration.dataset.root))
    return flat


def check_objectives(configurations: Iterable[AnyConfiguration], runtime: RuntimeConf) -> None:
    """Raise ConfigError if ``runtime.objectives`` asks for what a configuration does not give."""
    for task in {task_of(configuration) for configuration in configurations}:
        for name in runtime.objectives:
            if name in task.lacks:
                having = [other for other in task_names() if name not in task_named(other).lacks]
                raise ConfigError(f"runtime.objectives={name} needs task={' or '.join(having)}")
