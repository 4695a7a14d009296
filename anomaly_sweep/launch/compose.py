"""Compose the configs of a whole sweep cheaply.

Hydra takes about 0.1 s to compose one config. The jobs of a sweep differ in a few nodes, and each distinct
setting of a node is composed once, with the rest as in the first job. That is the same as composing every
job provided a node's overrides change nothing but that node, which is checked; where it does not hold,
Hydra composes every job. Jobs that differ in something else than a node (``experiment=a,b``) are composed
that way within each of its settings.
"""

from __future__ import annotations

import copy
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anomaly_sweep.config import NODES, AnyConfiguration
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.launch import hydra_state
from anomaly_sweep.tasks import configuration_of, parse_node, task_with

log = logging.getLogger(__name__)

Compose = Callable[[list[str]], DictConfig]
_REFERENCE = re.compile(r"\$\{\s*([\w.]+)\s*(:?)\s*([\w.]*)")
#: Resolvers that read nothing of the config but what they are given.
_OUTSIDE = ("oc.env", "oc.decode", "now", "timm")


def configurations_of(nodes: Sequence[dict[str, Any]]) -> list[AnyConfiguration]:
    """The configuration of each job."""
    return [configuration_of(job) for job in nodes]


class Composer:
    """Parsed nodes of jobs, composing each distinct setting of a node once.

    Parameters
    ----------
    compose : callable
        Hydra's own composition of one list of overrides.
    """

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._parser = OverridesParser.create()
        self._about: dict[str, str] = {}
        self._shared: dict[tuple[str, ...], _Shared] = {}
        self._separable = True
        self._whole: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = {}

    def jobs(self, job_overrides: Sequence[Sequence[str]], first: int = 0) -> list[dict[str, Any]]:
        """Node name -> parsed node (see ``tasks.parse_node``), for each job.

        Jobs with the same setting of a node share the object.

        Parameters
        ----------
        first : int
            The first job's number in its sweep, which ``${hydra:job.num}`` gives.

        Raises
        ------
        ConfigError
            For a value that is not allowed.
        hydra.errors.HydraException
            For what Hydra cannot compose.
        """
        return [self.job(overrides, first + index) for index, overrides in enumerate(job_overrides)]

    def job(self, overrides: Sequence[str], number: int = 0) -> dict[str, Any]:
        """The nodes of one job, as :meth:`jobs`."""
        if self._separable:
            split = self._split(overrides)
            outside = tuple(o for name, own in split.items() if name not in NODES for o in own)
            try:
                if outside not in self._shared:
                    self._shared[outside] = _Shared(list(overrides), split, self._compose)
                return self._shared[outside].job(split)
            except _NotSeparableError as reason:
                log.info("composing each job by itself: %s", reason)
                self._separable = False
        key = (number, tuple(overrides))
        if key not in self._whole:
            config = self.config(overrides, number)
            with hydra_state.answering(config):
                self._whole[key] = {name: parse_node(name, config[name]) for name in NODES}
        return self._whole[key]

    def config(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The whole config of one job, composed by Hydra, with its number and its folder."""
        config = self._compose(list(overrides))
        hydra_state.number(config, number)
        return config

    def _split(self, overrides: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Overrides by the node they are about."""
        split: dict[str, tuple[str, ...]] = {}
        for override in overrides:
            node = self._about.get(override)
            if node is None:
                parsed = self._parser.parse_override(override)
                node = self._about[override] = re.split(r"[.@/]", parsed.key_or_group)[0]
            split[node] = (*split.get(node, ()), override)
        return split


class _NotSeparableError(Exception):
    """A node's overrides change other nodes too."""


class _Shared:
    """Jobs that differ in nodes only."""

    def __init__(self, first: list[str], split: dict[str, tuple[str, ...]], compose: Compose) -> None:
        self._compose = compose
        self._parser = OverridesParser.create()
        self._base = split
        config = compose(first)
        self._plain = _plain(config)
        for name, node in self._plain.items():
            _check_references(name, node)
        self._state = hydra_state.state_of(config)
        with hydra_state.answering(None, self._state):
            self._parsed = {(n, self._base.get(n, ())): parse_node(n, config[n]) for n in NODES}
        self._composed: dict[tuple[str, tuple[str, ...]], DictConfig] = {}

    def job(self, split: dict[str, tuple[str, ...]]) -> dict[str, Any]:
        nodes = {}
        for name in NODES:
            key = (name, split.get(name, ()))
            if key not in self._parsed:
                with hydra_state.answering(None, self._state):
                    self._parsed[key] = self._node(name, key[1])
            nodes[name] = self._parsed[key]
        return nodes

    def _node(self, name: str, overrides: tuple[str, ...]) -> Any:
        """A node, with plain changes of its settings made on what the rest composes to."""
        changes = [o for o in overrides if "." in o.split("=")[0]]
        rest = tuple(o for o in overrides if o not in changes)
        parsed = [self._parser.parse_override(o) for o in changes]
        if all(o.type is OverrideType.CHANGE and o.package is None for o in parsed):
            config = copy.deepcopy(self._compose_node(name, rest))
            try:
                for override in parsed:
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
            except OmegaConfBaseException:
                pass  # let Hydra explain it
            else:
                _check_references(name, _plain(config)[name])
                return parse_node(name, config[name])
        return parse_node(name, self._compose_node(name, overrides)[name])

    def _compose_node(self, name: str, overrides: tuple[str, ...]) -> DictConfig:
        """A config of this node alone."""
        if (name, overrides) in self._composed:
            return self._composed[name, overrides]
        others = [o for node, own in self._base.items() if node != name for o in own]
        config = self._compose([*others, *overrides])
        plain = _plain(config)
        for other in self._plain:
            if other != name and plain.get(other) != self._plain[other]:
                raise _NotSeparableError(f"{' '.join(overrides)} changes {other} too")
        _check_references(name, plain[name])
        alone = OmegaConf.masked_copy(config, [name])
        OmegaConf.set_struct(alone, True)
        self._composed[name, overrides] = alone
        return alone


def _plain(config: DictConfig) -> dict[str, Any]:
    """All nodes but Hydra's own, unresolved."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(name): node for name, node in container.items() if name != "hydra"}


def _check_references(name: str, node: Any) -> None:
    """An interpolation of another node's value ties the two together."""
    if isinstance(node, dict):
        for value in node.values():
            _check_references(name, value)
    elif isinstance(node, list):
        for value in node:
            _check_references(name, value)
    elif isinstance(node, str):
        for reference, resolver, argument in _REFERENCE.findall(node):
            if resolver and (
                reference in _OUTSIDE or (reference == "hydra" and argument in hydra_state.SHARED)
            ):
                continue
            if resolver or reference.split(".")[0] != name:
                raise _NotSeparableError(f"{name} refers to {reference}")


def possible(
    jobs: list[list[str]], nodes: list[dict[str, Any]], arguments: Sequence[str]
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """The jobs without those whose backbone, given on the command line, lacks an experiment's layer.

    Where the layers are given too, or none of the jobs is possible, all are left, to be told.
    """
    given = {re.split(r"[=@]", argument.lstrip("+~"))[0] for argument in arguments}
    if "backbone" not in given or {"layer", "layer.levels"} & given:
        return jobs, nodes
    impossible: dict[int, str] = {}
    for index, job in enumerate(nodes):
        if "layer" in task_with(job["task"]).groups:
            try:
                job["layer"].of(job["backbone"])
            except ConfigError as error:
                impossible[index] = str(error)
    if not impossible or len(impossible) == len(jobs):
        return jobs, nodes
    for reason, count in Counter(impossible.values()).items():
        log.warning("%d configurations are left out: %s", count, reason)
    kept = [index for index in range(len(jobs)) if index not in impossible]
    return [jobs[index] for index in kept], [nodes[index] for index in kept]
