"""Trials analysed: a study for each paper and backbone, and what the paper makes of it, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers import PAPERS, paper_named, papers_of
from multirun_analysis.papers.base import OPTIONS, AllChoices, Paper
from multirun_analysis.papers.verdicts import NOT_ENOUGH, Claim
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.summary.effects import Effects
from multirun_analysis.summary.study import Study
from multirun_analysis.trials.run_info import Origin
from multirun_analysis.trials.tasks import tasks_of

if TYPE_CHECKING:
    from multirun_analysis.figures.style import Picture


@dataclass(frozen=True)
class Analysis:
    """A paper applied to a study; each part is worked out when it is first asked for, and once."""

    paper: Paper[Any]
    study: Study

    @cached_property
    def tables(self) -> list[Table | Absent]:
        """The paper's tables."""
        return self.paper.tables(self.study)

    @cached_property
    def claims(self) -> list[Claim]:
        """The paper's statements, checked."""
        return self.paper.claims(self.study)

    @cached_property
    def claims_table(self) -> Table | None:
        """They as a table."""
        return self.paper.claims_table(self.claims, self.study)

    @cached_property
    def checked_table(self) -> Table | None:
        """The statements that there are runs enough for; None where there are none."""
        checked = [claim for claim in self.claims if claim.verdict != NOT_ENOUGH]
        return self.paper.claims_table(checked, self.study) if checked else None

    @cached_property
    def effects(self) -> Effects | None:
        """What each group contributes."""
        return self.paper.effects(self.study)

    @cached_property
    def effects_tables(self) -> list[Table | Absent]:
        """It as tables."""
        return [] if self.effects is None else self.paper.effects_tables(self.effects, self.study)

    @cached_property
    def pictures(self) -> list[Picture | Absent]:
        """The paper's figures."""
        return self.paper.pictures(self.study, self.effects, self.tables)


@dataclass(frozen=True)
class Analyses:
    """The studies there are, each with its paper, and what cannot be one: its name and why."""

    found: list[Analysis] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def analyse(
    trials: pd.DataFrame,
    *,
    every: bool,
    origins: Sequence[Origin] = (),
    papers: Sequence[Paper[Any]] | None = None,
    **choices: Unpack[AllChoices],
) -> Analyses:
    """A study for each paper whose task there are trials of; see `Paper.study`.

    Parameters
    ----------
    trials
        Each once.
    every
        One for each backbone of a task, whatever ``backbone`` says.
    origins
        The runs they are of.
    papers
        Those to make studies for; None for all that concern the trials' tasks.
    choices
        What the studies are about.

    Raises
    ------
    AnalysisError
        If there is none, or a choice is of a task without trials.
    """
    if papers is None:
        papers = papers_of(tasks_of(trials))
    for option in OPTIONS:
        if choices.get(option) is not None and not any(option in paper.options for paper in papers):
            owners = [paper for paper in papers_of_option(option) if paper not in papers]
            of = " and ".join(dict.fromkeys(paper.task for paper in owners))
            raise AnalysisError(f"--{option} is of {of}: there are no trials of it")
    result = Analyses()
    for paper in papers:
        for backbone in paper.backbones(trials) if every else [choices.get("backbone")]:
            backbone_choices = AllChoices(**choices)
            backbone_choices["backbone"] = backbone
            try:
                study = paper.study(trials, origins=origins, **backbone_choices)
            except AnalysisError as error:
                result.refused.append((backbone or paper.task, str(error)))
            else:
                result.found.append(Analysis(paper, study))
    if not result.found:
        reasons = [
            reason if len(result.refused) == 1 else f"{name}: {reason}" for name, reason in result.refused
        ]
        raise AnalysisError("; ".join(reasons) or "the trials have no backbone")
    return result


def analysis_of(
    paper: Paper[Any],
    trials: pd.DataFrame,
    *,
    origins: Sequence[Origin] = (),
    **choices: Unpack[AllChoices],
) -> Analysis:
    """One paper's, of the backbone chosen or the paper's own.

    Raises
    ------
    AnalysisError
        If a choice is not the paper's, not there or not clear.
    """
    for option in OPTIONS:
        if choices.get(option) is not None and option not in paper.options:
            raise AnalysisError(f"--{option} has no part in --paper {paper.name}")
    return Analysis(paper, paper.study(trials, origins=origins, **choices))


def papers_of_option(option: str) -> list[Paper[Any]]:
    """The papers whose study has an option."""
    return [paper for paper in map(paper_named, PAPERS) if option in paper.options]


def tables(
    trials: pd.DataFrame,
    paper: str | Paper[Any] | None = None,
    *,
    origins: Sequence[Origin] = (),
    **choices: Unpack[AllChoices],
) -> list[Table | Absent]:
    """A paper's tables, made of trials.

    Parameters
    ----------
    trials : pandas.DataFrame
        As `read_trials` gives them.
    paper : str or Paper, optional
        ``"ono_mori"``, ``"ridge"``, the module of another, or a paper itself; the one that the trials are of
        when None.
    origins : sequence of Origin
        The runs they are of.
    choices
        ``dataset``, ``backbone``, ``weights``, ``input_size``, ``center_crop`` where the trials have
        several; ``layer`` of detection, ``task`` of localization.

    Returns
    -------
    list of Table or Absent
        An `Absent` says why a table is not made.

    Raises
    ------
    AnalysisError
        If a choice is not there or not clear.

    Examples
    --------
    >>> from multirun_analysis.trials.long_table import as_trials
    >>> trials = as_trials(pd.DataFrame([
    ...     {"dataset": "parts", "category": "bolt", "backbone": "resnet18", "layer": "level4",
    ...      "pooling": "avg", "augmentation": "none", "pca_mode": mode, "estimator": "mvg",
    ...      "image_auroc": auroc, "status": "ok"}
    ...     for mode, auroc in {"pca50": 0.7, "npca50": 0.9, "none": 0.8}.items()
    ... ]))
    >>> table2, *others = tables(trials)
    >>> [(row.header, row.cells[-1].printed) for row in table2.blocks[0].rows]
    [('PCA', '0.700'), ('NPCA', '0.900'), ('none', None)]
    """
    return analysis_of(_paper(paper, trials), trials, origins=origins, **choices).tables


def claims(
    trials: pd.DataFrame,
    paper: str | Paper[Any] | None = None,
    **choices: Unpack[AllChoices],
) -> list[Claim]:
    """A paper's statements, checked on trials and decided together.

    Parameters
    ----------
    trials : pandas.DataFrame
        As `read_trials` gives them.
    paper : str or Paper, optional
        As of `tables`.
    choices
        As of `tables`.

    Returns
    -------
    list of Claim

    Raises
    ------
    AnalysisError
        If a choice is not there or not clear.

    Examples
    --------
    >>> from multirun_analysis.trials.long_table import as_trials
    >>> trials = as_trials(pd.DataFrame([
    ...     {"dataset": "parts", "category": "bolt", "backbone": "resnet18", "layer": "level4",
    ...      "pooling": "avg", "augmentation": "none", "pca_mode": "npca50", "estimator": estimator,
    ...      "image_auroc": auroc, "status": "ok"}
    ...     for estimator, auroc in {"mvg": 0.9, "knn1": 0.8}.items()
    ... ]))
    >>> found = {claim.statement.name: claim for claim in claims(trials)}
    >>> found["mvg_beats_knn"].verdict, found["mvg_beats_knn"].why
    ('not enough runs', '1 categories; a verdict needs at least 8')
    """
    return analysis_of(_paper(paper, trials), trials, **choices).claims


def _paper(paper: str | Paper[Any] | None, trials: pd.DataFrame) -> Paper[Any]:
    if isinstance(paper, str):
        return paper_named(paper)
    if paper is not None:
        return paper
    papers = papers_of(tasks_of(trials))
    if len(papers) != 1:
        names = ", ".join(one.name for one in papers) or "none"
        raise AnalysisError(f"papers that the trials concern: {names}; choose one with paper=NAME")
    return papers[0]
