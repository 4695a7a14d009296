"""Check the command line's overrides before Hydra sees them: a wrong key is told with those that exist.

Only plain ``key=value`` overrides of what the config's schema knows are looked at; everything else
(``+key``, ``~key``, ``hydra.*``, flags, a user's own groups) is Hydra's business.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from anomaly_sweep.config import DETECTION, NODE_TYPES, OPEN_NODES, TASK
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.tasks import task_named, task_names
from anomaly_sweep.tasks.base import Task

COMPLETION_FLAGS = frozenset(("-sc", "--shell-completion"))
_OWN_CONFIG_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")


def check_overrides(arguments: Sequence[str], conf: Path) -> None:
    """Raise if an override names a key that does not exist.

    Parameters
    ----------
    arguments : sequence of str
        The command line.
    conf : Path
        The ``conf`` folder, for the groups and their options' settings.

    Raises
    ------
    ConfigError
        The message lists the keys that are allowed, the closest first to be named.
    """
    if COMPLETION_FLAGS & set(arguments):
        return  # what follows are the completion's own words
    for argument in arguments:
        _check_letters(argument)
    overrides = [override for override in map(_parsed, arguments) if override is not None]
    _check_sweeper(overrides)
    if any(argument.split("=")[0] in _OWN_CONFIG_FLAGS for argument in arguments):
        return  # the user's own configs may hold anything
    _check_task(overrides)
    for override in overrides:
        if override.type is not OverrideType.CHANGE or override.package or override.is_hydra_override():
            continue
        key = override.key_or_group
        if "/" in key:
            continue
        name, *rest = key.split(".")
        groups = sorted({*NODE_TYPES, *(folder.name for folder in conf.iterdir() if folder.is_dir())})
        if name not in groups:
            raise _unknown(key, "", name, groups, "config groups")
        if name in OPEN_NODES and rest:
            _check_open(name, key, rest[0], _chosen(name, overrides, conf), conf)
        elif name == TASK and rest:
            tasks = [task for task in _chosen(name, overrides, conf) if task in task_names()]
            _check_node(key, [task_named(task).conf for task in tasks], rest)
        elif name in NODE_TYPES and rest:
            _check_node(key, [NODE_TYPES[name]], rest)


def _parsed(argument: str) -> Override | None:
    if argument.startswith("-") or "=" not in argument:
        return None
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:  # Hydra explains it
        return None


def _check_letters(argument: str) -> None:
    """Hydra's grammar has no keys but ASCII ones, and says so with an error of its lexer."""
    key, equal, _ = argument.partition("=")
    if equal and not argument.startswith("-") and not key.isascii():
        raise ConfigError(
            f"{key}: a key on the command line has ASCII letters only (Hydra's grammar); say it in a file, "
            "such as an experiment of your own (--config-dir DIR experiment=NAME)"
        )


def _check_sweeper(overrides: Sequence[Override]) -> None:
    """What a sweeper would pass over without a word."""
    for override in overrides:
        if override.key_or_group == "hydra.sweeper.objectives":
            raise ConfigError(
                "hydra.sweeper.objectives is runtime.objectives: what jobs return is what is searched for"
            )
    sweeper = [o.value() for o in overrides if o.key_or_group == "hydra/sweeper"]
    swept = [o for o in overrides if o.key_or_group == "experiment" and o.is_sweep_override()]
    if swept and sweeper and sweeper[-1] not in ("grid", "optuna"):
        raise ConfigError(
            f"{swept[0].input_line}: hydra/sweeper={sweeper[-1]} takes no experiment's choices "
            "(hydra.sweeper.params); launch them one by one, or leave hydra/sweeper out"
        )


def _check_task(overrides: Sequence[Override]) -> None:
    """A group that has no part in the task is told: its values would change nothing."""
    chosen = {o.key_or_group: o for o in overrides if o.type is OverrideType.CHANGE}
    if "experiment" in chosen or any(o.is_hydra_override() for o in overrides):
        return  # they may choose the task
    task = chosen["task"].get_value_element_as_str() if "task" in chosen else DETECTION
    if task not in task_names():
        return
    for key in chosen:
        users = [name for name in task_names() if _takes_part(key, task_named(name))]
        if users and task not in users:
            raise ConfigError(
                f"{key} has no part in task={task}; leave it out, or choose task={' or '.join(users)}"
            )


def _takes_part(key: str, task: Task[Any, Any]) -> bool:
    """Whether a group is one of a task's, or a setting."""
    group, _, rest = key.partition(".")
    if group != TASK:
        return group in task.groups
    return rest.split(".")[0] in [field.name for field in dataclasses.fields(task.conf)]


def _check_node(key: str, kinds: Sequence[type], rest: Sequence[str]) -> None:
    """Follow a dotted key through nested dataclasses of any of these; below a dict or a list it is open."""
    within = key.split(".")[0]
    for part in rest:
        fields = {
            field.name: typing.get_type_hints(kind)[field.name]
            for kind in kinds
            for field in dataclasses.fields(kind)
        }
        part = re.sub(r"\[.*", "", part)
        if part not in fields:
            raise _unknown(key, within, part, fields, f"keys of {within}")
        inner = [t for t in _alternatives(fields[part]) if dataclasses.is_dataclass(t)]
        if not inner:
            return
        kinds = [typing.cast(type, inner[0])]
        within = f"{within}.{part}"


def _alternatives(hint: object) -> tuple[object, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _chosen(group: str, overrides: Sequence[Override], conf: Path) -> list[str]:
    """The options of an open group that a command line is about: those it names, the default, else all."""
    named: list[str] = []
    for override in overrides:
        if override.key_or_group == group and override.value_type is not None:
            if not override.is_sweep_override():
                named.append(override.get_value_element_as_str())
            elif override.is_discrete_sweep() and not isinstance(override.value(), list):
                try:
                    named.extend(override.sweep_string_iterator())
                except HydraException:  # a glob: resolved by Hydra
                    return _options(group, conf)
    if named or any(o.key_or_group == "experiment" or o.is_hydra_override() for o in overrides):
        return named or _options(group, conf)
    defaults = OmegaConf.load(conf / "config.yaml").defaults
    return [str(entry[group]) for entry in defaults if OmegaConf.is_dict(entry) and group in entry]


def _options(group: str, conf: Path) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def _check_open(group: str, key: str, part: str, options: Sequence[str], conf: Path) -> None:
    allowed: dict[str, None] = {}  # a set that keeps the order
    for option in options:
        path = conf / group / f"{option}.yaml"
        if not path.is_file():
            return
        allowed.update(dict.fromkeys(map(str, OmegaConf.load(path))))
    if part not in allowed:
        names = options[0] if len(options) == 1 else f"the {group}s"
        hint = f"; any other argument of its class: +{key}=..."
        raise _unknown(key, group, part, allowed, f"settings of {names}", hint)


def _unknown(
    key: str, within: str, part: str, allowed: Iterable[str], what: str, hint: str = ""
) -> ConfigError:
    allowed = list(allowed)
    close = difflib.get_close_matches(part, allowed, n=1, cutoff=0.6)
    place = f"{within}." if within else ""
    meant = f" Did you mean {place}{close[0]}?" if close else ""
    return ConfigError(f"{key} does not exist.{meant} Allowed {what}: {', '.join(allowed)}{hint}")
