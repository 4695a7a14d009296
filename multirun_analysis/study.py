"""What a set of tables is about: one data set, backbone, weights and input size out of a frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from anomaly_sweep.tracking.names import STATUS_OK
from multirun_analysis.coverage import RANDOM, coverage, provenance, random_weights
from multirun_analysis.errors import AnalysisError
from multirun_analysis.pivot import PivotResult
from multirun_analysis.published import PAPER_BACKBONE, PAPER_CATEGORIES, is_mvtec_ad


@dataclass(frozen=True)
class Study:
    """One choice of data set, backbone, weights and input size, and the layer the paper calls best."""

    frame: pd.DataFrame
    dataset: str | None
    backbone: str
    weights: str | None
    input_size: int | None
    layer: str
    categories: tuple[str, ...]

    def where(self, **choices: str | None) -> dict[str, Any]:
        """The study's own choices and those given."""
        own = {name: getattr(self, name) for name in ("dataset", "backbone", "weights", "input_size")}
        return own | choices

    def has(self, column: str, **choices: str | None) -> list[str]:
        """Values of a column among the trials with these choices, sorted."""
        trials = self.frame
        for name, value in self.where(**choices).items():
            if value is not None:
                trials = trials[trials[name].eq(value).fillna(False).astype(bool)]
        return sorted(map(str, trials[column].dropna().unique()))

    def works(self, column: str, **choices: str | None) -> list[str]:
        """As `has`, of the trials that did not fail."""
        ok = self.frame["status"].eq(STATUS_OK).fillna(False).astype(bool)
        return replace(self, frame=self.frame[ok]).has(column, **choices)

    @property
    def is_paper_dataset(self) -> bool:
        """Whether the categories are those of the paper's Table 3."""
        return is_mvtec_ad(self.dataset, set(self.categories))

    def warnings(self) -> tuple[str, ...]:
        """One line when the weights are random."""
        return random_weights(pd.DataFrame({"weights": [self.weights]}))

    def comparison(self) -> str:
        """What the published values are of, and whether ours are of the same."""
        differs = []
        if not self.is_paper_dataset:
            differs.append(f"the data set is {self.dataset or 'not recorded'}")
        elif len(self.categories) < PAPER_CATEGORIES:
            differs.append(f"{len(self.categories)} of its {PAPER_CATEGORIES} categories")
        if self.backbone != PAPER_BACKBONE:
            differs.append(f"the backbone is {self.backbone}")
        if self.weights is None or self.weights.startswith(RANDOM):
            differs.append(f"the weights are {self.weights or 'not recorded'}")
        published = "Published: Ono & Mori, MVTec AD, EfficientNet-B5 pretrained on ImageNet."
        return f"{published} Not a reproduction: {', '.join(differs)}." if differs else published

    def provenance(self, pivots: Sequence[PivotResult]) -> str:
        """Where the values come from."""
        return provenance(pd.concat([pivot.trials for pivot in pivots]))

    def coverage(self, pivots: Sequence[PivotResult]) -> list[str]:
        """How many categories stand behind the cells, and which do not."""
        return coverage(pivots, len(self.categories))


def choose_study(
    frame: pd.DataFrame,
    *,
    dataset: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    input_size: int | None = None,
    layer: str | None = None,
) -> Study:
    """Settle what the tables are about; what is not given has to be the only one there is.

    The backbone is EfficientNet-B5 if it is there, the layer the backbone's deepest level.
    """
    dataset = _one(frame, "dataset", dataset)
    if dataset is not None:
        frame = frame[frame["dataset"] == dataset]
    categories = tuple(sorted(frame["category"].dropna().unique()))
    if backbone is None and (frame["backbone"] == PAPER_BACKBONE).any():
        backbone = PAPER_BACKBONE
    backbone = _one(frame, "backbone", backbone)
    if backbone is None:
        raise AnalysisError("the trials have no backbone: they were not recorded by anomaly-sweep")
    ours = frame[frame["backbone"] == backbone]
    weights = _one(ours, "weights", weights)
    if weights is not None:
        ours = ours[ours["weights"] == weights]
    size = _one(ours, "input_size", None if input_size is None else str(input_size))
    layers = sorted(map(str, ours["layer"].dropna().unique()), key=layer_order)
    return Study(
        frame,
        dataset,
        backbone,
        weights,
        None if size is None else int(size),
        _layer(layers, layer, backbone),
        categories,
    )


def backbones(frame: pd.DataFrame) -> list[str]:
    """The backbones there are, the paper's first."""
    there = map(str, frame["backbone"].dropna().unique())
    return sorted(there, key=lambda name: (name != PAPER_BACKBONE, name))


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


def _one(frame: pd.DataFrame, column: str, wanted: str | None) -> str | None:
    there = sorted(map(str, frame[column].dropna().unique()))
    option = f"--{column.replace('_', '-')}"
    if wanted is not None:
        if wanted not in there:
            raise AnalysisError(
                f"no trials with {column} {wanted!r}; there are: {', '.join(there) or 'none'}"
            )
        return wanted
    if len(there) > 1:
        raise AnalysisError(
            f"the trials have several values of {column}: choose one with {option}: {', '.join(there)}"
            + (", or all" if column == "backbone" else "")
        )
    return there[0] if there else None
