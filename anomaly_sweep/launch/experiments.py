"""Sweeping over config groups that say themselves what to sweep (``experiment=a,b``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.config import NODES
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.launch.grids import expand

#: Of Hydra's node: what belongs to one composition, and what each choice may say for itself.
_OWN = ("overrides", "runtime", "job", "mode", "help", "hydra_help", "searchpath")
_GRID_KEYS = ("grids", "params")


@dataclass(frozen=True)
class Part:
    """A part of a sweep: one choice of each such group, and Hydra's config with it."""

    arguments: list[str]
    config: DictConfig


def parts(config: DictConfig, loader: ConfigLoader, arguments: Sequence[str]) -> list[Part]:
    """The parts of a sweep: one, unless the command line sweeps over other groups than the configuration's.

    Hydra composes its own config (and with it ``hydra.sweeper``) without the groups that are swept over; here
    it is composed again with each of their choices.

    Raises
    ------
    ConfigError
        If a choice sets something of Hydra's that concerns the whole sweep.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    outer = {index: override for index, override in enumerate(parsed) if _is_outer(override, loader)}
    if not outer:
        return [Part(list(arguments), config)]
    found = []
    for choice in itertools.product(*map(_choices, outer.values())):
        chosen = dict(zip(outer, choice, strict=True))
        own = [chosen.get(index, argument) for index, argument in enumerate(arguments)]
        overrides = [*config.hydra.overrides.hydra, *own]
        composed = loader.load_configuration(config.hydra.job.config_name, overrides, RunMode.MULTIRUN)
        for key in _differences(config.hydra, composed.hydra):
            raise ConfigError(
                f"{' '.join(choice)} sets hydra.{key}, which is one for all jobs of a sweep; launch it by "
                f"itself, or give hydra.{key} on the command line"
            )
        found.append(Part(own, composed))
    return found


def expand_all(
    config: DictConfig, loader: ConfigLoader, arguments: Sequence[str], grids: Any, params: Any
) -> list[list[str]]:
    """Every distinct job of a sweep, those of each part after another (see ``grids.expand``)."""
    parser = OverridesParser.create(config_loader=loader)
    jobs: dict[tuple[str, ...], None] = {}
    for part in parts(config, loader, arguments):
        if part.config is not config:
            sweeper = part.config.hydra.sweeper
            grids, params = sweeper.grids, sweeper.params
        jobs.update(dict.fromkeys(map(tuple, expand(grids, params, part.arguments, parser))))
    return [list(job) for job in jobs]


def check_no_grids(config: DictConfig, loader: ConfigLoader, arguments: Sequence[str]) -> None:
    """Raise unless every choice of a swept group leaves the search space to the sweep's own config.

    Raises
    ------
    ConfigError
        If one brings choices of its own: a search has one space.
    """
    for part in parts(config, loader, arguments):
        if part.config is not config and part.config.hydra.sweeper.params != config.hydra.sweeper.params:
            new = [argument for argument in part.arguments if argument not in arguments]
            raise ConfigError(
                f"{' '.join(new)} has choices of its own (hydra.sweeper.params), and a search has one space; "
                "search one at a time, or use hydra/sweeper=grid"
            )


def _is_outer(override: Override, loader: ConfigLoader) -> bool:
    group = override.key_or_group
    if not override.is_sweep_override() or override.is_interval_sweep() or override.is_range_sweep():
        return False
    if "." in group or group.split("/")[0] in NODES:
        return False
    return bool(loader.get_group_options(group))


def _choices(override: Override) -> Iterator[str]:
    return (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())


def _differences(one: DictConfig, other: DictConfig) -> list[str]:
    """Keys of Hydra's node that two compositions do not share."""
    plain = [_plain(node) for node in (one, other)]
    return [key for key in dict.fromkeys([*plain[0], *plain[1]]) if plain[0].get(key) != plain[1].get(key)]


def _plain(hydra: DictConfig) -> dict[str, Any]:
    node = OmegaConf.to_container(hydra, resolve=False)
    assert isinstance(node, dict)
    flat = {str(key): value for key, value in node.items() if key not in _OWN}
    for key, value in (flat.pop("sweeper", None) or {}).items():
        if key not in _GRID_KEYS:
            flat[f"sweeper.{key}"] = value
    return flat
