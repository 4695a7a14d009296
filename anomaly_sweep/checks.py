"""Checks of single values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anomaly_sweep.errors import ConfigError


def one_of(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ConfigError unless value is one of the allowed ones."""
    allowed = list(allowed)
    if value not in allowed:
        raise ConfigError(f"{key}={value} is not allowed; allowed: {', '.join(map(str, allowed))}")


def whole(key: str, value: Any, low: int) -> None:
    """Raise ConfigError unless value is a whole number, written as one, of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key}={value} is not allowed; it must be a whole number, such as {max(low, 5)}")
    in_range(key, value, low)


def odd(key: str, value: Any) -> None:
    """Raise ConfigError unless value is an odd whole number from 1: a side with a middle."""
    whole(key, value, 1)
    if value % 2 != 1:
        raise ConfigError(f"{key}={value} has no middle; allowed: odd numbers from 1")


def in_range(
    key: str, value: float, low: float, high: float = float("inf"), *, open_low: bool = False
) -> None:
    """Raise ConfigError unless low <= value <= high (low < value with ``open_low``)."""
    if not (low < value if open_low else low <= value) or not value <= high:
        bracket = "(" if open_low else "["
        raise ConfigError(f"{key}={value} is outside {bracket}{low:g}, {high:g}]")
