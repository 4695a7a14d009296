"""What the scores of single images say: by category, by defect type, image by image, and two compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.rendering.table import Block, Cell, Row, Table, p_text
from multirun_analysis.stats.delong import Area, Comparison, area, compared
from multirun_analysis.stats.intervals import POINTS, holm
from multirun_analysis.summary.coverage import listed, provenance, random_weights
from multirun_analysis.summary.per_image import Scored
from multirun_analysis.trials.image_scores import Images
from multirun_analysis.trials.long_table import DIMENSIONS
from multirun_analysis.trials.run_info import Origin

INTERVALS = (
    "DeLong's 95 % intervals over the test images, on the logit scale (at an AUROC of exactly 1 or 0 "
    "Newcombe's), each line's alone"
)
UNSURE = "No interval: {} (DeLong's variance is 0, or a class has one image)."


def area_table(found: Scored, origins: Sequence[Origin] = ()) -> Table:
    """AUROC of each category of a configuration with DeLong's 95 % interval."""
    rows, unsure = [], []
    for category, images in found.images.items():
        estimate = area(images.scores, images.labels)
        if math.isnan(estimate.low):
            unsure.append(category)
        counts = (Cell(float(len(values)), 0) for values in (images.good, images.anomalous))
        interval = Cell(
            text=f"[{estimate.low:.3f}, {estimate.high:.3f}]" if not math.isnan(estimate.low) else ""
        )
        rows.append(Row(category, (Cell(estimate.value), interval, *counts)))
    return Table(
        name="scores",
        title="AUROC of single categories",
        caption=(f"{describe(found)}. {INTERVALS}.",),
        corner="category",
        columns=("AUROC", "[95 %]", "good", "anomalous"),
        blocks=(Block("test images", tuple(rows)),),
        notes=(*_unsure(unsure), *found.notes, *provenance(found.trials, origins)),
        warnings=random_weights(found.trials),
    )


def comparison_table(first: Scored, second: Scored, origins: Sequence[Origin] = ()) -> Table:
    """Two configurations on the same test images, category by category, by DeLong's test.

    Raises
    ------
    AnalysisError
        If they are the same, or share no category with the same test images.
    """
    a, b = differing(first, second)
    shared = [name for name in first.images if name in second.images]
    same = [n for n in shared if _same_images(first.images[n], second.images[n])]
    if first.choices.get("dataset") != second.choices.get("dataset") or not same:
        raise AnalysisError(
            "the two configurations have no category with the same test images: nothing can be paired"
        )
    found: dict[str, Comparison] = {
        name: compared(first.images[name].scores, second.images[name].scores, first.images[name].labels)
        for name in same
    }
    tested = [name for name, one in found.items() if not math.isnan(one.p)]
    corrected = dict(zip(tested, holm([found[name].p for name in tested]), strict=True))
    rows = tuple(
        Row(
            name,
            (
                Cell(one.first.value),
                Cell(one.second.value),
                Cell(POINTS * one.difference.value, 2, signed=True),
                Cell(text=_points(one.difference)),
                Cell(text=p_text(one.p)),
                Cell(text=p_text(corrected.get(name, math.nan))),
            ),
        )
        for name, one in found.items()
    )
    only = sorted(set(first.images) ^ set(second.images))
    notes = [f"Scores of one configuration only: {listed(only)}."] if only else []
    if len(same) < len(shared):
        notes.append(f"Other test images, not compared: {listed(sorted(set(shared) - set(same)))}.")
    notes += _unsure([name for name, one in found.items() if math.isnan(one.difference.low)])
    trials = pd.concat([first.trials, second.trials])
    return Table(
        name="scores_compared",
        title=f"{a} against {b}",
        caption=(
            f"Differences ({a} - {b}) in points (0.01 of AUROC) with DeLong's 95 % intervals, paired over "
            "the test images, each category's alone. p: two-sided, and Holm-corrected over "
            f"{len(tested)} categories.",
            f"{a}: {describe(first)}. {b}: {describe(second)}.",
        ),
        corner="category",
        columns=(a, b, "difference", "[95 %]", "p", "Holm p"),
        blocks=(Block("AUROC", rows),),
        notes=(
            *notes,
            *(f"{name}: {note}" for name, one in ((a, first), (b, second)) for note in one.notes),
            *provenance(trials, origins),
        ),
        warnings=random_weights(trials),
    )


def defect_table(found: Scored, origins: Sequence[Origin] = ()) -> Table | None:
    """AUROC of each defect type against all good images of its category; None where no types were kept."""
    blocks, unsure = [], []
    for category, images in found.images.items():
        types = np.array(images.defects or (), dtype=str)
        rows = []
        for defect in np.unique(types[images.labels != 0]).tolist() if len(types) else []:
            selected = (images.labels == 0) | (types == defect)
            estimate = area(images.scores[selected], images.labels[selected])
            if math.isnan(estimate.low):
                unsure.append(f"{category} {defect}")
            interval = Cell(
                text=f"[{estimate.low:.3f}, {estimate.high:.3f}]" if not math.isnan(estimate.low) else ""
            )
            rows.append(
                Row(defect, (Cell(estimate.value), interval, Cell(float((types == defect).sum()), 0)))
            )
        if rows:
            blocks.append(Block(category, tuple(rows)))
    if not blocks:
        return None
    return Table(
        name="scores_by_defect",
        title="AUROC of single defect types",
        caption=(f"{describe(found)}. Each type against all good images of its category. {INTERVALS}.",),
        corner="defect type",
        columns=("AUROC", "[95 %]", "images"),
        blocks=tuple(blocks),
        notes=(*_unsure(unsure), *_nameless(found), *found.notes, *provenance(found.trials, origins)),
        warnings=random_weights(found.trials),
    )


def misses_table(found: Scored, most: int, origins: Sequence[Origin] = ()) -> Table | None:
    """The images that are ranked worst: good ones that score highest, anomalous ones that score lowest.

    An image is listed if it is on the wrong side of at least one image of the other kind, at most ``most`` of
    each kind and category. None where no paths were kept.
    """
    blocks, clean = [], []
    for category, images in found.images.items():
        if images.paths is None or images.defects is None:
            continue
        rows: list[Row] = []
        for label in (0, 1):
            indices = np.flatnonzero(images.labels == label)
            other = np.sort(images.good if label else images.anomalous)
            # The share of the other kind that is on the wrong side of each, ties counted half.
            below, at = (np.searchsorted(other, images.scores[indices], side) for side in ("left", "right"))
            wrong = (below + at) / (2 * len(other))
            wrong = 1 - wrong if label else wrong
            worst = np.lexsort((indices, -wrong))[:most]
            rows += [
                Row(
                    images.paths[indices[i]],
                    (
                        Cell(text=images.defects[indices[i]]),
                        Cell(text=f"{images.scores[indices[i]]:.4g}"),
                        Cell(POINTS * float(wrong[i]), 1),
                    ),
                    rule_before=bool(rows) and i == worst[0],
                )
                for i in worst
                if wrong[i] > 0
            ]
        if rows:
            blocks.append(Block(category, tuple(rows)))
        else:
            clean.append(category)
    if not blocks and not clean:
        return None
    notes = [f"Every anomalous image scores above every good one: {listed(clean)}."] if clean else []
    return Table(
        name="scores_misses",
        title="Images that are ranked worst",
        caption=(
            f"{describe(found)}. Good images that score highest and anomalous ones that score lowest, at "
            f"most {most} of each. Beyond: on the wrong side of this share (%) of the other kind, ties half.",
        ),
        corner="image",
        columns=("type", "score", "beyond"),
        blocks=tuple(blocks),
        notes=(*notes, *_nameless(found), *found.notes, *provenance(found.trials, origins)),
        warnings=random_weights(found.trials),
    )


def _same_images(first: Images, second: Images) -> bool:
    if first.paths is not None and second.paths is not None and first.paths != second.paths:
        return False
    return np.array_equal(first.labels, second.labels)


def _nameless(found: Scored) -> list[str]:
    without = [category for category, images in found.images.items() if images.paths is None]
    return [f"No names of images were kept of {listed(without)}."] if without else []


def describe(found: Scored) -> str:
    """A configuration in words."""
    return ", ".join(f"{name}={value}" for name, value in found.choices.items())


def differing(first: Scored, second: Scored) -> tuple[str, str]:
    """What two configurations are called: the choices in which they differ.

    Raises
    ------
    AnalysisError
        If they differ in none.
    """
    names = [name for name in DIMENSIONS if first.choices.get(name) != second.choices.get(name)]
    if not names:
        raise AnalysisError("--where and --against select the same configuration")
    one, other = (
        " ".join(side.choices[name] for name in names if name in side.choices) for side in (first, second)
    )
    return one, other


def _points(difference: Area) -> str:
    if math.isnan(difference.low):
        return ""
    return f"[{POINTS * difference.low:+.2f}, {POINTS * difference.high:+.2f}]"


def _unsure(categories: Sequence[str]) -> list[str]:
    return [UNSURE.format(listed(categories))] if categories else []
