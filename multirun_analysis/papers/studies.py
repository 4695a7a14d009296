"""Every study of some trials: of both tasks, of one backbone each or of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Unpack

import pandas as pd

from anomaly_sweep.tracking.names import DETECTION
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.ono_mori.study import backbones, choose_study
from multirun_analysis.papers.ridge.study import (
    LocalizationChoices,
    LocalizationStudy,
    choose_localization,
    localization_backbones,
)
from multirun_analysis.summary.study import Choices, DetectionStudy, StudyChoices
from multirun_analysis.trials.run_info import Origin
from multirun_analysis.trials.tasks import LOCALIZATION, tasks_of


class AllChoices(StudyChoices, LocalizationChoices, total=False):
    """What a user may say of either task."""


def context_of(choices: AllChoices) -> Choices:
    """Those of the choices that both tasks have."""
    return Choices(
        dataset=choices.get("dataset"),
        backbone=choices.get("backbone"),
        weights=choices.get("weights"),
        input_size=choices.get("input_size"),
        center_crop=choices.get("center_crop"),
    )


@dataclass(frozen=True)
class Studies:
    """The studies there are, and what cannot be one: its name and why."""

    detection: list[DetectionStudy] = field(default_factory=list)
    localization: list[LocalizationStudy] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def choose_studies(
    frame: pd.DataFrame,
    *,
    every: bool,
    origins: Sequence[Origin] = (),
    **choices: Unpack[AllChoices],
) -> Studies:
    """The studies of each task there are trials of; see `choose_study` and `choose_localization`.

    Parameters
    ----------
    every
        One for each backbone of a task, whatever ``backbone`` says.

    Raises
    ------
    AnalysisError
        If there is none, or a choice is of a task without trials.
    """
    tasks = tasks_of(frame)
    for option, task in (("layer", DETECTION), ("task", LOCALIZATION)):
        if choices.get(option) is not None and task not in tasks:
            raise AnalysisError(f"--{option} is of {task}: there are no trials of it")
    found = Studies()
    for task in tasks:
        there = backbones if task == DETECTION else localization_backbones
        for backbone in there(frame) if every else [choices.get("backbone")]:
            common = context_of(choices)
            common["backbone"] = backbone
            try:
                if task == DETECTION:
                    layer = choices.get("layer")
                    found.detection.append(choose_study(frame, origins=origins, layer=layer, **common))
                else:
                    kind = choices.get("task")
                    found.localization.append(
                        choose_localization(frame, origins=origins, task=kind, **common)
                    )
            except AnalysisError as error:
                found.refused.append((backbone or task, str(error)))
    if not found.detection and not found.localization:
        reasons = [
            reason if len(found.refused) == 1 else f"{name}: {reason}" for name, reason in found.refused
        ]
        raise AnalysisError("; ".join(reasons) or "the trials have no backbone")
    return found
