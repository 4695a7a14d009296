"""What to sweep: a union of grids, with choices on the command line replacing those in the config."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from anomaly_sweep.errors import ConfigError

Choices = dict[str, list[str]]


def expand(
    grids: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    arguments: Sequence[str],
    parser: OverridesParser,
) -> list[list[str]]:
    """Every distinct job of a union of grids, in order of first appearance.

    Parameters
    ----------
    grids : sequence of mappings
        As scikit-learn's ``ParameterGrid``: each mapping is a grid (key -> value, list of values, or a sweep
        such as ``"a,b"`` or ``"range(1,4)"``), and the sweep is their union. None at all is one empty grid.
    params : mapping
        Choices common to all grids.
    arguments : sequence of str
        Overrides from the command line; one about a key replaces what grids and params say of it.
    parser : OverridesParser

    Returns
    -------
    list of list of str
        Override lists.

    Raises
    ------
    ConfigError
        For a continuous sweep (``interval``), which has no grid.
    """
    given = _choices(parser.parse_overrides(list(arguments)))
    common = _choices(parser.parse_overrides(as_overrides(params)))
    jobs: dict[tuple[str, ...], None] = {}
    for grid in grids or [{}]:
        own = _choices(parser.parse_overrides(as_overrides(grid)))
        for job in itertools.product(*{**own, **common, **given}.values()):
            jobs.setdefault(tuple(ordered(job)))
    return [list(job) for job in jobs]


def ordered(job: Iterable[str]) -> list[str]:
    """A job's overrides, groups before settings, as Hydra applies them; equal jobs become equal lists."""
    return sorted(job, key=lambda override: "." in override.split("=")[0])


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """Config entries (key -> value, list of values or sweep) as overrides."""
    return [f"{key}={_sweep(value)}" for key, value in params.items()]


def _sweep(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):  # OmegaConf's lists too
        return ",".join(_sweep(item) for item in value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(overrides: Sequence[Override]) -> Choices:
    choices: Choices = {}
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise ConfigError(
                f"{key}: the grid sweeper takes lists, choice() and range(); "
                "intervals need hydra/sweeper=optuna"
            )
    return choices
