"""What each command of ``multirun-analysis`` does; imported only once the arguments are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from multirun_analysis.claims import check_claims
from multirun_analysis.claims_table import claims_table
from multirun_analysis.compare import compare
from multirun_analysis.effects import effects
from multirun_analysis.effects_tables import effects_tables
from multirun_analysis.errors import AnalysisError
from multirun_analysis.frame import FORMATS as FILE_SUFFIXES
from multirun_analysis.frame import Reading, collect, load_trials, save_trials, unique, with_known_suffix
from multirun_analysis.free_pivot import free_pivot
from multirun_analysis.html import page, table_html
from multirun_analysis.ono_mori import tables, tables_of
from multirun_analysis.output import table_files, write_tables
from multirun_analysis.render import RENDERERS, to_text
from multirun_analysis.study import Study, backbones, choose_study
from multirun_analysis.table import Absent, Table

ALL = "all"
SUFFIXES = {"text": ".txt", "md": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}


def _trials(args: argparse.Namespace) -> int:
    with_known_suffix(args.out)
    sweep = None if args.sweep == ALL else args.sweep
    reading = collect(args.tracking_uri, experiment=args.experiment, sweep=sweep)
    _say(reading.notes)
    save_trials(reading.trials, args.out)
    failed = int((reading.trials["status"] != "ok").sum())
    print(f"{len(reading.trials)} trials ({failed} failed) in {args.out}")
    return 0


def _tables(args: argparse.Namespace) -> int:
    reading = _read(args)
    there = backbones(reading.trials)
    every = args.backbone == ALL
    written: list[str] = []
    files: list[Path] = []
    for backbone in there if every else [args.backbone]:
        made = tables(
            reading.trials,
            dataset=args.dataset,
            backbone=backbone,
            weights=args.weights,
            input_size=args.input_size,
            layer=args.layer,
        )
        written += write_tables(made, args.out / backbone if every else args.out)
        files += table_files(made, args.out / backbone if every else args.out)
        for table in made:
            print(
                to_text(table) if isinstance(table, Table) else f"{table.title}\n  not made: {table.reason}\n"
            )
    print("\n".join(written))
    _log(args, reading.trials, files, args.out, "analysis/tables")
    if args.backbone is None and len(there) > 1:
        _say([f"these are of {there[0]}; for {', '.join(there[1:])} give --backbone NAME, or --backbone all"])
    return 0


def _pivot(args: argparse.Namespace) -> int:
    reading = _read(args)
    over = [name.strip() for name in args.average_over.split(",") if name.strip()]
    table = free_pivot(reading.trials, args.rows, args.cols, args.where, over)
    print(RENDERERS[SUFFIXES[args.format]](table), end="")
    return 0


def _claims(args: argparse.Namespace) -> int:
    for study in _studies(args, _read(args).trials):
        _print([claims_table(check_claims(study), study)], args.format)
    return 0


def _effects(args: argparse.Namespace) -> int:
    for study in _studies(args, _read(args).trials):
        _print(effects_tables(effects(study), study), args.format)
    return 0


def _figures(args: argparse.Namespace) -> int:
    from multirun_analysis.figures.every import pictures  # matplotlib is slow to import
    from multirun_analysis.figures.style import Picture, save

    trials = _read(args).trials
    files: list[Path] = []
    for study in _studies(args, trials):
        folder = args.out / study.backbone if args.backbone == ALL else args.out
        for picture in pictures(study, effects(study), tables_of(study)):
            if isinstance(picture, Picture):
                paths = save(picture, folder, " ".join(study.warnings()))
                files += paths
                print(f"wrote {folder / picture.name}.{{{','.join(path.suffix[1:] for path in paths)}}}")
            else:
                _say([f"{picture.title}: not made: {picture.reason}"])
    _log(args, trials, files, args.out, "analysis/figures")
    return 0


def _report(args: argparse.Namespace) -> int:
    from multirun_analysis.report import report  # matplotlib is slow to import

    reading = _read(args)
    text = report(
        reading.trials,
        reading.notes,
        reading.origins,
        dataset=args.dataset,
        backbone=None if args.backbone == ALL else args.backbone,
        weights=args.weights,
        input_size=args.input_size,
        layer=args.layer,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(f"wrote {args.out}")
    _log(args, reading.trials, [args.out], args.out.parent, "analysis")
    return 0


def _compare(args: argparse.Namespace) -> int:
    if len(args.sweeps) < 2:
        raise AnalysisError("compare needs two sweeps or more")
    names = [Path(name).stem if Path(name).suffix in FILE_SUFFIXES else name for name in args.sweeps]
    if len(set(names)) < len(names):  # files of one name in several folders
        names = args.sweeps
    frames = [_one_sweep(args, name) for name in args.sweeps]
    made = [
        compare(frames[0], frame, (names[0], name)) for name, frame in zip(names[1:], frames[1:], strict=True)
    ]
    _print(made, args.format)
    return 0


def _one_sweep(args: argparse.Namespace, name: str) -> pd.DataFrame:
    """Trials of a file if the name has a file's suffix, of a sweep in MLflow otherwise."""
    if Path(name).suffix in FILE_SUFFIXES:
        reading = unique(load_trials(name), {}, [])
    else:
        reading = collect(args.tracking_uri, experiment=args.experiment, sweep=name)
    _say(reading.notes)
    return reading.trials


def _log(args: argparse.Namespace, trials: pd.DataFrame, files: list[Path], base: Path, place: str) -> None:
    """What was written, onto the parent run, where that was asked for."""
    if args.log:
        from multirun_analysis.parent import log_files  # imports mlflow

        print(log_files(args.tracking_uri, args.experiment, trials, files, base, place))


def _ui(args: argparse.Namespace) -> int:
    from multirun_analysis.ui import show

    return show(args.tracking_uri, args.experiment, args.port, browser=not args.no_browser)


def _studies(args: argparse.Namespace, trials: pd.DataFrame) -> Iterator[Study]:
    """The study asked for, or one for each backbone."""
    for backbone in backbones(trials) if args.backbone == ALL else [args.backbone]:
        yield choose_study(
            trials,
            dataset=args.dataset,
            backbone=backbone,
            weights=args.weights,
            input_size=args.input_size,
            layer=args.layer,
        )


def _print(made: Sequence[Table | Absent], form: str) -> None:
    """Tables to the terminal in one format, what is absent and why beside them."""
    absent = [table for table in made if isinstance(table, Absent)]
    shown = [table for table in made if isinstance(table, Table)]
    if form == "html":
        print(page(shown[0].title if shown else "", "\n".join(map(table_html, shown))), end="")
    else:
        print("\n".join(RENDERERS[SUFFIXES[form]](table) for table in shown), end="")
    _say([f"{table.title}: not made: {table.reason}" for table in absent])


def _read(args: argparse.Namespace) -> Reading:
    """The trials of the store or of a file, each once; notes go to the terminal."""
    if getattr(args, "log", False) and args.trials is not None:
        raise AnalysisError("--log needs the tracking store: give --tracking-uri, not --trials")
    sweep = None if args.sweep == ALL else args.sweep
    if args.trials is None:
        reading = collect(
            args.tracking_uri, experiment=args.experiment, sweep=sweep, latest=args.sweep is None
        )
    else:
        trials = load_trials(args.trials)
        if sweep is not None:
            known = ", ".join(sorted(trials["sweep"].dropna().unique())) or "none"
            trials = trials[trials["sweep"].eq(sweep).fillna(False).astype(bool)]
            if trials.empty:
                raise AnalysisError(f"{args.trials} has no trial of sweep {sweep!r}; it has: {known}")
        if trials.empty:
            raise AnalysisError(f"{args.trials} holds no trial")
        reading = unique(trials, {}, [])
    _say(reading.notes)
    return reading


def _say(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "trials": _trials,
    "tables": _tables,
    "pivot": _pivot,
    "claims": _claims,
    "effects": _effects,
    "figures": _figures,
    "report": _report,
    "compare": _compare,
    "ui": _ui,
}
