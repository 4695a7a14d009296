"""One page with the whole analysis, that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from anomaly_sweep.tracking.names import GROUPS, STATUS_OK
from multirun_analysis.claims import check_claims
from multirun_analysis.claims_table import claims_table
from multirun_analysis.coverage import provenance, random_weights
from multirun_analysis.effects import effects
from multirun_analysis.effects_tables import effects_tables
from multirun_analysis.errors import AnalysisError
from multirun_analysis.figures.every import pictures
from multirun_analysis.figures.style import Picture, inline_svg
from multirun_analysis.html import page, table_html
from multirun_analysis.ono_mori import tables_of
from multirun_analysis.study import Study, backbones, choose_study
from multirun_analysis.table import Absent, Block, Cell, Row, Table

REASONS = 5


def report(
    trials: pd.DataFrame,
    notes: Sequence[str] = (),
    origins: Sequence[str] = (),
    *,
    dataset: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    input_size: int | None = None,
    layer: str | None = None,
) -> str:
    """The page: coverage and warnings, then claims, tables, figures and effects for each backbone.

    Parameters
    ----------
    trials
        Each once.
    notes
        What was said when they were read.
    origins
        Which runs they are of, and the versions these ran with.
    backbone
        One; every one there is when None. The other options are those of the tables.

    Raises
    ------
    AnalysisError
        If there is not one backbone that a report can be made of.
    """
    studies: list[Study] = []
    refused: list[str] = []
    for name in backbones(trials) if backbone is None else [backbone]:
        try:
            studies.append(
                choose_study(
                    trials,
                    dataset=dataset,
                    backbone=name,
                    weights=weights,
                    input_size=input_size,
                    layer=layer,
                )
            )
        except AnalysisError as error:
            refused.append(f"{name}: not in this report: {error}")
    if not studies:
        raise AnalysisError("; ".join(refused) or "the trials have no backbone")
    return report_of(studies, [*notes, *refused], origins)


def report_of(studies: Sequence[Study], notes: Sequence[str] = (), origins: Sequence[str] = ()) -> str:
    """`report` of studies that are settled."""
    frame = studies[0].frame
    sections = [_study(study, prefix=f"s{number}-") for number, study in enumerate(studies)]
    links = "".join(
        f'<li><a href="#s{number}-top">{escape(study.backbone)}</a></li>'
        for number, study in enumerate(studies)
    )
    own = pd.concat([_trials(study) for study in studies])
    body = [
        "<header>",
        f"<h1>Anomaly detection sweep: {escape(studies[0].dataset or 'data set not recorded')}</h1>",
        *(f'<p class="soft">{escape(text)}</p>' for text in (provenance(own), *origins)),
        *(
            f'<p class="warning">{escape(text)}</p>'
            for text in (*random_weights(own), *warnings(own), *notes)
        ),
        f'<nav aria-label="contents"><ul><li><a href="#coverage">Coverage</a></li>{links}</ul></nav>',
        "</header>",
        "<main>",
        table_html(coverage_table(studies)),
        *sections,
        "</main>",
    ]
    names = sorted(frame["sweep"].dropna().unique())
    return page(f"Anomaly detection sweep {', '.join(names)}".strip(), "\n".join(body))


def coverage_table(studies: Sequence[Study]) -> Table:
    """Configurations and trials of each backbone: there, failed, missing."""
    rows = []
    for study in studies:
        trials = _trials(study)
        ok = int(trials["status"].eq(STATUS_OK).fillna(False).sum())
        count = len(trials[list(GROUPS)].drop_duplicates())
        wanted = count * len(study.categories)
        counts = (count, wanted, ok, len(trials) - ok, wanted - len(trials))
        rows.append(Row(study.backbone, tuple(Cell(float(number), decimals=0) for number in counts)))
    return Table(
        name="coverage",
        title="Coverage",
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
            f"{name} {', '.join(sorted(map(str, where[name].unique())))}" for name in ("backbone", "layer")
        ]
        said.append(f"{count} trials failed ({'; '.join(spread)}): {str(reason) or 'no reason recorded'}")
    if len(reasons) > REASONS:
        said.append(
            f"{int(reasons.iloc[REASONS:].sum())} more trials failed, for {len(reasons) - REASONS} reasons"
        )
    return said


def _trials(study: Study) -> pd.DataFrame:
    trials = study.frame
    for name, value in study.where().items():
        if value is not None:
            trials = trials[trials[name].eq(value).fillna(False).astype(bool)]
    return trials


def _study(study: Study, prefix: str) -> str:
    tables = tables_of(study)
    found = effects(study)
    made = check_claims(study)
    parts = [
        f'<h2 id="{prefix}top">{escape(study.backbone)}</h2>',
        _part(claims_table(made, study)),
        *map(_part, tables),
        f"<h2>Figures: {escape(study.backbone)}</h2>",
        *(_figure(picture, prefix) for picture in pictures(study, found, tables)),
        f"<h2>Effects: {escape(study.backbone)}</h2>",
        *map(_part, effects_tables(found, study)),
    ]
    return "\n".join(parts).replace('<section class="table" id="', f'<section class="table" id="{prefix}')


def _part(table: Table | Absent) -> str:
    return table_html(table, level=3) if isinstance(table, Table) else _absent(table)


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
