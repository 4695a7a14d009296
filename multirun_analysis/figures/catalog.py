"""All figures of a study of detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multirun_analysis.figures.against_published import published_scatter
from multirun_analysis.figures.effects import effects_picture, pareto_picture
from multirun_analysis.figures.layers import category_curves, heat_map
from multirun_analysis.figures.ranks import critical_differences
from multirun_analysis.figures.rates import rate_curves
from multirun_analysis.figures.style import Picture
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.summary.effects import Effects
from multirun_analysis.summary.study import DetectionStudy


def detection_pictures(
    study: DetectionStudy,
    found: Effects,
    tables: Sequence[Table | Absent],
    published: Mapping[str, float],
    comparison: str,
) -> list[Picture | Absent]:
    """Every figure there are trials for; the others with why they are not made.

    Parameters
    ----------
    study
        Whose trials.
    found, tables
        Its effects and its paper's tables.
    published
        Published mean AUROC by reduction.
    comparison
        What the published values are of.
    """
    return [
        heat_map(study),
        rate_curves(study, published),
        category_curves(study),
        critical_differences(study),
        effects_picture(found, study),
        pareto_picture(found, study),
        published_scatter(tables, comparison),
    ]
