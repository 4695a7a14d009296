"""Several seeds of one localizer, for the mean and the spread of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomaly_sweep.checks import whole
from anomaly_sweep.fingerprint import seeds_of

SEED, SEEDS = "seed", "seeds"


def seeds_of_config(config: Mapping[str, Any]) -> list[int | None]:
    """The seeds that a localizer's config asks to fit and score with.

    ``seeds`` says how many; the first is ``seed``. One without ``seed`` draws nothing at random: it is fitted
    once, as its config says (None), whatever ``seeds`` is.

    Raises
    ------
    ConfigError
        If ``seeds`` is not a whole number of at least 1.
    """
    count = config.get(SEEDS, 1)
    whole("localizer.seeds", count, 1)
    if count == 1 or config.get(SEED) is None:
        return [None]
    return [*seeds_of(config[SEED], count)]


def without_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as its target takes it, which knows of one seed."""
    return {key: value for key, value in config.items() if key != SEEDS}
