"""Localizers from their configs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.instantiate import construct
from anomaly_sweep.localization.base import Localizer
from anomaly_sweep.localization.seeds import SEED, without_seeds

_METHODS = ("levels", "partial_fit", "finish", "score", "fit_bytes", "operations")


def build(config: Mapping[str, Any], seed: int | None = None) -> Localizer:
    """An unfitted localizer.

    Parameters
    ----------
    config : mapping
        ``name``, ``_target_``, the target's arguments, and ``seeds``, of which this is one.
    seed : int or None
        Instead of the config's.

    Raises
    ------
    ConfigError
        As :func:`anomaly_sweep.instantiate.construct`, or if what is made is no localizer.
    """
    arguments = without_seeds(config)
    localizer = construct("localizer", arguments if seed is None else {**arguments, SEED: seed})
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
