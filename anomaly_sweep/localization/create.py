"""Localizers from their configs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.instantiate import construct
from anomaly_sweep.localization.base import Localizer

_METHODS = ("levels", "partial_fit", "finish", "score", "fit_bytes", "operations")


def build(config: Mapping[str, Any]) -> Localizer:
    """An unfitted localizer.

    Parameters
    ----------
    config : mapping
        ``name``, ``_target_`` and the target's arguments.

    Raises
    ------
    ConfigError
        As :func:`anomaly_sweep.instantiate.construct`, or if what is made is no localizer.
    """
    localizer = construct("localizer", config)
    lacking = [name for name in _METHODS if not hasattr(localizer, name)]
    if lacking:
        raise ConfigError(f"localizer {config['name']}: {config['_target_']} has no {lacking[0]}")
    return cast(Localizer, localizer)


def levels_of(config: Mapping[str, Any], levels: Collection[str], backbone: str) -> tuple[str, ...]:
    """The levels that a localizer reads.

    Parameters
    ----------
    config : mapping
        As of :func:`build`.
    levels : collection of str
        Those that the backbone has.
    backbone : str
        Its name, for the message.

    Raises
    ------
    ConfigError
        If the backbone lacks one of them: the message lists those it has.
    """
    read = tuple(build(config).levels)
    for level in read:
        if level not in levels:
            raise ConfigError(
                f"localizer={config['name']}: backbone {backbone} has no {level}; it has {', '.join(levels)}"
            )
    return read
