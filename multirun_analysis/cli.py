"""``multirun-analysis``: the trials as one file, the paper's tables, the MLflow UI at the right page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_sweep.errors import AnomalySweepError

if TYPE_CHECKING:
    from multirun_analysis.frame import Reading

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "anomaly_sweep"
ALL_SWEEPS = "all"
PAPERS = ("ono_mori",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 is the exit code of an error the user can act on."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except AnomalySweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


def _trials(args: argparse.Namespace) -> int:
    from multirun_analysis.frame import collect, save_trials, with_known_suffix

    with_known_suffix(args.out)
    sweep = None if args.sweep == ALL_SWEEPS else args.sweep
    reading = collect(args.tracking_uri, experiment=args.experiment, sweep=sweep)
    _say(reading.notes)
    save_trials(reading.trials, args.out)
    failed = int((reading.trials["status"] != "ok").sum())
    print(f"{len(reading.trials)} trials ({failed} failed) in {args.out}")
    return 0


def _tables(args: argparse.Namespace) -> int:
    from multirun_analysis.ono_mori import tables
    from multirun_analysis.output import write_tables
    from multirun_analysis.render import to_text
    from multirun_analysis.table import Table

    reading = _read_for_tables(args)
    _say(reading.notes)
    made = tables(
        reading.trials,
        dataset=args.dataset,
        backbone=args.backbone,
        weights=args.weights,
        input_size=args.input_size,
        layer=args.layer,
    )
    written = write_tables(made, args.out)
    for table in made:
        print(to_text(table) if isinstance(table, Table) else f"{table.title}\n  not made: {table.reason}\n")
    print("\n".join(written))
    return 0


def _read_for_tables(args: argparse.Namespace) -> Reading:
    from multirun_analysis.errors import AnalysisError
    from multirun_analysis.frame import collect, load_trials, unique

    sweep = None if args.sweep == ALL_SWEEPS else args.sweep
    if args.trials is None:
        return collect(args.tracking_uri, experiment=args.experiment, sweep=sweep, latest=args.sweep is None)
    trials = load_trials(args.trials)
    if sweep is not None:
        known = ", ".join(sorted(trials["sweep"].dropna().unique())) or "none"
        trials = trials[trials["sweep"].eq(sweep).fillna(False).astype(bool)]
        if trials.empty:
            raise AnalysisError(f"{args.trials} has no trial of sweep {sweep!r}; it has: {known}")
    if trials.empty:
        raise AnalysisError(f"{args.trials} holds no trial")
    return unique(trials, {}, [])


def _ui(args: argparse.Namespace) -> int:
    from multirun_analysis.ui import show

    return show(args.tracking_uri, args.experiment, args.port, browser=not args.no_browser)


def _say(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="multirun-analysis", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    trials = commands.add_parser("trials", help="write one row a trial as .csv or .parquet")
    _add_source(trials)
    trials.add_argument("--sweep", metavar="NAME", help="only this sweep (default: all)")
    trials.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="trials.csv or trials.parquet"
    )
    trials.set_defaults(command=_trials)

    tables = commands.add_parser("tables", help="make a paper's tables, with the published values beside")
    source = tables.add_mutually_exclusive_group()
    _add_source(tables, source)
    source.add_argument("--trials", type=Path, metavar="FILE", help="read this file instead of MLflow")
    tables.add_argument("--paper", choices=PAPERS, default=PAPERS[0])
    tables.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the tables' files")
    tables.add_argument(
        "--sweep",
        metavar="NAME",
        help="one sweep, or 'all' (default: the latest in MLflow, all of a file)",
    )
    tables.add_argument("--dataset", metavar="D", help="where the trials have several")
    tables.add_argument("--backbone", metavar="B", help="default: efficientnet_b5, or the one there is")
    tables.add_argument("--weights", metavar="W", help="where the trials have several")
    tables.add_argument("--input-size", type=int, metavar="N", help="where the trials have several")
    tables.add_argument("--layer", metavar="L", help="default: the backbone's deepest level")
    tables.set_defaults(command=_tables)

    ui = commands.add_parser("ui", help="serve MLflow's UI and open the table of runs")
    ui.add_argument("--tracking-uri", default=DEFAULT_URI, metavar="URI", help="default: %(default)s")
    ui.add_argument("--experiment", default=DEFAULT_EXPERIMENT, metavar="NAME", help="default: %(default)s")
    ui.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    ui.add_argument("--no-browser", action="store_true", help="only print the address")
    ui.set_defaults(command=_ui)
    return parser


def _add_source(
    parser: argparse.ArgumentParser, group: argparse._MutuallyExclusiveGroup | None = None
) -> None:
    (group or parser).add_argument(
        "--tracking-uri", default=DEFAULT_URI, metavar="URI", help="default: %(default)s"
    )
    parser.add_argument("--experiment", metavar="NAME", help="default: every experiment there")


if __name__ == "__main__":
    sys.exit(main())
