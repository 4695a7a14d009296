"""``multirun-analysis``: what the runs say: tables, claims, effects, figures, one report; and the UI."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_sweep import terminal
from multirun_analysis.papers import PAPERS

if TYPE_CHECKING:
    from multirun_analysis.papers.base import AllChoices
    from multirun_analysis.trials.read import Source

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "anomaly_sweep"
_URI_HELP = "default: MLFLOW_TRACKING_URI where that is set (now: %(default)s)"
FORMATS = ("text", "md", "latex", "csv", "html")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 is the exit code of an error the user can act on."""
    args = _parser().parse_args(argv)

    def body() -> int:
        with terminal.busy("loading"):  # after the arguments: --help answers at once
            from multirun_analysis import commands  # noqa: F401

        return _COMMANDS[args.command](args)

    return terminal.run(body)


def _source(args: argparse.Namespace) -> Source:
    from multirun_analysis.trials.read import Source

    return Source(args.tracking_uri, args.experiment, args.trials, args.sweep)


def _choices(args: argparse.Namespace) -> AllChoices:
    """What the arguments say of a study."""
    return {
        "dataset": args.dataset,
        "backbone": args.backbone,
        "weights": args.weights,
        "input_size": args.input_size,
        "center_crop": args.center_crop,
        "train_images": args.train_images,
        "contamination": args.contamination,
        "subset_seed": args.subset_seed,
        "layer": args.layer,
        "task": getattr(args, "task", None),
    }


def _trials(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.trials(args.tracking_uri, experiment=args.experiment, sweep=args.sweep, out=args.out)


def _tables(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.tables(_source(args), _choices(args), paper=args.paper, out=args.out, log=args.log)


def _pivot(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    over = [name.strip() for name in args.average_over.split(",") if name.strip()]
    return commands.pivot(
        _source(args),
        rows=args.rows,
        cols=args.cols,
        where=args.where,
        average_over=over,
        value=args.value,
        form=args.format,
    )


def _claims(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.claims(_source(args), _choices(args), form=args.format)


def _effects(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.effects(_source(args), _choices(args), form=args.format)


def _figures(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.figures(_source(args), _choices(args), out=args.out, log=args.log)


def _report(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.report(_source(args), _choices(args), out=args.out, log=args.log)


def _compare(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.compare(args.tracking_uri, args.sweeps, experiment=args.experiment, form=args.format)


def _scores(args: argparse.Namespace) -> int:
    from multirun_analysis import commands

    return commands.scores(
        _source(args),
        where=args.where,
        against=args.against,
        misses=args.misses,
        form=args.format,
        out=args.out,
    )


def _ui(args: argparse.Namespace) -> int:
    from multirun_analysis.ui import show

    return show(args.tracking_uri, args.experiment, args.port, browser=not args.no_browser)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="multirun-analysis", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    trials = commands.add_parser("trials", help="write one row a trial as .csv or .parquet")
    _add_store(trials, trials)
    trials.add_argument("--sweep", metavar="NAME", help="only this sweep (default: all)")
    trials.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="trials.csv or trials.parquet"
    )

    tables = commands.add_parser("tables", help="make a paper's tables, with the published values beside")
    _add_reading(tables)
    _add_study(tables)
    _add_task(tables)
    _add_log(tables)
    tables.add_argument(
        "--paper",
        default="ono_mori",
        metavar="NAME",
        help=f"{' or '.join(PAPERS)}, or a module that has a PAPER of your own (default: %(default)s)",
    )
    tables.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the tables' files")

    pivot = commands.add_parser("pivot", help="print any table of means over the categories")
    _add_reading(pivot)
    pivot.add_argument(
        "--value",
        default="image_auroc",
        metavar="COLUMN",
        help="what is averaged, such as image_ap, pixel_auroc or score_seconds (default: %(default)s)",
    )
    pivot.add_argument("--rows", required=True, metavar="DIMENSION", help="such as category or pca_mode")
    pivot.add_argument("--cols", required=True, metavar="DIMENSION", help="such as layer")
    pivot.add_argument(
        "--where", default="", metavar="CONDITIONS", help='such as "estimator=mvg|knn1 & pca_mode=npca50"'
    )
    pivot.add_argument(
        "--average-over", default="", metavar="A,B", help="dimensions whose choices each cell averages"
    )
    pivot.add_argument("--format", choices=FORMATS, default=FORMATS[0])

    claims = commands.add_parser("claims", help="check the papers' statements on the trials")
    _add_reading(claims)
    _add_study(claims)
    _add_task(claims)
    claims.add_argument("--format", choices=FORMATS, default=FORMATS[0])

    effects = commands.add_parser("effects", help="what each group contributes, best configurations")
    _add_reading(effects)
    _add_study(effects)
    effects.add_argument("--format", choices=FORMATS, default=FORMATS[0])

    figures = commands.add_parser("figures", help="draw every figure as PDF, SVG and PNG")
    _add_reading(figures)
    _add_study(figures)
    _add_task(figures)
    _add_log(figures)
    figures.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the figures")

    report = commands.add_parser("report", help="write one page with everything, for each backbone")
    _add_reading(report)
    _add_study(report)
    _add_task(report)
    _add_log(report)
    report.add_argument("--out", type=Path, required=True, metavar="FILE", help="report.html")

    compare = commands.add_parser("compare", help="set sweeps against the first of them")
    _add_store(compare, compare)
    compare.add_argument(
        "sweeps",
        nargs="+",
        metavar="SWEEP",
        help="names of sweeps, or files as 'trials' writes them; two or more",
    )
    compare.add_argument("--format", choices=FORMATS, default=FORMATS[0])

    scores = commands.add_parser("scores", help="scores of images: by defect type, misses, DeLong's test")
    _add_store(scores, scores)
    scores.add_argument("--sweep", metavar="NAME", help="one sweep, or 'all' (default: the latest)")
    scores.add_argument(
        "--where",
        required=True,
        metavar="CONDITIONS",
        help='one configuration, such as "layer=level4 & estimator=mvg"',
    )
    scores.add_argument(
        "--misses",
        type=int,
        default=5,
        metavar="N",
        help="images listed of each kind and category, those ranked worst (default: %(default)s)",
    )
    scores.add_argument("--against", metavar="CONDITIONS", help="another one, compared by DeLong's test")
    scores.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    scores.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the table's files and, without --against, the figure",
    )
    scores.set_defaults(trials=None)

    ui = commands.add_parser("ui", help="serve MLflow's UI and open the table of runs")
    ui.add_argument("--tracking-uri", default=_default_uri(), metavar="URI", help=_URI_HELP)
    ui.add_argument(
        "--experiment",
        default=os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT,
        metavar="NAME",
        help="default: MLFLOW_EXPERIMENT_NAME where that is set (now: %(default)s)",
    )
    ui.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    ui.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser


def _default_uri() -> str:
    """As MLflow and ``anomaly-sweep`` take it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Where the trials come from: a store or a file, and which sweep."""
    source = parser.add_mutually_exclusive_group()
    _add_store(parser, source)
    source.add_argument("--trials", type=Path, metavar="FILE", help="read this file instead of MLflow")
    parser.add_argument(
        "--sweep",
        metavar="NAME",
        help="one sweep, or 'all' (default: the latest in MLflow, all of a file)",
    )


def _add_store(parser: argparse.ArgumentParser, group: argparse._ActionsContainer) -> None:
    group.add_argument("--tracking-uri", default=_default_uri(), metavar="URI", help=_URI_HELP)
    parser.add_argument(
        "--experiment",
        default=os.environ.get("MLFLOW_EXPERIMENT_NAME") or None,
        metavar="NAME",
        help="default: MLFLOW_EXPERIMENT_NAME where that is set, else every experiment there",
    )


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", action="store_true", help="also put the files on the sweep's parent run")


def _add_study(parser: argparse.ArgumentParser) -> None:
    """What the paper's tables and claims are about."""
    parser.add_argument("--dataset", metavar="D", help="where the trials have several")
    parser.add_argument(
        "--backbone",
        metavar="B",
        help="one, or 'all' for each in turn (default: the paper's, or the one there is)",
    )
    parser.add_argument("--weights", metavar="W", help="where the trials have several")
    parser.add_argument("--input-size", type=int, metavar="N", help="where the trials have several")
    parser.add_argument("--center-crop", metavar="N", help="'none' or pixels, where the trials have several")
    parser.add_argument(
        "--train-images", metavar="N", help="'all' or a number, where the trials have several (default: all)"
    )
    parser.add_argument(
        "--contamination", type=float, metavar="C", help="where the trials have several (default: 0)"
    )
    parser.add_argument("--subset-seed", metavar="S", help="where the trials have several")
    parser.add_argument("--layer", metavar="L", help="of detection (default: the backbone's deepest level)")


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        metavar="T",
        help="of localization, such as 'localization[sigma=2]' (default: the one with shipped settings)",
    )


if __name__ == "__main__":
    sys.exit(main())
