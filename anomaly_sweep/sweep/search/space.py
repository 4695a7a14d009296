"""The search space: Hydra's sweep syntax as Optuna's distributions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.launch.grids import as_overrides, ordered


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes
    ----------
    fixed : dict
        Key -> override that every job has.
    params : dict
        Key -> distribution. Choices are kept as Hydra writes them (text), so that any value can be one.
    """

    fixed: dict[str, str]
    params: dict[str, BaseDistribution]

    def job(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of one point, groups before settings; equal points give equal lists."""
        return ordered([*self.fixed.values(), *(f"{key}={values[key]}" for key in self.params)])

    def corners(self) -> Iterator[dict[str, Any]]:
        """A few points that show every choice and both ends of every interval once."""
        ends = {key: _ends(distribution) for key, distribution in self.params.items()}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        for key, values in ends.items():
            for value in values[1:]:
                yield {**first, key: value}

    def grid(self) -> list[dict[str, Any]]:
        """Every point, the last key fastest.

        Raises
        ------
        ConfigError
            If an interval makes them infinitely many.
        """
        lists = []
        for key, distribution in self.params.items():
            values = _values(distribution)
            if values is None:
                raise ConfigError(f"{key}: a grid takes lists, choice() and range(), not an interval")
            lists.append(values)
        return [dict(zip(self.params, point, strict=True)) for point in itertools.product(*lists)]

    def describe(self) -> list[str]:
        """The space as text, one line a key, fixed ones included."""
        return [*self.fixed.values(), *(f"{key}={self.params[key]}" for key in self.params)]


def parse_space(params: Mapping[str, Any], arguments: Sequence[str], parser: OverridesParser) -> Space:
    """The space that config entries and the command line describe; the latter replaces the former by key.

    ``a,b``, ``choice(a,b)``, a list in a config: categorical. ``range(1,10)``: integers from 1 to 9, as
    everywhere in Hydra (floats with a step likewise). ``interval(0.1,0.9)``: any float;
    ``int(interval(1,9))``: integers, both ends in; ``tag(log, interval(...))``: on a logarithmic scale.

    Parameters
    ----------
    params : mapping
        ``hydra.sweeper.params``: key -> value, list of values or sweep.
    arguments : sequence of str
        Overrides from the command line.
    parser : OverridesParser

    Raises
    ------
    ConfigError
        If nothing is left to search, or a sweep makes no sense.
    """
    overrides = {}
    for override in parser.parse_overrides([*as_overrides(params), *arguments]):
        overrides[override.get_key_element()] = override
    fixed: dict[str, str] = {}
    searched: dict[str, BaseDistribution] = {}
    for key, override in overrides.items():
        if override.is_sweep_override():
            try:
                searched[key] = _distribution(override)
            except ValueError as error:
                raise ConfigError(f"{override.input_line}: {error}") from error
        else:
            fixed[key] = override.input_line or ""
    if not searched:
        raise ConfigError(
            "nothing to search: give at least one key several values, as in layer=level1,level2 or "
            "pca_mode.rate=interval(0.1,0.9)"
        )
    return Space(fixed, searched)


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        assert low is not None
        assert high is not None
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if isinstance(value, RangeSweep):
        numbers = sorted(float(text) for text in override.sweep_string_iterator())
        if not numbers:
            raise ValueError("the range is empty")
        step, log = abs(value.step), "log" in value.tags
        if isinstance(value.range(), range):
            return IntDistribution(int(numbers[0]), int(numbers[-1]), log=log, step=1 if log else int(step))
        return FloatDistribution(numbers[0], numbers[-1], log=log, step=None if log else float(step))
    return CategoricalDistribution(tuple(dict.fromkeys(override.sweep_string_iterator())))


def _values(distribution: BaseDistribution) -> list[Any] | None:
    """All values of a distribution that has finitely many."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is None:
        return None
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    return [distribution.low + i * distribution.step for i in range(count)]


def _ends(distribution: BaseDistribution) -> list[Any]:
    """The choices, or the two ends of numbers."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    return [distribution.low, distribution.high]
