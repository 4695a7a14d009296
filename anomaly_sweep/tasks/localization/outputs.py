"""What a localization trial keeps beside its numbers, in the cache folder under its fingerprint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import RANDOM
from anomaly_sweep.errors import CacheError
from anomaly_sweep.unwritable import is_unwritable, say_once

if TYPE_CHECKING:
    from anomaly_sweep.config import LocalizationConf
    from anomaly_sweep.features.shard import Shard
    from anomaly_sweep.tasks.localization.trial import LocalizationTrial

CASES = "cases.png"
MAPS = "maps.safetensors"


def names_of(task: LocalizationConf) -> list[str]:
    """The files that a trial with these settings leaves."""
    return [CASES] * task.figure + [MAPS] * task.save_maps


def outputs_of(cache_dir: Path, trial_id: str, task: LocalizationConf) -> dict[str, Path]:
    """Name -> file, for those that are there."""
    folder = cache_dir / "localization" / trial_id[:2] / trial_id
    return {name: folder / name for name in names_of(task) if (folder / name).is_file()}


def are_there(cache_dir: Path, trial_id: str, task: LocalizationConf) -> bool:
    """Whether all of them are there."""
    return len(outputs_of(cache_dir, trial_id, task)) == len(names_of(task))


def write_outputs(
    cache_dir: Path,
    trial: LocalizationTrial,
    shard: Shard,
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
) -> None:
    """Draw the cases and keep the maps, as the trial's task asks; each file is written whole or not at all.

    Raises
    ------
    CacheError
        If they cannot be written.
    """
    folder = cache_dir / "localization" / trial.fingerprint[:2] / trial.fingerprint
    names = names_of(trial.task)
    if not names:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            temporary = folder / f".{os.getpid()}-{name}"
            if name == CASES:
                from anomaly_sweep.tasks.localization.cases import draw_cases  # imports matplotlib

                draw_cases(temporary, shard, maps, masks, title=_title(trial, shard))
            else:
                _save_maps(temporary, shard, maps)
            temporary.replace(folder / name)
    except OSError as error:
        if is_unwritable(error, cache_dir):
            say_once(cache_dir, error)
            return
        raise CacheError(
            f"{folder}: cannot be written ({error}); free space or set runtime.cache_dir"
        ) from error


def _title(trial: LocalizationTrial, shard: Shard) -> str:
    weights = ", random weights" if shard.backbone.weights == RANDOM else ""
    where = f"{trial.localizer['name']} on {shard.backbone.name}{weights}, {shard.side} px"
    return f"{shard.category.name} of {shard.category.dataset}: {where}"


def _save_maps(path: Path, shard: Shard, maps: NDArray[np.float32]) -> None:
    from safetensors.numpy import save_file

    metadata: dict[str, Any] = {"category": shard.category.name, "dataset": shard.category.dataset}
    images = json.dumps([record.relative for record in shard.category.test])
    save_file({"maps": np.ascontiguousarray(maps)}, path, metadata={**metadata, "images": images})
