"""What a paper is to the analysis: how its study is made of trials, its tables, statements and figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, Unpack

import pandas as pd

from multirun_analysis.papers.verdicts import Claim
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.summary.effects import Effects
from multirun_analysis.summary.study import Choices, Study, backbones_of
from multirun_analysis.trials.run_info import Origin

if TYPE_CHECKING:
    from multirun_analysis.figures.style import Picture

S = TypeVar("S", bound=Study)


class AllChoices(Choices, total=False):
    """What a user may say of any paper's study.

    ``layer`` (of detection) and ``task`` (a task with its settings) are those papers' that have them among
    their ``options``.
    """

    layer: str | None
    task: str | None


def context_of(choices: AllChoices) -> Choices:
    """Those of the choices that every study has."""
    return Choices(
        dataset=choices.get("dataset"),
        backbone=choices.get("backbone"),
        weights=choices.get("weights"),
        input_size=choices.get("input_size"),
        center_crop=choices.get("center_crop"),
        train_images=choices.get("train_images"),
        contamination=choices.get("contamination"),
        subset_seed=choices.get("subset_seed"),
    )


#: The choices that not every paper's study has.
OPTIONS = ("layer", "task")


class Paper(ABC, Generic[S]):
    """A paper: the one thing that commands, report and the sweep's end know of it.

    Subclasses make a study of trials and tables of a study; statements, effects and figures where the paper
    has any. ``PAPER`` of the module that ``multirun_analysis.papers.PAPERS`` names is an instance.
    """

    #: Its key, as in ``--paper``.
    name: ClassVar[str]
    #: As it is called in headings.
    title: ClassVar[str]
    #: The task whose trials it concerns.
    task: ClassVar[str]
    #: The backbone that is taken where none is chosen and it is there.
    backbone: ClassVar[str | None] = None
    #: Those of `OPTIONS` that its study has.
    options: ClassVar[tuple[str, ...]] = ()
    #: Whether the groups of its configurations have effects to tell.
    has_effects: ClassVar[bool] = False
    #: File with all of its tables, to compile.
    document: ClassVar[str] = "document.tex"

    def backbones(self, trials: pd.DataFrame) -> list[str]:
        """The backbones of the task's trials, the paper's first.

        Raises
        ------
        AnalysisError
            If there are trials, and none is of the task.
        """
        return backbones_of(trials, self.task, self.backbone)

    @abstractmethod
    def study(
        self, trials: pd.DataFrame, *, origins: Sequence[Origin] = (), **choices: Unpack[AllChoices]
    ) -> S:
        """Settle what the tables are about.

        Parameters
        ----------
        trials
            Each once, of any task.
        origins
            The runs they are of.
        choices
            Those of `Choices` and of the paper's ``options``; None where not chosen.

        Raises
        ------
        AnalysisError
            If a choice is not there or not clear.
        """

    @abstractmethod
    def tables(self, study: S) -> list[Table | Absent]:
        """Every table of the paper, or why it is not made."""

    def claims(self, study: S) -> list[Claim]:  # noqa: ARG002
        """The paper's statements, checked on the study's trials and decided together."""
        return []

    def claims_table(self, claims: Sequence[Claim], study: S) -> Table | None:  # noqa: ARG002
        """The statements as a table; None where the paper has none."""
        return None

    def effects(self, study: S) -> Effects | None:  # noqa: ARG002
        """What each group contributes; None where the paper's trials have no groups to tell apart."""
        return None

    def effects_tables(self, effects: Effects, study: S) -> list[Table | Absent]:  # noqa: ARG002
        """The effects as tables."""
        return []

    def pictures(
        self,
        study: S,  # noqa: ARG002
        effects: Effects | None,  # noqa: ARG002
        tables: Sequence[Table | Absent],  # noqa: ARG002
    ) -> list[Picture | Absent]:
        """Every figure, or why it is not made.

        Parameters
        ----------
        study
            What they are of.
        effects, tables
            Its effects and tables, which need not be worked out again.
        """
        return []
