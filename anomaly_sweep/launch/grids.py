"""What to sweep: a union of grids, which choices on the command line narrow or replace."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, Transformer

from anomaly_sweep.config import for_hydra
from anomaly_sweep.errors import ConfigError


class Choice(NamedTuple):
    """One value of a key: the override that sets it, and the value without quotes."""

    override: str
    value: str


#: Key with its prefix (``layer``, ``+estimator.p``) -> its choices.
Choices = dict[str, list[Choice]]


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
        Overrides from the command line. One about a key replaces what ``params`` say of it, and narrows the
        union: a value that some of the grids have is taken in those alone, one that none has in each of
        them. Where that leaves no grid, the values replace those of every grid.
    parser : OverridesParser

    Returns
    -------
    list of list of str
        Override lists.

    Raises
    ------
    ConfigError
        For a continuous sweep (``interval``), which has no grid, and for a key with no values.
    """
    given = _choices(parser.parse_overrides(list(arguments)))
    common = _choices(parser.parse_overrides(as_overrides(params)))
    union = [_choices(parser.parse_overrides(as_overrides(grid))) for grid in grids or [{}]]
    narrowed = [(grid, _narrow(grid, union, given)) for grid in union]
    kept = [(grid, own) for grid, own in narrowed if own is not None] or [(grid, {}) for grid in union]
    jobs: dict[tuple[str, ...], None] = {}
    for grid, own in kept:
        choices = {**grid, **common, **given, **own}
        for job in itertools.product(*choices.values()):
            jobs.setdefault(tuple(ordered(choice.override for choice in job)))
    return [list(job) for job in jobs]


def _narrow(grid: Choices, union: Sequence[Choices], given: Choices) -> Choices | None:
    """What a grid takes of the values given for its keys; None if it takes none of some key's."""
    narrowed: Choices = {}
    for key in [key for key in given if key in grid]:
        own = {choice.value for choice in grid[key]}
        elsewhere = {choice.value for other in union for choice in other.get(key, ())} - own
        taken = [choice for choice in given[key] if choice.value not in elsewhere]
        if not taken:
            return None
        narrowed[key] = taken
    return narrowed


def ordered(job: Iterable[str]) -> list[str]:
    """A job's overrides, groups before settings, as Hydra applies them; equal jobs become equal lists."""
    return sorted(job, key=lambda override: "." in override.split("=")[0])


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """Config entries (key -> value, list of values or sweep) as overrides.

    Raises
    ------
    ConfigError
        For an empty list.
    """
    return [for_hydra(f"{key}={_sweep(key, value)}") for key, value in params.items()]


def _sweep(key: str, value: Any) -> str:
    if not _is_list(value):
        return _element(value)
    if not value:
        raise ConfigError(f"{key}: an empty list gives no job; name its choices, or leave it out")
    return ",".join(map(_element, value))


def _element(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_element(inner)}' for key, inner in value.items())}}}"
    return f"[{','.join(map(_element, value))}]" if _is_list(value) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)  # OmegaConf's lists too


def _choices(overrides: Sequence[Override]) -> Choices:
    choices: Choices = {}
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            values = [_choice(key, override._value)]
        elif override.is_discrete_sweep():
            values = [_choice(key, value) for value in override.sweep_iterator()]
        else:
            raise ConfigError(
                f"{key}: the grid sweeper takes lists, choice() and range(); "
                "intervals need hydra/sweeper=optuna"
            )
        if not values:
            raise ConfigError(f"{override.input_line} gives no value, and so no job")
        choices[key] = values
    return choices


def _choice(key: str, value: Any) -> Choice:
    text = value.text if isinstance(value, QuotedString) else str(value)
    return Choice(f"{key}={Transformer.str(value)}", text)
