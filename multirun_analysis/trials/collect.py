"""What a command reads: the trials and the studies that its arguments ask for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from anomaly_sweep import terminal
from multirun_analysis.errors import AnalysisError
from multirun_analysis.papers.studies import Studies, choose_studies
from multirun_analysis.summary.study import Choices
from multirun_analysis.trials.long_table import FORMATS, load_trials
from multirun_analysis.trials.read import Reading, collect, unique

ALL = "all"


def read(args: argparse.Namespace) -> Reading:
    """The trials of the store or of a file, each once; notes go to the terminal."""
    if getattr(args, "log", False) and args.trials is not None:
        raise AnalysisError("--log needs the tracking store: give --tracking-uri, not --trials")
    sweep = None if args.sweep == ALL else args.sweep
    if args.trials is None:
        with terminal.busy("reading the runs"):
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
    say(reading.notes)
    return reading


def one_sweep(args: argparse.Namespace, name: str) -> Reading:
    """Trials of a file if the name has a file's suffix, of a sweep in MLflow otherwise."""
    if Path(name).suffix in FORMATS:
        reading = unique(load_trials(name), {}, [])
    else:
        with terminal.busy("reading the runs"):
            reading = collect(args.tracking_uri, experiment=args.experiment, sweep=name)
    say(reading.notes)
    return reading


def choices(args: argparse.Namespace) -> Choices:
    """What the arguments say of a scope."""
    return Choices(
        dataset=args.dataset,
        backbone=args.backbone,
        weights=args.weights,
        input_size=args.input_size,
        center_crop=args.center_crop,
    )


def studies(args: argparse.Namespace, reading: Reading) -> Studies:
    """The studies asked for, of both tasks; what cannot be one is told."""
    every = args.backbone == ALL
    found = choose_studies(
        reading.trials,
        every=every,
        origins=reading.origins,
        layer=args.layer,
        task=args.task,
        **choices(args),
    )
    say([f"{name}: {reason}" for name, reason in found.refused])
    return found


def say(notes: Iterable[str]) -> None:
    """Notes for the user, beside the output."""
    for note in notes:
        terminal.say(f"note: {note}", error=True)
