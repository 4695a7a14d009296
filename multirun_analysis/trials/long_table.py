"""The long table: one row a trial, exactly the columns of the contract, the same types always."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from anomaly_sweep.tracking.names import DETECTION, GROUPS, PREFIXES, STATUS_OK, TRIAL_COLUMNS
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.states import latest_state, tell_apart

if TYPE_CHECKING:
    from multirun_analysis.summary.coverage import Origin
    from multirun_analysis.trials.read import RunEnd

#: Measures that a failed trial lacks.
METRICS = tuple(PREFIXES)
FLOATS = (*METRICS, "fit_seconds", "score_seconds", "map_seconds", "backbone_seconds")
INTEGERS = ("input_size", "center_crop", "n_features", "n_train", "n_test", "state_bytes")

#: The choices of a configuration: those of the other task are missing.
CHOICES = ("task", *GROUPS, "localizer")
#: What makes two trials the same trial of the same configuration.
LABELS = ("dataset", "category", "weights", "input_size", "center_crop", *CHOICES)
SORTED_BY = ["sweep", "dataset", *CHOICES, "category"]
#: In words, for a ``center_crop`` that is missing: all of the image is taken.
NO_CROP = "none"
FORMATS = (".csv", ".parquet")

log = logging.getLogger(__name__)


@dataclass
class Reading:
    """Trials, what is worth telling the user about how they were read, and what the sweeps ran with."""

    trials: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)


def read_trials(
    tracking_uri: str, *, experiment: str | None = None, sweep: str | None = None
) -> pd.DataFrame:
    """Read the trials of all sweeps, or of one, from MLflow.

    Parameters
    ----------
    tracking_uri
        MLflow tracking URI; a SQLite file has to exist.
    experiment
        Name of the experiment; all of them when None.
    sweep
        Name of the sweep; all of them when None.

    Returns
    -------
    pandas.DataFrame
        Columns ``TRIAL_COLUMNS``; each trial once (see `drop_duplicates`).
    """
    reading = collect(tracking_uri, experiment=experiment, sweep=sweep)
    for note in reading.notes:
        log.warning(note)
    return reading.trials


def collect(
    tracking_uri: str, *, experiment: str | None = None, sweep: str | None = None, latest: bool = False
) -> Reading:
    """`read_trials` with its notes; ``latest`` reads the sweep that was started last."""
    from multirun_analysis.trials.read import read_store

    stored = read_store(tracking_uri, experiment=experiment, sweep=sweep, latest=latest)
    trials = as_trials(stored.rows)
    if trials.empty:
        where = f"experiment {experiment!r} of {tracking_uri}" if experiment else tracking_uri
        raise AnalysisError(
            f"{where} holds no recorded trial{f' of sweep {sweep!r}' if sweep else ''}: "
            "run a sweep with anomaly-sweep -m first"
        )
    return replace(unique(trials, stored.ends, stored.notes), origins=stored.origins)


def unique(trials: pd.DataFrame, ends: Mapping[str, RunEnd], notes: list[str]) -> Reading:
    """`drop_duplicates` as a reading: sorted, with the number dropped among the notes.

    Data sets that share a name are told apart first, and trials on images that changed since are left out.
    """
    launched = {run_id: end.launched for run_id, end in ends.items()}
    trials, changes = latest_state(tell_apart(trials), launched)
    notes = [*notes, *changes]
    kept, dropped = drop_duplicates(trials, ends)
    if dropped:
        notes = [*notes, f"{dropped} trials are recorded more than once: the latest finished is kept"]
    return Reading(kept.sort_values(SORTED_BY, ignore_index=True), notes)


def as_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Give rows the contract's columns, in order, with one type each.

    Texts are pandas strings (empty ones missing, but for ``reason``), counts are nullable integers,
    measures are floats with NaN where missing. The metrics are missing where the status is not ok. Trials
    recorded before there were tasks are of detection.
    """
    rows = rows.reindex(columns=list(TRIAL_COLUMNS))
    columns: dict[str, pd.Series] = {}
    for name in TRIAL_COLUMNS:
        column = rows[name]
        if column.isna().all():  # quick: each task leaves the other's columns so
            kind = "float64" if name in FLOATS else "Int64" if name in INTEGERS else "string"
            columns[name] = pd.Series(float("nan") if name in FLOATS else pd.NA, rows.index, dtype=kind)
            if name == "reason":
                columns[name] = columns[name].fillna("")
        elif name in FLOATS:
            columns[name] = pd.to_numeric(column, errors="coerce").astype("float64")
        elif name in INTEGERS:
            columns[name] = pd.to_numeric(column, errors="coerce").astype("Float64").astype("Int64")
        elif name == "reason":
            columns[name] = column.astype("string").fillna("")
        else:
            text = column.astype("string")
            empty = text.eq("").to_numpy(dtype=bool, na_value=False)
            columns[name] = text.mask(empty, pd.NA) if empty.any() else text
    trials = pd.DataFrame(columns)
    trials["task"] = trials["task"].fillna(DETECTION)
    trials.loc[(trials["status"] != STATUS_OK).fillna(True).astype(bool), list(METRICS)] = float("nan")
    return trials


def crops_in_words(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with ``center_crop`` as text, `NO_CROP` where all of the image is taken."""
    return trials.assign(center_crop=trials["center_crop"].astype("string").fillna(NO_CROP))


def drop_duplicates(trials: pd.DataFrame, ends: Mapping[str, RunEnd]) -> tuple[pd.DataFrame, int]:
    """Keep each trial once, and count those dropped.

    Two rows with one fingerprint and the same choices are one trial: its value is kept before its
    failure. Of rows that have the same labels but are not known to be the same, the one whose run
    finished last is kept, whatever came of it. A row read twice from one run is not counted.
    """
    ranked = trials.assign(
        _ok=trials["status"].eq(STATUS_OK).fillna(False).astype(bool),
        _finished=[run in ends and ends[run].finished for run in trials["run_id"]],
        _time=[ends[run].time if run in ends else 0 for run in trials["run_id"]],
    )
    once = ranked.drop_duplicates(["run_id", *LABELS], keep="last")
    known = once["fingerprint"].notna()
    by_fingerprint = (
        once[known]
        .sort_values(["_ok", "_finished", "_time"], kind="stable")
        .drop_duplicates(["fingerprint", "category", *CHOICES], keep="last")
    )
    kept = (
        pd.concat([by_fingerprint, once[~known]])
        .sort_values(["_finished", "_time"], kind="stable")
        .drop_duplicates(list(LABELS), keep="last")
    )
    return kept[list(TRIAL_COLUMNS)].reset_index(drop=True), len(once) - len(kept)


def save_trials(frame: pd.DataFrame, path: str | Path) -> None:
    """Write trials as ``.csv`` or ``.parquet``, by the suffix; missing folders are made."""
    path = with_known_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, lineterminator="\n")
    else:
        frame.to_parquet(path, index=False)


def load_trials(path: str | Path) -> pd.DataFrame:
    """Read what `save_trials` wrote, or a sweep's own ``trials.parquet``."""
    path = with_known_suffix(path)
    try:
        if path.suffix == ".csv":
            rows = pd.read_csv(path, dtype="string", keep_default_na=False, na_values=[""])
            for name in set(FLOATS) & set(rows):  # by Python's float: every digit comes back
                rows[name] = [float("nan") if pd.isna(text) else float(text) for text in rows[name]]
        else:
            rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"cannot read the trials of {path}: {error}") from error
    lacking = [name for name in ("category", "image_auroc", "status", *GROUPS) if name not in rows]
    if lacking:
        raise AnalysisError(f"{path} is not a table of trials: it has no column {', '.join(lacking)}")
    return as_trials(rows)


def with_known_suffix(path: str | Path) -> Path:
    """Refuse a file whose suffix is not one of ``FORMATS``."""
    path = Path(path)
    if path.suffix not in FORMATS:
        raise AnalysisError(f"{path}: trials are written and read as {' or '.join(FORMATS)}, by the suffix")
    return path
