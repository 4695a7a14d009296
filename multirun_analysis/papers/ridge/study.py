"""What the localization tables are about: a study of localization trials, and its localizers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import pandas as pd

from multirun_analysis.papers.published import RIDGE_BACKBONE, RIDGE_INPUT_SIZE, differences
from multirun_analysis.summary.coverage import listed
from multirun_analysis.summary.study import Choices, Study, only, settle
from multirun_analysis.trials.labels import ordered
from multirun_analysis.trials.long_table import NO_CROP
from multirun_analysis.trials.run_info import Origin

#: The task, and the label of its trials with the settings that are shipped.
LOCALIZATION = "localization"
#: Settings of the task that make another metric of the one of that name.
VARIANTS = {
    "average": ("aupro", "aupro_mvtec"),
    "connectivity": ("aupro", "aupro_mvtec"),
    "fpr_limit": ("aupro", "aupro_mvtec"),
    "images": ("pixel_auroc", "aupro", "aupro_mvtec"),
}


class LocalizationChoices(Choices, total=False):
    """What a user may say of a localization study."""

    task: str | None


@dataclass(frozen=True, kw_only=True)
class LocalizationStudy(Study):
    """A study of localization trials with the same maps and metrics, and its localizers.

    Attributes
    ----------
    task
        ``localization``, with the settings that differ from the shipped ones.
    localizers
        Their labels, the paper's three first.
    others
        The tasks of trials that are left out.
    """

    task: str
    localizers: tuple[str, ...]
    others: tuple[str, ...] = ()

    _filters: ClassVar[tuple[str, ...]] = (*Study._filters, "task")

    @property
    def variants(self) -> dict[str, list[str]]:
        """Metrics that are not the usual ones -> the settings that make them others."""
        found: dict[str, list[str]] = {}
        for key, value in re.findall(r"(\w+)=([^,\]]+)", self.task):
            for metric in VARIANTS.get(key, ()):
                found.setdefault(metric, []).append(f"{key}={value}")
        return found

    def like(self, name: str) -> str | None:
        """The label of a method as shipped, or the only one it has; None if it has none or several."""
        labels = [label for label in self.localizers if label.partition("[")[0] == name]
        return name if name in labels else labels[0] if len(labels) == 1 else None

    def why_not(self, name: str) -> str:
        """Why `like` finds no label."""
        labels = [label for label in self.localizers if label.partition("[")[0] == name]
        return f"several localizers are {name}: {listed(labels)}" if labels else f"no trials with {name}"

    def setting(self) -> str:
        """Where the localizers were compared."""
        size = f"{self.input_size} px" if self.input_size else "input size not recorded"
        crop = "" if self.center_crop in (None, NO_CROP) else f" cropped to {self.center_crop}"
        return f"{self.backbone}, {size}{crop}, {self.task}"


def comparison(study: LocalizationStudy) -> str:
    """What the published values are of, and whether ours are of the same."""
    differs = differences(study, RIDGE_BACKBONE)
    if study.input_size != RIDGE_INPUT_SIZE:
        differs.append(f"the input size is {study.input_size or 'not recorded'}")
    if study.center_crop not in (None, NO_CROP):
        differs.append(f"the center crop is {study.center_crop}")
    published = (
        "Published: the ridge paper's Table 1, MVTec AD, WideResNet-101-2 pretrained on ImageNet, "
        f"{RIDGE_INPUT_SIZE} px; its PaDiM ran without a GPU."
    )
    return f"{published} Not a reproduction: {', '.join(differs)}." if differs else published


def choose_localization(
    frame: pd.DataFrame, *, origins: Sequence[Origin] = (), **choices: Unpack[LocalizationChoices]
) -> LocalizationStudy:
    """Settle what the tables are about; what is not given has to be the only one there is.

    Parameters
    ----------
    frame
        Trials, each once; those of detection are left out.
    origins
        The runs they are of.
    choices
        ``dataset``, ``weights``, ``input_size`` and ``center_crop`` are needed only where the trials have
        several. The backbone is WideResNet-101-2 if it is there, the task the one with shipped settings.

    Raises
    ------
    AnalysisError
        If there is no trial of localization, or a choice is not there or not clear.
    """
    wanted = choices.pop("task", None)
    study = settle(frame, LOCALIZATION, RIDGE_BACKBONE, origins, choices)
    chosen = study.trials()
    tasks = sorted(map(str, chosen["task"].unique()))
    task = str(only(chosen, "task", LOCALIZATION if wanted is None and LOCALIZATION in tasks else wanted))
    localizers = chosen.loc[chosen["task"] == task, "localizer"].dropna().unique()
    return LocalizationStudy(
        **vars(study),
        task=task,
        localizers=tuple(ordered("localizer", map(str, localizers))),
        others=tuple(other for other in tasks if other != task),
    )
