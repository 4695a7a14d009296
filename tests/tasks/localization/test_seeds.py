"""Several seeds of a localizer: the mean and the spread of its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.fingerprint import seeds_of
from anomaly_sweep.launch.notebook import compose
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.run.configurations import run_configurations
from tests.support.localizers import localization, localizer
from tests.support.sweeps import runtime, tracking

PADIM = {"name": "padim", "_target_": "anomaly_sweep.localization.padim.Padim", "channels": 20, "seed": 5}
SPREAD = ("image_auroc", "pixel_auroc", "aupro")
MEANS = (*SPREAD, "image_ap", "image_f1max", "image_fpr95", "pixel_ap", "pixel_f1max", "aupro_mvtec")


def run(tmp_path: Path, root: Path, *localizers: dict[str, Any], **changes: Any) -> list[Outcome]:
    chosen = [localization(root, one) for one in localizers]
    return run_configurations(chosen, tracking(tmp_path), runtime(tmp_path, **changes), Parent("alone"))


# With the small budget each seed is fitted in a pass of its own.
@pytest.mark.parametrize("memory_gb", [1.0, 1e-9])
def test_mean_and_spread(tiny_dataset: Path, tmp_path: Path, memory_gb: float) -> None:
    singles = run(tmp_path / "a", tiny_dataset, *({**PADIM, "seed": seed} for seed in seeds_of(5, 3)))
    (several,) = run(tmp_path / "b", tiny_dataset, {**PADIM, "seeds": 3}, memory_gb=memory_gb)
    spreads = []
    for i, row in enumerate(several.rows):
        each = [single.rows[i] for single in singles]
        for name in MEANS:
            # Passes of other company may round their maps' metrics differently.
            assert row[name] == pytest.approx(np.mean([one[name] for one in each]), abs=1e-6)
        for name in SPREAD:
            spreads.append(np.std([one[name] for one in each], ddof=1))
            assert row[f"{name}_sd"] == pytest.approx(spreads[-1], abs=1e-6)
            assert all(one[f"{name}_sd"] is None for one in each)
    assert max(spreads) > 1e-3
    metrics = mlflow.MlflowClient(tracking(tmp_path / "b").uri).get_run(str(several.run_id)).data.metrics
    for prefix, name in (("auc_sd", "image_auroc_sd"), ("aupro_sd", "aupro_sd")):
        assert metrics[f"{prefix}/washer"] == {r["category"]: r[name] for r in several.rows}["washer"]


def test_one_seed_is_the_trial_it_was(tiny_dataset: Path, tmp_path: Path) -> None:
    first = run(tmp_path, tiny_dataset, PADIM, localizer())
    # Nothing is drawn by the second, whatever the number.
    again = run(tmp_path, tiny_dataset, {**PADIM, "seeds": 1}, {**localizer(), "seeds": 4})
    other = run(tmp_path, tiny_dataset, {**PADIM, "seeds": 2})
    known = [[row["fingerprint"] for one in found for row in one.rows] for found in (first, again, other)]
    assert known[0] == known[1]
    assert not set(known[0]) & set(known[2])


def test_a_failing_seed_fails_the_trial(tiny_dataset: Path, tmp_path: Path) -> None:
    broken = {**localizer(breaks="score"), "_target_": f"{__name__}.Drawing", "seed": 0, "seeds": 2}
    (outcome,) = run(tmp_path, tiny_dataset, broken)
    assert len(outcome.failures) == 2
    assert "broken in score" in outcome.failures[0]


def Drawing(*, seed: int, **arguments: Any) -> Any:
    """A localizer whose first seed works and whose others break."""
    from tests.support.localizers import DistanceToMean

    return DistanceToMean(**{**arguments, "breaks": arguments["breaks"] if seed else ""})


def test_every_shipped_localizer_takes_the_key(tiny_dataset: Path) -> None:
    for path in sorted((config_folder() / "localizer").glob("*.yaml")):
        overrides = ["task=localization", f"localizer={path.stem}", f"dataset.root={tiny_dataset}"]
        (several,) = compose(*overrides, "localizer.seeds=3").configurations
        label = several.labels["localizer"]
        assert label == (path.stem if "ridge" in label and "plus" not in label else f"{path.stem}[seeds=3]")


@pytest.mark.parametrize("value", [0, 1.5, "many"])
def test_wrong_numbers_are_told(value: object) -> None:
    with pytest.raises(ConfigError, match=r"localizer\.seeds="):
        compose("task=localization", "localizer=padim", f"localizer.seeds={value}", "backbone.weights=random")
