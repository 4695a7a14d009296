"""What each command of ``multirun-analysis`` does; imported only once the arguments are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from anomaly_sweep import terminal
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.ono_mori.claims import check_claims, claims_table
from multirun_analysis.papers.ono_mori.study import backbones, choose_study
from multirun_analysis.papers.ono_mori.tables import tables, tables_of
from multirun_analysis.papers.ridge.claims import check_ridge_claims, ridge_claims_table
from multirun_analysis.papers.ridge.study import localization_backbones
from multirun_analysis.papers.ridge.tables import ridge_tables
from multirun_analysis.rendering.html import page, table_html
from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.rendering.text import RENDERERS, to_text
from multirun_analysis.rendering.write import DOCUMENT, table_files, write_tables
from multirun_analysis.summary.compare import compare
from multirun_analysis.summary.effects import effects
from multirun_analysis.summary.effects_tables import effects_tables
from multirun_analysis.summary.pivot import pivot
from multirun_analysis.summary.study import Study
from multirun_analysis.trials.collect import ALL, choices, one_sweep, read, say, studies
from multirun_analysis.trials.long_table import FORMATS as FILE_SUFFIXES
from multirun_analysis.trials.long_table import save_trials, with_known_suffix
from multirun_analysis.trials.read import Reading, collect
from multirun_analysis.trials.tasks import LOCALIZATION, PAPERS

SUFFIXES = {"text": ".txt", "md": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}


def _trials(args: argparse.Namespace) -> int:
    with_known_suffix(args.out)
    sweep = None if args.sweep == ALL else args.sweep
    with terminal.busy("reading the runs"):
        reading = collect(args.tracking_uri, experiment=args.experiment, sweep=sweep)
    say(reading.notes)
    save_trials(reading.trials, args.out)
    failed = int((reading.trials["status"] != "ok").sum())
    terminal.say(f"{len(reading.trials)} trials ({failed} failed) in {args.out}")
    return 0


def _tables(args: argparse.Namespace) -> int:
    reading = read(args)
    ridge = args.paper == PAPERS[LOCALIZATION]
    there = (localization_backbones if ridge else backbones)(reading.trials)
    document = "ridge_document.tex" if ridge else DOCUMENT
    every = args.backbone == ALL
    written: list[str] = []
    files: list[Path] = []
    for backbone in there if every else [args.backbone]:
        made = _tables_of(args, reading, backbone)
        folder = args.out / backbone if every else args.out
        written += write_tables(made, folder, document)
        files += table_files(made, folder, document)
        for table in made:
            terminal.say(
                to_text(table, terminal.columns())
                if isinstance(table, Table)
                else f"{table.title}\n  not made: {table.reason}\n"
            )
    terminal.say("\n".join(written))
    _log(args, reading.trials, files, args.out, "analysis/tables")
    if args.backbone is None and len(there) > 1:
        say([f"these are of {there[0]}; for {', '.join(there[1:])} give --backbone NAME, or --backbone all"])
    return 0


def _tables_of(args: argparse.Namespace, reading: Reading, backbone: str | None) -> list[Table | Absent]:
    """The tables of the paper asked for; an option of the other paper is refused."""
    ridge = args.paper == PAPERS[LOCALIZATION]
    other = "layer" if ridge else "task"
    if getattr(args, other) is not None:
        raise AnalysisError(f"--{other} has no part in --paper {args.paper}")
    chosen = choices(args)
    chosen["backbone"] = backbone
    if ridge:
        return ridge_tables(reading.trials, origins=reading.origins, task=args.task, **chosen)
    return tables(reading.trials, origins=reading.origins, layer=args.layer, **chosen)


def _pivot(args: argparse.Namespace) -> int:
    reading = read(args)
    over = [name.strip() for name in args.average_over.split(",") if name.strip()]
    table = pivot(
        reading.trials, args.rows, args.cols, args.where, over, value=args.value, origins=reading.origins
    )
    _print([table], args.format)
    return 0


def _claims(args: argparse.Namespace) -> int:
    found = studies(args, read(args))
    made = [claims_table(check_claims(study), study) for study in found.detection]
    made += [ridge_claims_table(check_ridge_claims(study), study) for study in found.localization]
    _print(made, args.format)
    return 0


def _effects(args: argparse.Namespace) -> int:
    reading = read(args)
    chosen = choices(args)
    made: list[Table | Absent] = []
    for backbone in backbones(reading.trials) if args.backbone == ALL else [args.backbone]:
        chosen["backbone"] = backbone
        study = choose_study(reading.trials, origins=reading.origins, layer=args.layer, **chosen)
        made += effects_tables(effects(study), study)
    _print(made, args.format)
    return 0


def _figures(args: argparse.Namespace) -> int:
    # matplotlib is slow to import
    from multirun_analysis.figures.catalog import localization_pictures, pictures
    from multirun_analysis.figures.style import Picture, save

    reading = read(args)
    found = studies(args, reading)
    drawn: list[tuple[Study, list[Picture | Absent]]] = [
        (study, pictures(study, effects(study), tables_of(study))) for study in found.detection
    ]
    drawn += [(study, localization_pictures(study)) for study in found.localization]
    files: list[Path] = []
    for study, those in drawn:
        folder = args.out / study.backbone if args.backbone == ALL else args.out
        for picture in those:
            if isinstance(picture, Picture):
                paths = save(picture, folder, " ".join(study.warnings()))
                files += paths
                terminal.say(
                    f"wrote {folder / picture.name}.{{{','.join(path.suffix[1:] for path in paths)}}}"
                )
            else:
                say([f"{picture.title}: not made: {picture.reason}"])
    _log(args, reading.trials, files, args.out, "analysis/figures")
    return 0


def _report(args: argparse.Namespace) -> int:
    from multirun_analysis.reporting.page import report

    reading = read(args)
    chosen = choices(args)
    if args.backbone == ALL:
        chosen["backbone"] = None
    text = report(reading.trials, reading.notes, reading.origins, layer=args.layer, task=args.task, **chosen)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    terminal.say(f"wrote {args.out}")
    _log(args, reading.trials, [args.out], args.out.parent, "analysis")
    return 0


def _compare(args: argparse.Namespace) -> int:
    if len(args.sweeps) < 2:
        raise AnalysisError("compare needs two sweeps or more")
    names = [Path(name).stem if Path(name).suffix in FILE_SUFFIXES else name for name in args.sweeps]
    if len(set(names)) < len(names):  # files of one name in several folders
        names = args.sweeps
    first, *others = [one_sweep(args, name) for name in args.sweeps]
    made = [
        compare(first.trials, other.trials, (names[0], name), [*first.origins, *other.origins])
        for name, other in zip(names[1:], others, strict=True)
    ]
    _print(made, args.format)
    return 0


def _scores(args: argparse.Namespace) -> int:
    from multirun_analysis.summary.per_image import scored
    from multirun_analysis.summary.per_image_tables import (
        area_table,
        comparison_table,
        defect_table,
        misses_table,
    )

    reading = read(args)
    found = scored(reading.trials, args.where, args.tracking_uri, args.experiment)
    if args.against is None:
        further = (defect_table(found, reading.origins), misses_table(found, args.misses, reading.origins))
        made = [area_table(found, reading.origins), *(table for table in further if table is not None)]
    else:
        other = scored(reading.trials, args.against, args.tracking_uri, args.experiment, option="--against")
        made = [comparison_table(found, other, reading.origins)]
    _print(made, args.format)
    if args.out is None:
        return 0
    say(write_tables(made, args.out, f"{made[0].name}_document.tex"))
    if args.against is None:
        from multirun_analysis.figures.distributions import distributions
        from multirun_analysis.figures.style import save

        picture = distributions(found)
        save(picture, args.out, " ".join(made[0].warnings))
        say([f"wrote {args.out / picture.name}.{{pdf,svg,png}}"])
    return 0


def _log(args: argparse.Namespace, trials: pd.DataFrame, files: list[Path], base: Path, place: str) -> None:
    """What was written, onto the parent run, where that was asked for."""
    if args.log:
        from multirun_analysis.trials.publish import log_files

        terminal.say(log_files(args.tracking_uri, args.experiment, trials, files, base, place))


def _ui(args: argparse.Namespace) -> int:
    from multirun_analysis.ui import show

    return show(args.tracking_uri, args.experiment, args.port, browser=not args.no_browser)


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
    say([f"{table.title}: not made: {table.reason}" for table in absent])


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "trials": _trials,
    "tables": _tables,
    "pivot": _pivot,
    "claims": _claims,
    "effects": _effects,
    "figures": _figures,
    "report": _report,
    "compare": _compare,
    "scores": _scores,
    "ui": _ui,
}
