"""The ridge paper as a paper of the analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import pandas as pd

from multirun_analysis.papers.base import AllChoices, Paper, context_of
from multirun_analysis.papers.published import RIDGE_BACKBONE
from multirun_analysis.papers.ridge.claims import check_ridge_claims, ridge_claims_table
from multirun_analysis.papers.ridge.study import LOCALIZATION, LocalizationStudy, choose_localization
from multirun_analysis.papers.ridge.tables import ridge_tables_of
from multirun_analysis.papers.verdicts import Claim
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.summary.effects import Effects
from multirun_analysis.trials.run_info import Origin

if TYPE_CHECKING:
    from multirun_analysis.figures.style import Picture


class Ridge(Paper[LocalizationStudy]):
    """Accuracy and time of ridge regression, PatchCore and PaDiM."""

    name = "ridge"
    title = "the ridge paper"
    task = LOCALIZATION
    backbone = RIDGE_BACKBONE
    options = ("task",)
    document = "ridge_document.tex"

    def study(
        self, trials: pd.DataFrame, *, origins: Sequence[Origin] = (), **choices: Unpack[AllChoices]
    ) -> LocalizationStudy:
        """See `choose_localization`."""
        context = context_of(choices)
        return choose_localization(trials, origins=origins, task=choices.get("task"), **context)

    def tables(self, study: LocalizationStudy) -> list[Table | Absent]:
        """Table 1, and what stands behind it."""
        return ridge_tables_of(study)

    def claims(self, study: LocalizationStudy) -> list[Claim]:
        """The statements on accuracy and time."""
        return check_ridge_claims(study)

    def claims_table(self, claims: Sequence[Claim], study: LocalizationStudy) -> Table:
        """The statements as a table."""
        return ridge_claims_table(claims, study)

    def pictures(
        self,
        study: LocalizationStudy,
        effects: Effects | None,  # noqa: ARG002
        tables: Sequence[Table | Absent],  # noqa: ARG002
    ) -> list[Picture | Absent]:
        """Accuracy against time."""
        from multirun_analysis.papers.ridge.accuracy_time import accuracy_against_time  # matplotlib

        return [accuracy_against_time(study)]


PAPER = Ridge()
