"""What the tables of Ono & Mori are about, what they are compared with, and where their trials come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import pandas as pd

from multirun_analysis.papers.published import PAPER_BACKBONE, differences
from multirun_analysis.rendering.table import Absent
from multirun_analysis.summary.study import DetectionStudy, StudyChoices, detection_study
from multirun_analysis.trials.run_info import Origin

GRID = "ono_mori_grid"
ORDER = ("layer", "pooling", "augmentation", "pca_mode", "estimator")


def choose_study(
    frame: pd.DataFrame, *, origins: Sequence[Origin] = (), **choices: Unpack[StudyChoices]
) -> DetectionStudy:
    """`detection_study`, of EfficientNet-B5 where no backbone is given and it is there."""
    return detection_study(frame, preferred=PAPER_BACKBONE, origins=origins, **choices)


def comparison(study: DetectionStudy) -> str:
    """What the published values are of, and whether ours are of the same."""
    differs = differences(study, PAPER_BACKBONE)
    published = "Published: Ono & Mori, MVTec AD, EfficientNet-B5 pretrained on ImageNet."
    return f"{published} Not a reproduction: {', '.join(differs)}." if differs else published


def fixed(study: DetectionStudy, **choices: str | None) -> str:
    """The choices that are the same in every cell."""
    settings = {"backbone": study.backbone, **{name: choices.get(name) for name in ORDER}}
    return f"Fixed: {', '.join(f'{name}={value}' for name, value in settings.items() if value)}."


def absent(
    name: str, title: str, varied: str, available: list[str], choices: dict[str, str], experiment: str
) -> Absent:
    """Why a table is not made, and the experiment that makes its trials."""
    at = ", ".join(f"{key}={value}" for key, value in choices.items())
    have = f"only {varied} {available[0]}" if available else "no trials"
    return Absent(
        name,
        title,
        f"{have} at {at}. Run anomaly-sweep -m experiment={experiment}; "
        "if it was run, name its sweep with --sweep NAME or use --sweep all",
    )
