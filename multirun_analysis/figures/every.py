"""All figures of a study."""

from __future__ import annotations

from collections.abc import Sequence

from multirun_analysis.figures.against_published import published_scatter
from multirun_analysis.figures.of_effects import effects_picture, pareto_picture
from multirun_analysis.figures.over_layers import category_curves, heat_map
from multirun_analysis.figures.over_time import accuracy_against_time
from multirun_analysis.figures.ranks import critical_differences
from multirun_analysis.figures.rates import rate_curves
from multirun_analysis.figures.style import Picture
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.summary.effects import Effects
from multirun_analysis.summary.localizers import LocalizationStudy
from multirun_analysis.summary.study import Study


def pictures(study: Study, found: Effects, tables: Sequence[Table | Absent]) -> list[Picture | Absent]:
    """Every figure there are trials for; the others with why they are not made."""
    return [
        heat_map(study),
        rate_curves(study),
        category_curves(study),
        critical_differences(study),
        effects_picture(found, study),
        pareto_picture(found, study),
        published_scatter(tables, study),
    ]


def localization_pictures(study: LocalizationStudy) -> list[Picture | Absent]:
    """As `pictures`, of localization."""
    return [accuracy_against_time(study)]
