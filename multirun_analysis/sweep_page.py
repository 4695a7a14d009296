"""A sweep's own page: its analysis made once when it ends, kept in its folder and on its parent run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from anomaly_sweep import terminal
from anomaly_sweep.config import TrackingConf, parse_node
from anomaly_sweep.launch import session
from anomaly_sweep.tracking import names
from multirun_analysis.figures.search import search_pictures
from multirun_analysis.figures.style import Picture, save
from multirun_analysis.papers import papers_of
from multirun_analysis.papers.analysis import Analysis, analyse
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.rendering.text import to_markdown, to_text
from multirun_analysis.rendering.write import write_tables
from multirun_analysis.reporting.page import page_of
from multirun_analysis.summary.overview import overview
from multirun_analysis.trials.connection import connect
from multirun_analysis.trials.read import Reading, collect
from multirun_analysis.trials.searches import read_searches
from multirun_analysis.trials.tasks import tasks_of

#: Folder of the sweep, and of its parent run's artifacts.
PLACE = "analysis"
#: What a tag of MLflow holds.
NOTE_LENGTH = 8000
REPORT = "report.html"


def analyse_sweep(config: DictConfig) -> str:
    """Analyse the sweep that has ended in this process.

    Parameters
    ----------
    config : DictConfig
        Hydra's config of the multirun.

    Returns
    -------
    str
        Its tables, of the better backbone, and where everything lies; empty if no sweep has ended, or no
        paper concerns its task.

    Raises
    ------
    AnomalySweepError
        If its trials cannot be read or analysed, or the files not be written.
    """
    parent = session.ended()
    if parent is None or parent.run_id is None:
        return ""
    tracking: TrackingConf = parse_node("tracking", config.tracking)
    reader = connect(tracking.uri)
    run = reader.client.get_run(parent.run_id)
    reading = collect(tracking.uri, experiment=tracking.experiment, sweep=parent.name)
    if not papers_of(tasks_of(reading.trials)):
        return ""  # a task of the user's own: the sweep's own summary is what there is to say
    searched = search_pictures(read_searches(reader, [parent.run_id]))
    folder = Path(str(config.hydra.sweep.dir)) / PLACE
    analyses = by_best(analyse(reading.trials, every=True, origins=reading.origins).found)
    tables = {id(one): _tables(one) for one in analyses}
    for one in analyses:
        target = folder if len(analyses) == 1 else folder / _name(one, analyses)
        write_tables(tables[id(one)], target / "tables", one.paper.document)
        for picture in one.pictures:
            if isinstance(picture, Picture):
                save(picture, target / "figures", " ".join(one.study.warnings()))
    for picture in searched:
        save(picture, folder / "figures")
    (folder / REPORT).write_text(
        page_of(analyses, reading.notes, reading.origins, searched), encoding="utf-8"
    )
    reader.client.log_artifacts(parent.run_id, str(folder), PLACE)
    shown = tables[id(analyses[0])]
    note = _note(run.data.tags.get(names.TAG_NOTE, ""), shown)
    reader.client.set_tag(parent.run_id, names.TAG_NOTE, note)
    return _text(shown, analyses, reading, folder)


def by_best(analyses: Sequence[Analysis]) -> list[Analysis]:
    """Those with the highest mean AUROC of a configuration first; the others in their order."""

    def value(one: Analysis) -> float:
        best = None if one.effects is None else one.effects.best
        return 0.0 if best is None else best.overall[1]

    return sorted(analyses, key=lambda one: -value(one))


def _tables(one: Analysis) -> list[Table | Absent]:
    """The paper's tables and statements as far as there are runs for them; else what any sweep has."""
    statements = [] if one.checked_table is None else [one.checked_table]
    if any(isinstance(table, Table) for table in one.tables):
        return [*one.tables, *statements]
    table = overview(one.study)
    return [*([] if table is None else [table]), *statements]


def _name(one: Analysis, analyses: Sequence[Analysis]) -> str:
    """A folder's name: the backbone's, with the paper's where they share it."""
    same = sum(other.study.backbone == one.study.backbone for other in analyses)
    return one.study.backbone if same == 1 else f"{one.study.backbone}-{one.paper.name}"


def _note(before: str, tables: Sequence[Table | Absent]) -> str:
    """The description with the tables under it, as far as a description holds them."""
    parts = [before.strip()]
    remaining = NOTE_LENGTH - len(parts[0]) - 200
    for table in tables:
        if not isinstance(table, Table):
            continue
        text = to_markdown(replace(table, caption=(), notes=()))
        if len(text) <= remaining:
            parts.append(text)
            remaining -= len(text) + 2
    parts.append(f"All tables, figures and the report ({REPORT}): artifacts, folder {PLACE}.")
    return "\n\n".join(parts)[:NOTE_LENGTH]


def _text(
    tables: Sequence[Table | Absent], analyses: Sequence[Analysis], reading: Reading, folder: Path
) -> str:
    """What the sweep ends with on the terminal."""
    width = terminal.columns()
    lines = [to_text(_short(table), width) for table in tables if isinstance(table, Table)]
    others = ", ".join(one.study.backbone for one in analyses[1:])
    lines += [f"note: {note}" for note in reading.notes]
    if others:
        lines.append(f"These are of {analyses[0].study.backbone}, the best; those of {others} lie beside.")
    lines.append(
        f"Tables, figures and report.html: {terminal.near(folder)}/, and on the sweep's run in MLflow"
    )
    return "\n".join(lines)


def _short(table: Table) -> Table:
    """A table without what its files say of where it comes from."""
    kept = [note for note in table.notes if note.startswith(("Coverage", "Failed", "Missing", "Recorded"))]
    return replace(table, caption=table.caption[-1:], notes=tuple(kept))
