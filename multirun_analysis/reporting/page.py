"""One page with the whole analysis, that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Unpack

import pandas as pd

from anomaly_sweep.tracking.names import DETECTION, STATUS_OK
from multirun_analysis.figures.style import Picture, inline_svg
from multirun_analysis.papers.analysis import Analyses, Analysis, analyse
from multirun_analysis.papers.base import AllChoices
from multirun_analysis.rendering.html import page, table_html
from multirun_analysis.rendering.table import Absent, Block, Cell, Row, Table
from multirun_analysis.summary.coverage import provenance, random_weights
from multirun_analysis.summary.study import Study
from multirun_analysis.trials.long_table import CHOICES
from multirun_analysis.trials.run_info import Origin

REASONS = 5


def report(
    trials: pd.DataFrame,
    notes: Sequence[str] = (),
    origins: Sequence[Origin] = (),
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
    choices
        ``backbone``: one; every one there is when None. The others are those of the tables.

    Raises
    ------
    AnalysisError
        If there is not one backbone that a report can be made of.
    """
    found = analyse(trials, every=choices.get("backbone") is None, origins=origins, **choices)
    refused = [f"{name}: not in this report: {reason}" for name, reason in found.refused]
    return _page(found, [*notes, *refused], origins)


def _page(analyses: Analyses, notes: Sequence[str], origins: Sequence[Origin]) -> str:
    found = analyses.found
    sections = [_section(one, f"s{number}-") for number, one in enumerate(found)]
    trials = pd.concat([one.study.trials() for one in found])
    links = "".join(
        f'<li><a href="#s{number}-top">{escape(_heading(one))}</a></li>' for number, one in enumerate(found)
    )
    data = ", ".join(dict.fromkeys(one.study.dataset or "data set not recorded" for one in found))
    tasks = dict.fromkeys(one.paper.task for one in found)
    body = [
        "<header>",
        f"<h1>Anomaly detection sweep: {escape(data)}</h1>",
        *(f'<p class="soft">{escape(text)}</p>' for text in provenance(trials, origins)),
        *(
            f'<p class="warning">{escape(text)}</p>'
            for text in (*random_weights(trials), *warnings(trials), *notes)
        ),
        f'<nav aria-label="contents"><ul><li><a href="#coverage">Coverage</a></li>{links}</ul></nav>',
        "</header>",
        "<main>",
        '<div id="coverage">',
        *(
            table_html(coverage_table([one.study for one in found if one.paper.task == task], task))
            for task in tasks
        ),
        "</div>",
        *sections,
        "</main>",
    ]
    names = sorted(trials["sweep"].dropna().unique())
    return page(f"Anomaly detection sweep {', '.join(names)}".strip(), "\n".join(body))


def _heading(one: Analysis) -> str:
    return one.study.backbone if one.paper.task == DETECTION else f"{one.study.backbone}: {one.paper.task}"


def _section(one: Analysis, prefix: str) -> str:
    """What there is to say of one study; ids begin with the prefix."""
    name = escape(_heading(one))
    parts = [f'<h2 id="{prefix}top">{name}</h2>']
    if one.claims_table is not None:
        parts.append(_part(one.claims_table, prefix))
    parts += [_part(table, prefix) for table in one.tables]
    if one.pictures:
        parts += [f"<h2>Figures: {name}</h2>", *(_figure(picture, prefix) for picture in one.pictures)]
    if one.effects_tables:
        parts += [f"<h2>Effects: {name}</h2>", *(_part(table, prefix) for table in one.effects_tables)]
    return "\n".join(parts)


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
    said = []
    reasons = failed["reason"].value_counts()
    for reason, count in reasons.iloc[:REASONS].items():
        where = failed[failed["reason"] == reason]
        spread = [
            f"{name} {', '.join(there)}"
            for name in ("backbone", "layer", "localizer")
            if (there := sorted(map(str, where[name].dropna().unique())))
        ]
        said.append(f"{count} trials failed ({'; '.join(spread)}): {str(reason) or 'no reason recorded'}")
    if len(reasons) > REASONS:
        said.append(
            f"{int(reasons.iloc[REASONS:].sum())} more trials failed, for {len(reasons) - REASONS} reasons"
        )
    return said


def _part(table: Table | Absent, prefix: str) -> str:
    return table_html(table, level=3, prefix=prefix) if isinstance(table, Table) else _absent(table)


def _figure(picture: Picture | Absent, prefix: str) -> str:
    if isinstance(picture, Absent):
        return _absent(picture)
    own = Picture(f"{prefix}{picture.name}", picture.title, picture.caption, picture.draw)
    label = f'role="img" aria-label="{escape(picture.title)}"'
    return (
        f"<figure><h3>{escape(picture.title)}</h3>\n{inline_svg(own).replace('<svg', f'<svg {label}', 1)}\n"
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _absent(absent: Absent) -> str:
    reason = f'<p class="soft">Not made: {escape(absent.reason)}</p>'
    return f"<section><h3>{escape(absent.title)}</h3>{reason}</section>"
