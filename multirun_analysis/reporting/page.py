"""One page with the whole analysis, that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Unpack

import pandas as pd

from anomaly_sweep.tracking.names import STATUS_OK
from multirun_analysis.figures.catalog import localization_pictures, pictures
from multirun_analysis.figures.style import Picture, inline_svg
from multirun_analysis.papers.ono_mori.claims import check_claims, claims_table
from multirun_analysis.papers.ono_mori.tables import tables_of
from multirun_analysis.papers.ridge.claims import check_ridge_claims, ridge_claims_table
from multirun_analysis.papers.ridge.study import LocalizationStudy
from multirun_analysis.papers.ridge.tables import ridge_tables_of
from multirun_analysis.papers.studies import AllChoices, Studies, choose_studies
from multirun_analysis.rendering.html import page, table_html
from multirun_analysis.rendering.table import Absent, Block, Cell, Row, Table
from multirun_analysis.summary.coverage import provenance, random_weights
from multirun_analysis.summary.effects import effects
from multirun_analysis.summary.effects_tables import effects_tables
from multirun_analysis.summary.study import DetectionStudy
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
    found = choose_studies(trials, every=choices.get("backbone") is None, origins=origins, **choices)
    refused = [f"{name}: not in this report: {reason}" for name, reason in found.refused]
    return _page(found, [*notes, *refused], origins)


def _page(found: Studies, notes: Sequence[str], origins: Sequence[Origin]) -> str:
    both: list[DetectionStudy | LocalizationStudy] = [*found.detection, *found.localization]
    sections = [_section(study, f"s{number}-") for number, study in enumerate(both)]
    own = pd.concat([study.trials() for study in both])
    links = "".join(
        f'<li><a href="#s{number}-top">{escape(_heading(study))}</a></li>'
        for number, study in enumerate(both)
    )
    data = ", ".join(dict.fromkeys(study.dataset or "data set not recorded" for study in both))
    body = [
        "<header>",
        f"<h1>Anomaly detection sweep: {escape(data)}</h1>",
        *(f'<p class="soft">{escape(text)}</p>' for text in provenance(own, origins)),
        *(
            f'<p class="warning">{escape(text)}</p>'
            for text in (*random_weights(own), *warnings(own), *notes)
        ),
        f'<nav aria-label="contents"><ul><li><a href="#coverage">Coverage</a></li>{links}</ul></nav>',
        "</header>",
        "<main>",
        '<div id="coverage">',
        *(table_html(coverage_table(those)) for those in (found.detection, found.localization) if those),
        "</div>",
        *sections,
        "</main>",
    ]
    names = sorted(own["sweep"].dropna().unique())
    return page(f"Anomaly detection sweep {', '.join(names)}".strip(), "\n".join(body))


def _heading(study: DetectionStudy | LocalizationStudy) -> str:
    return study.backbone if isinstance(study, DetectionStudy) else f"{study.backbone}: localization"


def _section(study: DetectionStudy | LocalizationStudy, prefix: str) -> str:
    """What there is to say of one study; ids begin with the prefix."""
    parts = _detection(study, prefix) if isinstance(study, DetectionStudy) else _localization(study, prefix)
    body = "\n".join(parts)
    return f'<h2 id="{prefix}top">{escape(_heading(study))}</h2>\n{body}'


def coverage_table(studies: Sequence[DetectionStudy] | Sequence[LocalizationStudy]) -> Table:
    """Configurations and trials of each backbone: there, failed, missing."""
    rows = []
    located = any(isinstance(study, LocalizationStudy) for study in studies)
    for study in studies:
        trials = study.trials()
        ok = int(trials["status"].eq(STATUS_OK).fillna(False).sum())
        count = len(trials[list(CHOICES)].drop_duplicates())
        wanted = count * len(study.categories)
        counts = (count, wanted, ok, len(trials) - ok, wanted - len(trials))
        rows.append(Row(study.backbone, tuple(Cell(float(number), decimals=0) for number in counts)))
    return Table(
        name="coverage-localization" if located else "coverage-detection",
        title="Coverage of localization" if located else "Coverage",
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


def _detection(study: DetectionStudy, prefix: str) -> list[str]:
    tables = tables_of(study)
    found = effects(study)
    return [
        _part(claims_table(check_claims(study), study), prefix),
        *(_part(table, prefix) for table in tables),
        f"<h2>Figures: {escape(study.backbone)}</h2>",
        *(_figure(picture, prefix) for picture in pictures(study, found, tables)),
        f"<h2>Effects: {escape(study.backbone)}</h2>",
        *(_part(table, prefix) for table in effects_tables(found, study)),
    ]


def _localization(study: LocalizationStudy, prefix: str) -> list[str]:
    return [
        _part(ridge_claims_table(check_ridge_claims(study), study), prefix),
        *(_part(table, prefix) for table in ridge_tables_of(study)),
        *(_figure(picture, prefix) for picture in localization_pictures(study)),
    ]


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
