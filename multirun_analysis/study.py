"""What a set of tables is about: one data set, backbone, weights and input size out of a frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.pivot import MISSING, PivotResult
from multirun_analysis.published import PAPER_BACKBONE, is_mvtec_ad

LISTED = 8  # of a long list, this many are named
RANDOM = "random"


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

    @property
    def is_paper_dataset(self) -> bool:
        """Whether the categories are those of the paper's Table 3."""
        return is_mvtec_ad(self.dataset, set(self.categories))

    def warnings(self) -> tuple[str, ...]:
        """One line when the weights are random."""
        if self.weights is None or not self.weights.startswith(RANDOM):
            return ()
        return (
            f"WARNING: random weights ({self.weights}): these values say nothing about pretrained features.",
        )

    def comparison(self) -> str:
        """What the published values are of, and whether ours are of the same."""
        differs = []
        if not self.is_paper_dataset:
            differs.append(f"the data set is {self.dataset or 'not recorded'}")
        if self.backbone != PAPER_BACKBONE:
            differs.append(f"the backbone is {self.backbone}")
        if self.weights is None or self.weights.startswith(RANDOM):
            differs.append(f"the weights are {self.weights or 'not recorded'}")
        published = "Published: Ono & Mori, MVTec AD, EfficientNet-B5 pretrained on ImageNet."
        return f"{published} Not a reproduction: {', '.join(differs)}." if differs else published

    def provenance(self, pivots: Sequence[PivotResult]) -> str:
        """Where the values come from."""
        trials = pd.concat([pivot.trials for pivot in pivots])
        sweeps = sorted(trials["sweep"].dropna().unique()) or ["none (single runs)"]
        return (
            f"Data: sweep {', '.join(sweeps)}; {trials['run_id'].nunique()} runs; "
            f"data set {self.dataset or 'not recorded'}; weights {self.weights or 'not recorded'}; "
            f"input size {self.input_size or 'not recorded'}."
        )

    def coverage(self, pivots: Sequence[PivotResult]) -> list[str]:
        """How many categories stand behind the cells, and which do not."""
        holes = pd.concat([_named_holes(pivot) for pivot in pivots])
        whole_cells = holes[holes["empty"]].drop_duplicates("cell")
        partial = holes[~holes["empty"]]
        total = len(self.categories)
        complete = total - partial["category"].nunique()
        lines = [f"Coverage: {complete} of {total} categories complete in the cells that were run."]
        failed, missing = partial[partial["status"] != MISSING], partial[partial["status"] == MISSING]
        if len(failed):
            lines.append(f"Failed: {_listed(failed['category'] + ' at ' + failed['cell'] + failed['why'])}.")
        if len(missing):
            lines.append(f"Missing: {_listed(missing['category'] + ' at ' + missing['cell'])}.")
        if len(whole_cells):
            lines.append(f"Not run: {_listed(whole_cells['cell'])}.")
        return lines


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
        )
    return there[0] if there else None


def _named_holes(pivot: PivotResult) -> pd.DataFrame:
    """The holes of a table with a name for the place, and whether all of its cell was never run."""
    keys = [name for name in (pivot.rows, pivot.cols) if name != "category"]
    averaged = [str(name) for name in pivot.holes if name not in (*keys, "category", "status", "reason")]
    cells = _texts(pivot.holes, keys)
    ran = set(_texts(pivot.trials, keys))
    empty = [cell not in ran for cell in cells]
    places = _texts(pivot.holes, keys + averaged)
    return pd.DataFrame(
        {
            "category": pivot.holes["category"],
            "status": pivot.holes["status"],
            "why": [f" ({reason})" if reason else "" for reason in pivot.holes["reason"]],
            "cell": [c if e else place for c, place, e in zip(cells, places, empty, strict=True)],
            "empty": pd.Series(empty, dtype=bool),
        }
    )


def _texts(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    return [" ".join(values) for values in zip(*(frame[name].astype(str) for name in columns), strict=True)]


def _listed(values: pd.Series) -> str:
    distinct = list(dict.fromkeys(values))
    more = f", and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
    return ", ".join(distinct[:LISTED]) + more
