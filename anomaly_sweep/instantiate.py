"""Objects from open config nodes: a ``_target_`` and its arguments."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from anomaly_sweep.errors import AnomalySweepError, ConfigError


def target_of(group: str, config: Mapping[str, Any]) -> Any:
    """The class (or function) that ``_target_`` names.

    Raises
    ------
    ConfigError
        If it cannot be imported.
    """
    if not config.get("_target_"):
        raise ConfigError(
            f"{group} {config.get('name', '')}: there is no _target_; set {group}._target_ to the class, "
            "such as sklearn.ensemble.IsolationForest"
        )
    path = str(config["_target_"])
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{group}._target_={path} cannot be imported ({error})") from error
    except Exception as error:  # the module's own, when it is run
        raise ConfigError(
            f"{group}._target_={path} cannot be imported: {module} raises {type(error).__name__}: {error}"
        ) from error


def arguments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The target's arguments."""
    return {key: value for key, value in config.items() if key not in ("name", "_target_")}


def construct(group: str, config: Mapping[str, Any], **defaults: Any) -> Any:
    """The object that a config describes.

    Parameters
    ----------
    group : str
        The config group, for messages.
    config : mapping
        ``name``, ``_target_`` and the target's arguments.
    **defaults
        Arguments for those of these names that the target takes and the config leaves open (or null).

    Raises
    ------
    ConfigError
        If the target cannot be imported or called, if a key is not an argument of it (the message lists
        those that are), or if it refuses a value.
    """
    target = target_of(group, config)
    arguments = arguments_of(config)
    try:
        parameters = _parameters(target)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{group}._target_={config['_target_']} has no named arguments that could be set ({error})"
        ) from error
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    unknown = [key for key in arguments if key not in parameters and not open_ended]
    if unknown:
        raise ConfigError(
            f"{group}.{unknown[0]} is not an argument of {config['_target_']}; "
            f"allowed: {', '.join(parameters)}"
        )
    for name, value in defaults.items():
        if name in parameters and arguments.get(name) is None:
            arguments[name] = value
    try:
        return target(**arguments)
    except AnomalySweepError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{group} {config['name']}: {config['_target_']} refuses its arguments: {error}"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{group} {config['name']}: {config['_target_']} cannot be made of its arguments: "
            f"{type(error).__name__}: {error}"
        ) from error


@functools.lru_cache
def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters
