"""A study goes on only with what its trials were about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.sweep.search.settings import Settings
from anomaly_sweep.sweep.search.space import Space
from anomaly_sweep.sweep.search.study import About, Search

STATE = {"a": {"detection": {"washer": "1", "linen": "1"}}}


def search(folder: Path, about: About | None) -> Search:
    space = Space({}, {"layer": CategoricalDistribution(("level1", "level2"))})
    settings = Settings(
        {"_target_": "optuna.samplers.RandomSampler", "seed": 0},
        storage=f"sqlite:///{folder}/optuna.db",
        study_name="mine",
    )
    return Search(space, settings, "identity", about)


def about(**changes: Any) -> About:
    given: dict[str, Any] = {"config": "c", "fixed": {"k": "k=1"}, "objectives": ["auc"], "data": STATE}
    return About(**{**given, **changes})


def test_a_study_goes_on_with_the_same_and_with_nothing_else(tmp_path: Path) -> None:
    first = search(tmp_path, about())
    first.step(lambda jobs: [(0.5,) for _ in jobs])
    assert search(tmp_path, about()).finished
    for changes, told in [
        (
            {"data": {"a": {"detection": {"washer": "2", "linen": "1"}}}},
            r"other images \(changed since: a/washer\)",
        ),
        ({"data": {"b": STATE["a"]}}, r"other images \(changed since: a/washer, a/linen, b/washer"),
        ({"fixed": {"k": "k=2"}}, "has k=1, not k=2"),
        ({"fixed": {}}, "has k=1, not no k"),
        ({"objectives": ["aupro"]}, "looks for auc, not aupro"),
        ({"config": "d"}, "starts from another config"),
    ]:
        with pytest.raises(ConfigError, match=rf"the study mine .*{told}.*hydra\.sweeper\.study_name"):
            search(tmp_path, about(**changes))


def test_a_study_of_unknown_data_is_refused_once_it_has_trials(tmp_path: Path) -> None:
    search(tmp_path, None).step(lambda jobs: [(0.5,) for _ in jobs])
    with pytest.raises(ConfigError, match="does not say what its trials were about"):
        search(tmp_path, about())
