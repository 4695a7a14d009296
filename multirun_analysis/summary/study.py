"""What the tables of Ono & Mori are about: a scope of detection trials, and the layer called best."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.published import PAPER_BACKBONE
from multirun_analysis.summary.coverage import Origin
from multirun_analysis.summary.scope import Choices, Scope, backbones_of, settle
from multirun_analysis.trials.tasks import detection_of


class StudyChoices(Choices, total=False):
    """What a user may say of a study."""

    layer: str | None


@dataclass(frozen=True, kw_only=True)
class Study(Scope):
    """A scope of detection trials, and the layer the paper calls best."""

    layer: str

    def comparison(self) -> str:
        """What the published values are of, and whether ours are of the same."""
        differs = self.differences(PAPER_BACKBONE)
        published = "Published: Ono & Mori, MVTec AD, EfficientNet-B5 pretrained on ImageNet."
        return f"{published} Not a reproduction: {', '.join(differs)}." if differs else published


def choose_study(
    frame: pd.DataFrame, *, origins: Sequence[Origin] = (), **choices: Unpack[StudyChoices]
) -> Study:
    """Settle what the tables are about; what is not given has to be the only one there is.

    Parameters
    ----------
    frame
        Trials, each once; those of localization are left out.
    origins
        The runs they are of.
    choices
        ``dataset``, ``weights``, ``input_size`` and ``center_crop`` are needed only where the trials have
        several. The backbone is EfficientNet-B5 if it is there, the layer the backbone's deepest level.

    Raises
    ------
    AnalysisError
        If there is no trial of detection, or a choice is not there or not clear.
    """
    wanted = choices.pop("layer", None)
    scope = settle(detection_of(frame), PAPER_BACKBONE, origins, choices)
    layers = sorted(scope.has("layer"), key=layer_order)
    return Study(**vars(scope), layer=_layer(layers, wanted, scope.backbone))


def backbones(frame: pd.DataFrame) -> list[str]:
    """The backbones of the detection trials, the paper's first."""
    return backbones_of(detection_of(frame), PAPER_BACKBONE)


def layer_order(layer: str) -> tuple[int, int, str]:
    """Sort key: levels by number, then ``all``, then any other name."""
    match = re.fullmatch(r"level(\d+)", layer)
    return (0, int(match[1]), "") if match else (1 if layer == "all" else 2, 0, layer)


def _layer(layers: list[str], wanted: str | None, backbone: str) -> str:
    if wanted is not None:
        for name in (wanted, f"level{wanted}"):
            if name in layers:
                return name
        raise AnalysisError(f"no trials of {backbone} at layer {wanted!r}; there are: {', '.join(layers)}")
    levels = [layer for layer in layers if layer_order(layer)[0] == 0]
    if levels:
        return levels[-1]
    if len(layers) == 1:
        return layers[0]
    raise AnalysisError(
        f"which layer of {backbone}? Choose with --layer: {', '.join(layers) or 'none there'}"
    )
