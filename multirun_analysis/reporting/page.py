"""One page with the whole analysis, that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import pandas as pd
from markupsafe import Markup

from anomaly_sweep.tracking.names import DETECTION, STATUS_OK
from multirun_analysis.figures.style import Picture, inline_svg
from multirun_analysis.papers.analysis import Analysis, analyse
from multirun_analysis.papers.base import AllChoices
from multirun_analysis.rendering.html import rendered
from multirun_analysis.rendering.table import Absent, Block, Cell, Row, Table
from multirun_analysis.summary.coverage import provenance, random_weights
from multirun_analysis.summary.study import Study
from multirun_analysis.trials.long_table import CHOICES
from multirun_analysis.trials.run_info import Origin

REASONS = 5
#: Tables of effects that the page begins with.
FIRST = ("best", "importance")


def report(
    trials: pd.DataFrame,
    notes: Sequence[str] = (),
    origins: Sequence[Origin] = (),
    *,
    searched: Sequence[Picture] = (),
    **choices: Unpack[AllChoices],
) -> str:
    """The page: coverage and warnings, then claims, tables, figures and effects for each backbone.

    Parameters
    ----------
    trials
        Each once. Those of localization have sections of their own.
    notes
        What was said when they were read.
    origins
        Which runs they are of, and the versions these ran with.
    searched
        Figures of searches.
    choices
        ``backbone``: one; every one there is when None. The others are those of the tables.

    Raises
    ------
    AnalysisError
        If there is not one backbone that a report can be made of.

    Returns
    -------
    str
        The page as HTML, with style and figures inside it.

    Examples
    --------
    >>> from multirun_analysis.trials.long_table import as_trials
    >>> row = {"dataset": "parts", "category": "bolt", "status": "ok", "image_auroc": 0.9}
    >>> row |= {"backbone": "resnet18", "layer": "level4", "pooling": "avg", "augmentation": "none"}
    >>> page = report(as_trials(pd.DataFrame([row | {"pca_mode": "npca50", "estimator": "mvg"}])))
    >>> page.startswith("<!DOCTYPE html>"), "Best configurations" in page
    (True, True)
    """
    found = analyse(trials, every=choices.get("backbone") is None, origins=origins, **choices)
    refused = [f"{name}: not in this report: {reason}" for name, reason in found.refused]
    return page_of(found.found, [*notes, *refused], origins, searched)


def page_of(
    analyses: Sequence[Analysis],
    notes: Sequence[str] = (),
    origins: Sequence[Origin] = (),
    searched: Sequence[Picture] = (),
) -> str:
    """`report` of studies that are settled, in their order.

    Parameters
    ----------
    analyses
        At least one.
    notes, origins
        As of `report`.
    searched
        Figures of searches.
    """
    trials = pd.concat([one.study.trials() for one in analyses])
    tasks = dict.fromkeys(one.paper.task for one in analyses)
    sweeps = sorted(trials["sweep"].dropna().unique())
    return rendered(
        "report.html.j2",
        title=f"Anomaly detection sweep {', '.join(sweeps)}".strip(),
        data=", ".join(dict.fromkeys(one.study.dataset or "data set not recorded" for one in analyses)),
        provenance=provenance(trials, origins),
        warnings=[*random_weights(trials), *warnings(trials), *notes],
        sections=[_section(one, f"s{number}-") for number, one in enumerate(analyses)],
        searched=[_drawn(picture, "search-") for picture in searched],
        coverage=[
            coverage_table([one.study for one in analyses if one.paper.task == task], task) for task in tasks
        ],
    )


@dataclass(frozen=True)
class Section:
    """One study on the page: its heading, tables and figures; ids begin with the prefix."""

    prefix: str
    heading: str
    tables: list[Table | Absent]
    figures: list[Drawn | Absent]
    further: list[Table | Absent]


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands on the page."""

    title: str
    caption: str
    svg: Markup


def _section(one: Analysis, prefix: str) -> Section:
    """The answer first: the best configurations and what matters, the tables, the statements with runs."""
    effects = one.effects_tables
    first = [table for table in effects if table.name in FIRST]
    statements = [] if one.checked_table is None else [one.checked_table]
    heading = one.study.backbone
    return Section(
        prefix,
        heading if one.paper.task == DETECTION else f"{heading}: {one.paper.task}",
        [*sorted(first, key=lambda table: FIRST.index(table.name)), *one.tables, *statements],
        [_drawn(picture, prefix) if not isinstance(picture, Absent) else picture for picture in one.pictures],
        [table for table in effects if table.name not in FIRST],
    )


def _drawn(picture: Picture, prefix: str) -> Drawn:
    return Drawn(picture.title, picture.caption, Markup(inline_svg(picture, prefix)))


def coverage_table(studies: Sequence[Study], task: str) -> Table:
    """Configurations and trials of each backbone: there, failed, missing."""
    rows = []
    for study in studies:
        trials = study.trials()
        ok = int(trials["status"].eq(STATUS_OK).fillna(False).sum())
        count = len(trials[list(CHOICES)].drop_duplicates())
        wanted = count * len(study.categories)
        counts = (count, wanted, ok, len(trials) - ok, wanted - len(trials))
        rows.append(Row(study.backbone, tuple(Cell(float(number), decimals=0) for number in counts)))
    return Table(
        name=f"coverage-{task}",
        title="Coverage" if task == DETECTION else f"Coverage of {task}",
        caption=(f"{len(studies[0].categories)} categories: {', '.join(studies[0].categories)}.",),
        corner="backbone",
        columns=("configurations", "trials wanted", "with a value", "failed", "missing"),
        blocks=(Block("trials wanted are every configuration that ran, on every category", tuple(rows)),),
    )


def warnings(trials: pd.DataFrame) -> list[str]:
    """Failed trials by reason, and a mean for which categories lack."""
    failed = trials[~trials["status"].eq(STATUS_OK).fillna(False).astype(bool)]
    lines = []
    reasons = failed["reason"].value_counts()
    for reason, count in reasons.iloc[:REASONS].items():
        where = failed[failed["reason"] == reason]
        spread = [
            f"{name} {', '.join(values)}"
            for name in ("backbone", "layer", "localizer")
            if (values := sorted(map(str, where[name].dropna().unique())))
        ]
        lines.append(f"{count} trials failed ({'; '.join(spread)}): {str(reason) or 'no reason recorded'}")
    if len(reasons) > REASONS:
        lines.append(
            f"{int(reasons.iloc[REASONS:].sum())} more trials failed, for {len(reasons) - REASONS} reasons"
        )
    return lines
