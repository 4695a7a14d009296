"""Ono & Mori as a paper of the analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import pandas as pd

from anomaly_sweep.tracking.names import DETECTION
from multirun_analysis.papers.base import AllChoices, Paper, context_of
from multirun_analysis.papers.ono_mori.claims import check_claims, claims_table
from multirun_analysis.papers.ono_mori.study import choose_study, comparison
from multirun_analysis.papers.ono_mori.tables import tables_of
from multirun_analysis.papers.published import PAPER_BACKBONE, ono_mori
from multirun_analysis.papers.verdicts import Claim
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.summary.effects import Effects, effects
from multirun_analysis.summary.effects_tables import effects_tables
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.run_info import Origin

if TYPE_CHECKING:
    from multirun_analysis.figures.style import Picture


class OnoMori(Paper[DetectionStudy]):
    """Tables 2 to 4, the augmentation comparison, the statements, the effects of the groups."""

    name = "ono_mori"
    title = "Ono & Mori"
    task = DETECTION
    backbone = PAPER_BACKBONE
    options = ("layer",)
    has_effects = True

    def study(
        self, trials: pd.DataFrame, *, origins: Sequence[Origin] = (), **choices: Unpack[AllChoices]
    ) -> DetectionStudy:
        """See `choose_study`."""
        context = context_of(choices)
        return choose_study(trials, origins=origins, layer=choices.get("layer"), **context)

    def tables(self, study: DetectionStudy) -> list[Table | Absent]:
        """Tables 2 to 4 and the augmentation comparison."""
        return tables_of(study)

    def claims(self, study: DetectionStudy) -> list[Claim]:
        """The statements on image AUROC."""
        return check_claims(study)

    def claims_table(self, claims: Sequence[Claim], study: DetectionStudy) -> Table:
        """The statements as a table."""
        return claims_table(claims, study)

    def effects(self, study: DetectionStudy) -> Effects:
        """What each group contributes."""
        return effects(study)

    def effects_tables(self, effects: Effects, study: DetectionStudy) -> list[Table | Absent]:
        """Importance, marginal means, best configurations and the Pareto front."""
        return effects_tables(effects, study)

    def pictures(
        self, study: DetectionStudy, effects: Effects | None, tables: Sequence[Table | Absent]
    ) -> list[Picture | Absent]:
        """Layers, rates, categories, ranks, effects, the front, and ours against the published values."""
        from multirun_analysis.figures.catalog import detection_pictures  # matplotlib is slow to import

        assert effects is not None
        table2 = {mode: value for (mode, _), value in ono_mori("table2").items()}
        return detection_pictures(study, effects, tables, table2, comparison(study))


PAPER = OnoMori()
