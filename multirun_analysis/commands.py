"""What each command of ``multirun-analysis`` does; imported only once the arguments are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from anomaly_sweep import terminal
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers import PAPERS, paper_named
from multirun_analysis.papers.analysis import Analyses, analyse, analysis_of
from multirun_analysis.papers.base import AllChoices, Paper
from multirun_analysis.rendering.html import page
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.rendering.text import RENDERERS, to_text
from multirun_analysis.rendering.write import table_files, write_tables
from multirun_analysis.summary.compare import compare as compared
from multirun_analysis.summary.pivot import pivot as pivot_table
from multirun_analysis.trials.long_table import FORMATS as FILE_SUFFIXES
from multirun_analysis.trials.long_table import load_trials, save_trials, with_known_suffix
from multirun_analysis.trials.read import ALL, Reading, Source, collect, read_source, unique

if TYPE_CHECKING:
    from multirun_analysis.figures.style import Picture

SUFFIXES = {"text": ".txt", "md": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}


def trials(tracking_uri: str, *, experiment: str | None, sweep: str | None, out: Path) -> int:
    """Write one row a trial."""
    with_known_suffix(out)
    with terminal.busy("reading the runs"):
        reading = collect(tracking_uri, experiment=experiment, sweep=None if sweep == ALL else sweep)
    _note(reading.notes)
    save_trials(reading.trials, out)
    failed = int((reading.trials["status"] != "ok").sum())
    terminal.say(f"{len(reading.trials)} trials ({failed} failed) in {out}")
    return 0


def tables(source: Source, choices: AllChoices, *, paper: str, out: Path, log: bool) -> int:
    """Make a paper's tables."""
    wanted = paper_named(paper)
    reading = _read(replace(source, task=wanted.task), log=log)
    available = wanted.backbones(reading.trials)
    requested = choices.get("backbone")
    every = requested == ALL
    written: list[str] = []
    files: list[Path] = []
    for backbone in available if every else [requested]:
        chosen = AllChoices(**{**choices, "backbone": backbone})
        found = analysis_of(wanted, reading.trials, origins=reading.origins, **chosen).tables
        folder = out / str(backbone) if every else out
        written += write_tables(found, folder, wanted.document)
        files += table_files(found, folder, wanted.document)
        for table in found:
            terminal.say(to_text(table, terminal.columns()) if isinstance(table, Table) else str(table))
    terminal.say("\n".join(written))
    _log(source, reading.trials, files, out, "analysis/tables", log=log)
    if requested is None and len(available) > 1:
        others = ", ".join(available[1:])
        _note([f"these are of {available[0]}; for {others} give --backbone NAME, or --backbone all"])
    return 0


def pivot(
    source: Source, *, rows: str, cols: str, where: str, average_over: Sequence[str], value: str, form: str
) -> int:
    """Print any table of means."""
    reading = _read(source)
    table = pivot_table(reading.trials, rows, cols, where, average_over, value=value, origins=reading.origins)
    _show([table], form)
    return 0


def claims(source: Source, choices: AllChoices, *, form: str) -> int:
    """Check the papers' statements."""
    found = _analyses(choices, _read(source)).found
    _show([table for one in found if (table := one.claims_table) is not None], form)
    return 0


def effects(source: Source, choices: AllChoices, *, form: str) -> int:
    """Print what each group contributes."""
    reading = _read(source)
    wanted = [paper for paper in map(paper_named, PAPERS) if paper.has_effects]
    found = _analyses(choices, reading, wanted).found
    _show([table for one in found for table in one.effects_tables], form)
    return 0


def figures(source: Source, choices: AllChoices, *, out: Path, log: bool) -> int:
    """Draw every figure."""
    from multirun_analysis.figures.style import Picture, save  # matplotlib is slow to import

    reading = _read(source, log=log)
    files: list[Path] = []
    for one in _analyses(choices, reading).found:
        folder = out / one.study.backbone if choices.get("backbone") == ALL else out
        for picture in one.pictures:
            if isinstance(picture, Picture):
                paths = save(picture, folder, " ".join(one.study.warnings()))
                files += paths
                terminal.say(_wrote(folder / picture.name, paths))
            else:
                _note([f"{picture.title}: not made: {picture.reason}"])
    for picture in _searched(source, reading):
        paths = save(picture, out)
        files += paths
        terminal.say(_wrote(out / picture.name, paths))
    _log(source, reading.trials, files, out, "analysis/figures", log=log)
    return 0


def report(source: Source, choices: AllChoices, *, out: Path, log: bool) -> int:
    """Write the page with everything."""
    from multirun_analysis.reporting.page import report as page_of  # matplotlib is slow to import

    reading = _read(source, log=log)
    chosen = AllChoices(**choices)
    if chosen.get("backbone") == ALL:
        chosen["backbone"] = None
    searched = _searched(source, reading)
    text = page_of(reading.trials, reading.notes, reading.origins, searched=searched, **chosen)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    terminal.say(f"wrote {out}")
    _log(source, reading.trials, [out], out.parent, "analysis", log=log)
    return 0


def compare(tracking_uri: str, sweeps: Sequence[str], *, experiment: str | None, form: str) -> int:
    """Set sweeps, by name or as files, against the first of them."""
    if len(sweeps) < 2:
        raise AnalysisError("compare needs two sweeps or more")
    names = [Path(name).stem if Path(name).suffix in FILE_SUFFIXES else name for name in sweeps]
    if len(set(names)) < len(names):  # files of one name in several folders
        names = list(sweeps)
    first, *others = [_one_sweep(tracking_uri, experiment, name) for name in sweeps]
    tables = [
        compared(first.trials, other.trials, (names[0], name), [*first.origins, *other.origins])
        for name, other in zip(names[1:], others, strict=True)
    ]
    _show(tables, form)
    return 0


def scores(
    source: Source, *, where: str, against: str | None, misses: int, form: str, out: Path | None
) -> int:
    """Print what the scores of single images say."""
    from multirun_analysis.summary.per_image import scored  # pyarrow and mlflow are slow to import
    from multirun_analysis.summary.per_image_tables import (
        area_table,
        comparison_table,
        defect_table,
        misses_table,
    )

    reading = _read(source)
    store = (source.tracking_uri, source.experiment)
    found = scored(reading.trials, where, *store)
    if against is None:
        further = (defect_table(found, reading.origins), misses_table(found, misses, reading.origins))
        tables = [area_table(found, reading.origins), *(table for table in further if table is not None)]
    else:
        other = scored(reading.trials, against, *store, option="--against")
        tables = [comparison_table(found, other, reading.origins)]
    _show(tables, form)
    if out is None:
        return 0
    _note(write_tables(tables, out, f"{tables[0].name}_document.tex"))
    if against is None:
        from multirun_analysis.figures.distributions import distributions
        from multirun_analysis.figures.style import save

        picture = distributions(found)
        save(picture, out, " ".join(tables[0].warnings))
        _note([f"wrote {out / picture.name}.{{pdf,svg,png}}"])
    return 0


def _read(source: Source, *, log: bool = False) -> Reading:
    """The trials; notes go to the terminal."""
    if log and source.file is not None:
        raise AnalysisError("--log needs the tracking store: give --tracking-uri, not --trials")
    reading = read_source(source)
    _note(reading.notes)
    return reading


def _one_sweep(tracking_uri: str, experiment: str | None, name: str) -> Reading:
    """Trials of a file if the name has a file's suffix, of a sweep in MLflow otherwise."""
    if Path(name).suffix in FILE_SUFFIXES:
        reading = unique(load_trials(name), {}, [])
    else:
        with terminal.busy("reading the runs"):
            reading = collect(tracking_uri, experiment=experiment, sweep=name)
    _note(reading.notes)
    return reading


def _analyses(choices: AllChoices, reading: Reading, papers: Sequence[Paper[Any]] | None = None) -> Analyses:
    """The studies asked for, of every task; what cannot be one is told."""
    every = choices.get("backbone") == ALL
    found = analyse(reading.trials, every=every, origins=reading.origins, papers=papers, **choices)
    _note([f"{name}: {reason}" for name, reason in found.refused])
    return found


def _searched(source: Source, reading: Reading) -> list[Picture]:
    """The figures of the searches among the sweeps that were read; a file says nothing of them."""
    if not reading.origins:
        return []
    from multirun_analysis.figures.search import search_pictures  # matplotlib and mlflow are slow to import
    from multirun_analysis.trials.connection import connect
    from multirun_analysis.trials.searches import read_searches

    reader = connect(source.tracking_uri)
    return search_pictures(read_searches(reader, [origin.run_id for origin in reading.origins]))


def _wrote(stem: Path, paths: Sequence[Path]) -> str:
    return f"wrote {stem}.{{{','.join(path.suffix[1:] for path in paths)}}}"


def _log(
    source: Source, trials: pd.DataFrame, files: list[Path], base: Path, place: str, *, log: bool
) -> None:
    """What was written, onto the parent run, where that was asked for."""
    if log:
        from multirun_analysis.trials.publish import log_files  # imports mlflow

        terminal.say(log_files(source.tracking_uri, source.experiment, trials, files, base, place))


def _note(notes: Iterable[str]) -> None:
    """Notes for the user, beside the output."""
    for note in notes:
        terminal.say(f"note: {note}", error=True)


def _show(tables: Sequence[Table | Absent], form: str) -> None:
    """Tables to the terminal in one format, what is absent and why beside them."""
    absent = [table for table in tables if isinstance(table, Absent)]
    shown = [table for table in tables if isinstance(table, Table)]
    if form == "text":
        terminal.say("\n".join(to_text(table, terminal.columns()) for table in shown).rstrip("\n"))
    elif form == "html":
        print(page(shown[0].title if shown else "", shown), end="")
    else:
        print("\n".join(RENDERERS[SUFFIXES[form]](table) for table in shown), end="")
    _note([f"{table.title}: not made: {table.reason}" for table in absent])
