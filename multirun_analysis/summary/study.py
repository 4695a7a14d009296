"""What tables, claims and figures are about: trials of one task, data set, backbone and image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypedDict, Unpack

import numpy as np
import pandas as pd

from anomaly_sweep.tracking.names import DETECTION, STATUS_OK, SUBSET_PARAMS
from multirun_analysis.errors import AnalysisError
from multirun_analysis.summary.coverage import coverage, provenance, random_weights
from multirun_analysis.summary.means import MeanTable
from multirun_analysis.trials.labels import layer_order
from multirun_analysis.trials.long_table import context_in_words, crops_in_words, whole
from multirun_analysis.trials.run_info import Origin
from multirun_analysis.trials.tasks import trials_of


class Choices(TypedDict, total=False):
    """What a user may say of a study; what is not given has to be the only one there is.

    ``center_crop`` is a number of pixels or ``none``. ``train_images``, ``contamination`` and ``subset_seed``
    choose training images: where there are trials on all of them and nothing is chosen, these are taken.
    """

    dataset: str | None
    backbone: str | None
    weights: str | None
    input_size: int | None
    center_crop: str | None
    train_images: str | None
    contamination: float | None
    subset_seed: str | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """The trials of one task and data set, and the one choice of each context among them.

    Of the backbone, the frame holds the trials with one center crop only.
    """

    frame: pd.DataFrame
    dataset: str | None
    backbone: str
    weights: str | None
    input_size: int | None
    center_crop: str | None
    categories: tuple[str, ...]
    origins: tuple[Origin, ...] = ()
    #: What it is trained on, in words, where that is not all training images as they are.
    subset: str = ""

    _filters: ClassVar[tuple[str, ...]] = ("dataset", "backbone", "weights", "input_size")

    def where(self, **choices: str | None) -> dict[str, Any]:
        """The study's own choices and those given."""
        return {name: getattr(self, name) for name in self._filters} | choices

    def trials(self, **choices: str | None) -> pd.DataFrame:
        """The trials with these choices, failed ones too."""
        mask = np.ones(len(self.frame), dtype=bool)
        for name, value in self.where(**choices).items():
            if value is not None:
                mask &= self.frame[name].eq(value).to_numpy(dtype=bool, na_value=False)
        return self.frame[mask]

    def has(self, column: str, **choices: str | None) -> list[str]:
        """Values of a column among the trials with these choices, sorted."""
        return sorted(map(str, self.trials(**choices)[column].dropna().unique()))

    def works(self, column: str, **choices: str | None) -> list[str]:
        """As `has`, of the trials that did not fail."""
        return self.finished().has(column, **choices)

    def finished(self) -> Self:
        """The same without the trials that failed."""
        return replace(self, frame=self.frame[self.frame["status"].eq(STATUS_OK).fillna(False).astype(bool)])

    def warnings(self) -> tuple[str, ...]:
        """One line when the weights are random."""
        return random_weights(pd.DataFrame({"weights": [self.weights]}))

    def provenance(self, pivots: Sequence[MeanTable] | None = None) -> tuple[str, ...]:
        """Where the values of these tables, or of all its trials, come from."""
        trials = self.trials() if pivots is None else pd.concat([pivot.trials for pivot in pivots])
        return provenance(trials, self.origins)

    def coverage(self, pivots: Sequence[MeanTable]) -> list[str]:
        """How many categories stand behind the cells, and which do not."""
        return [*coverage(pivots, len(self.categories)), *of_seeds(pivots)]


class StudyChoices(Choices, total=False):
    """What a user may say of a study of detection."""

    layer: str | None


@dataclass(frozen=True, kw_only=True)
class DetectionStudy(Study):
    """A study of detection trials, and the layer its tables are at where they are at one."""

    layer: str


def detection_study(
    frame: pd.DataFrame,
    *,
    preferred: str | None = None,
    origins: Sequence[Origin] = (),
    **choices: Unpack[StudyChoices],
) -> DetectionStudy:
    """Settle what the tables are about; what is not given has to be the only one there is.

    Parameters
    ----------
    frame
        Trials, each once; those of localization are left out.
    preferred
        The backbone where none is given and it is there.
    origins
        The runs they are of.
    choices
        ``dataset``, ``weights``, ``input_size`` and ``center_crop`` are needed only where the trials have
        several. The layer is the backbone's deepest level if none is given.

    Raises
    ------
    AnalysisError
        If there is no trial of detection, or a choice is not there or not clear.
    """
    wanted = choices.pop("layer", None)
    study = settle(frame, DETECTION, preferred, origins, choices)
    layers = sorted(study.has("layer"), key=layer_order)
    return DetectionStudy(**vars(study), layer=_layer(layers, wanted, study.backbone))


def settle(
    frame: pd.DataFrame, task: str, preferred: str | None, origins: Sequence[Origin], choices: Choices
) -> Study:
    """A study of a task's trials: what is not given has to be the only one there is.

    Parameters
    ----------
    frame
        Trials, each once.
    task
        The name of theirs that are taken.
    preferred
        The backbone where none is given and it is there; None for no such.
    """
    frame = trials_of(frame, task)
    dataset = only(frame, "dataset", choices.get("dataset"))
    if dataset is not None:
        frame = frame[frame["dataset"] == dataset]
    frame, subset = _subset(frame, choices)
    categories = tuple(sorted(frame["category"].dropna().unique()))
    backbone = choices.get("backbone")
    if backbone is None and preferred is not None and (frame["backbone"] == preferred).any():
        backbone = preferred
    backbone = only(frame, "backbone", backbone)
    if backbone is None:
        raise AnalysisError("the trials have no backbone: they were not recorded by anomaly-sweep")
    ours = crops_in_words(frame[frame["backbone"] == backbone])
    weights = only(ours, "weights", choices.get("weights"))
    if weights is not None:
        ours = ours[ours["weights"] == weights]
    requested_size = choices.get("input_size")
    size = only(ours, "input_size", None if requested_size is None else str(requested_size))
    if size is not None:
        ours = ours[ours["input_size"] == int(size)]
    crop = only(ours, "center_crop", choices.get("center_crop"))
    others = (frame["backbone"] == backbone) & (crops_in_words(frame)["center_crop"] != crop)
    return Study(
        frame=frame[~others.fillna(False).astype(bool)],
        dataset=dataset,
        backbone=backbone,
        weights=weights,
        input_size=None if size is None else int(size),
        center_crop=crop,
        categories=categories,
        origins=tuple(origins),
        subset=subset,
    )


def _subset(frame: pd.DataFrame, choices: Choices) -> tuple[pd.DataFrame, str]:
    """The trials of one choice of training images, and that choice in words."""
    wanted = {name: choices.get(name) for name in SUBSET_PARAMS}
    all_of_it = whole(frame)
    if all(value is None for value in wanted.values()) and all_of_it.any():
        return frame[all_of_it], ""
    rows = pd.Series(True, frame.index)
    words = context_in_words(frame).assign(contamination=lambda t: t["contamination"].map("{:g}".format))
    for name in SUBSET_PARAMS:
        value = wanted[name]
        found = only(words[rows], name, None if value is None else _number(value))
        rows &= (words[name] == found).fillna(False).astype(bool)
    images, share, seed = (words[rows][name].iloc[0] for name in SUBSET_PARAMS)
    if whole(frame[rows]).all():
        return frame[rows], ""
    return frame[rows], f"{images} training images, contamination {share}, seed {seed}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def only(frame: pd.DataFrame, column: str, wanted: str | None) -> str | None:
    """The value of a column that was asked for, or the only one there is; None if there is none.

    Raises
    ------
    AnalysisError
        If it is not there, or there are several to choose from.
    """
    values = sorted(map(str, frame[column].dropna().unique()))
    option = f"--{column.replace('_', '-')}"
    if wanted is not None:
        if wanted not in values:
            raise AnalysisError(
                f"no trials with {column} {wanted!r}; there are: {', '.join(values) or 'none'}"
            )
        return wanted
    if len(values) > 1:
        raise AnalysisError(
            f"the trials have several values of {column}: choose one with {option}: {', '.join(values)}"
            + (", or all" if column == "backbone" else "")
        )
    return values[0] if values else None


def backbones_of(frame: pd.DataFrame, task: str, preferred: str | None = None) -> list[str]:
    """The backbones of a task's trials, the preferred one first."""
    names = map(str, trials_of(frame, task)["backbone"].dropna().unique())
    return sorted(names, key=lambda name: (name != preferred, name))


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


def of_seeds(pivots: Sequence[MeanTable]) -> list[str]:
    """What another seed does to the trials behind the cells, where some were run with several."""
    columns = [pivot.trials["image_auroc_sd"] for pivot in pivots if "image_auroc_sd" in pivot.trials]
    spread = pd.concat(columns).dropna() if columns else pd.Series(dtype=float)
    if spread.empty:
        return []
    return [
        f"Trials of several seeds are their means; standard deviation of a trial's AUROC between seeds: "
        f"{100 * spread.mean():.2f} points on average, {100 * spread.max():.2f} at most."
    ]
