"""What each command of ``multirun-analysis`` does; imported only once the arguments are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from anomaly_sweep import terminal
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.ono_mori.claims import check_claims, claims_table
from multirun_analysis.papers.ono_mori.study import backbones, choose_study
from multirun_analysis.papers.ono_mori.tables import tables as ono_mori_tables
from multirun_analysis.papers.ono_mori.tables import tables_of
from multirun_analysis.papers.ridge.claims import check_ridge_claims, ridge_claims_table
from multirun_analysis.papers.ridge.study import localization_backbones
from multirun_analysis.papers.ridge.tables import ridge_tables
from multirun_analysis.papers.studies import AllChoices, Studies, choose_studies, context_of
from multirun_analysis.rendering.html import page, table_html
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.rendering.text import RENDERERS, to_text
from multirun_analysis.rendering.write import DOCUMENT, table_files, write_tables
from multirun_analysis.summary.compare import compare as compared
from multirun_analysis.summary.effects import effects as effects_of
from multirun_analysis.summary.effects_tables import effects_tables
from multirun_analysis.summary.pivot import pivot as pivot_table
from multirun_analysis.summary.study import Study
from multirun_analysis.trials.long_table import FORMATS as FILE_SUFFIXES
from multirun_analysis.trials.long_table import load_trials, save_trials, with_known_suffix
from multirun_analysis.trials.read import ALL, Reading, Source, collect, read_source, unique
from multirun_analysis.trials.tasks import LOCALIZATION, PAPERS

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
    reading = _read(source, log=log)
    ridge = paper == PAPERS[LOCALIZATION]
    there = (localization_backbones if ridge else backbones)(reading.trials)
    document = "ridge_document.tex" if ridge else DOCUMENT
    asked = choices.get("backbone")
    every = asked == ALL
    written: list[str] = []
    files: list[Path] = []
    for backbone in there if every else [asked]:
        made = _tables_of(paper, reading, AllChoices(**{**choices, "backbone": backbone}))
        folder = out / str(backbone) if every else out
        written += write_tables(made, folder, document)
        files += table_files(made, folder, document)
        for table in made:
            terminal.say(
                to_text(table, terminal.columns())
                if isinstance(table, Table)
                else f"{table.title}\n  not made: {table.reason}\n"
            )
    terminal.say("\n".join(written))
    _log(source, reading.trials, files, out, "analysis/tables", log=log)
    if asked is None and len(there) > 1:
        _note(
            [f"these are of {there[0]}; for {', '.join(there[1:])} give --backbone NAME, or --backbone all"]
        )
    return 0


def _tables_of(paper: str, reading: Reading, choices: AllChoices) -> list[Table | Absent]:
    """The tables of the paper asked for; an option of the other paper is refused."""
    ridge = paper == PAPERS[LOCALIZATION]
    other = "layer" if ridge else "task"
    if choices.get(other) is not None:
        raise AnalysisError(f"--{other} has no part in --paper {paper}")
    common = context_of(choices)
    if ridge:
        return ridge_tables(reading.trials, origins=reading.origins, task=choices.get("task"), **common)
    return ono_mori_tables(reading.trials, origins=reading.origins, layer=choices.get("layer"), **common)


def pivot(
    source: Source, *, rows: str, cols: str, where: str, average_over: Sequence[str], value: str, form: str
) -> int:
    """Print any table of means."""
    reading = _read(source)
    table = pivot_table(reading.trials, rows, cols, where, average_over, value=value, origins=reading.origins)
    _print([table], form)
    return 0


def claims(source: Source, choices: AllChoices, *, form: str) -> int:
    """Check the papers' statements."""
    found = _studies(choices, _read(source))
    made = [claims_table(check_claims(study), study) for study in found.detection]
    made += [ridge_claims_table(check_ridge_claims(study), study) for study in found.localization]
    _print(made, form)
    return 0


def effects(source: Source, choices: AllChoices, *, form: str) -> int:
    """Print what each group contributes."""
    reading = _read(source)
    asked = choices.get("backbone")
    made: list[Table | Absent] = []
    for backbone in backbones(reading.trials) if asked == ALL else [asked]:
        common = context_of(choices)
        common["backbone"] = backbone
        study = choose_study(reading.trials, origins=reading.origins, layer=choices.get("layer"), **common)
        made += effects_tables(effects_of(study), study)
    _print(made, form)
    return 0


def figures(source: Source, choices: AllChoices, *, out: Path, log: bool) -> int:
    """Draw every figure."""
    # matplotlib is slow to import
    from multirun_analysis.figures.catalog import localization_pictures, pictures
    from multirun_analysis.figures.style import Picture, save

    reading = _read(source, log=log)
    found = _studies(choices, reading)
    drawn: list[tuple[Study, list[Picture | Absent]]] = [
        (study, pictures(study, effects_of(study), tables_of(study))) for study in found.detection
    ]
    drawn += [(study, localization_pictures(study)) for study in found.localization]
    files: list[Path] = []
    for study, those in drawn:
        folder = out / study.backbone if choices.get("backbone") == ALL else out
        for picture in those:
            if isinstance(picture, Picture):
                paths = save(picture, folder, " ".join(study.warnings()))
                files += paths
                terminal.say(
                    f"wrote {folder / picture.name}.{{{','.join(path.suffix[1:] for path in paths)}}}"
                )
            else:
                _note([f"{picture.title}: not made: {picture.reason}"])
    _log(source, reading.trials, files, out, "analysis/figures", log=log)
    return 0


def report(source: Source, choices: AllChoices, *, out: Path, log: bool) -> int:
    """Write the page with everything."""
    from multirun_analysis.reporting.page import report as page_of  # matplotlib is slow to import

    reading = _read(source, log=log)
    chosen = AllChoices(**choices)
    if chosen.get("backbone") == ALL:
        chosen["backbone"] = None
    text = page_of(reading.trials, reading.notes, reading.origins, **chosen)
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
    made = [
        compared(first.trials, other.trials, (names[0], name), [*first.origins, *other.origins])
        for name, other in zip(names[1:], others, strict=True)
    ]
    _print(made, form)
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
        made = [area_table(found, reading.origins), *(table for table in further if table is not None)]
    else:
        other = scored(reading.trials, against, *store, option="--against")
        made = [comparison_table(found, other, reading.origins)]
    _print(made, form)
    if out is None:
        return 0
    _note(write_tables(made, out, f"{made[0].name}_document.tex"))
    if against is None:
        from multirun_analysis.figures.distributions import distributions
        from multirun_analysis.figures.style import save

        picture = distributions(found)
        save(picture, out, " ".join(made[0].warnings))
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


def _studies(choices: AllChoices, reading: Reading) -> Studies:
    """The studies asked for, of both tasks; what cannot be one is told."""
    every = choices.get("backbone") == ALL
    found = choose_studies(reading.trials, every=every, origins=reading.origins, **choices)
    _note([f"{name}: {reason}" for name, reason in found.refused])
    return found


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


def _print(made: Sequence[Table | Absent], form: str) -> None:
    """Tables to the terminal in one format, what is absent and why beside them."""
    absent = [table for table in made if isinstance(table, Absent)]
    shown = [table for table in made if isinstance(table, Table)]
    if form == "text":
        terminal.say("\n".join(to_text(table, terminal.columns()) for table in shown).rstrip("\n"))
    elif form == "html":
        print(page(shown[0].title if shown else "", "\n".join(map(table_html, shown))), end="")
    else:
        print("\n".join(RENDERERS[SUFFIXES[form]](table) for table in shown), end="")
    _note([f"{table.title}: not made: {table.reason}" for table in absent])
