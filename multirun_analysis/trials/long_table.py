"""The long table: one row a trial, exactly the columns of the contract, the same types always."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from anomaly_sweep.config import ALL_IMAGES
from anomaly_sweep.tracking.names import (
    CONTEXT_PARAMS,
    DETECTION,
    GROUPS,
    PREFIXES,
    STATUS_OK,
    SUBSET_PARAMS,
    TRIAL_COLUMNS,
    columns,
)
from multirun_analysis.errors import AnalysisError

DIMENSIONS = (*CONTEXT_PARAMS, *GROUPS, "localizer")

#: Measures that a failed trial lacks.
METRICS = tuple(PREFIXES)
FLOATS = (*METRICS, "contamination", "fit_seconds", "score_seconds", "map_seconds", "backbone_seconds")
INTEGERS = (
    *("input_size", "center_crop", "train_images", "subset_seed"),
    *("n_features", "n_train", "n_test", "state_bytes"),
)

#: The choices of a configuration: those of the other task are missing.
CHOICES = ("task", *GROUPS, "localizer")
#: What makes two trials the same trial of the same configuration.
LABELS = ("dataset", "category", "weights", "input_size", "center_crop", *SUBSET_PARAMS, *CHOICES)
SORTED_BY = ["sweep", "dataset", *SUBSET_PARAMS, *CHOICES, "category"]
#: In words, for a ``center_crop`` that is missing: all of the image is taken.
NO_CROP = "none"
FORMATS = (".csv", ".parquet")


def as_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Give rows the contract's columns, in order, with one type each.

    Texts are pandas strings (empty ones missing, but for ``reason``), counts are nullable integers,
    measures are floats with NaN where missing. The metrics are missing where the status is not ok. Trials
    recorded before there were tasks are of detection. Further columns are labels of other tasks: texts.
    """
    rows = rows.reindex(columns=columns(map(str, rows.columns)))
    typed: dict[str, pd.Series] = {}
    for name in rows.columns:
        column = rows[name]
        if column.isna().all():  # quick: each task leaves the other's columns so
            kind = "float64" if name in FLOATS else "Int64" if name in INTEGERS else "string"
            typed[name] = pd.Series(float("nan") if name in FLOATS else pd.NA, rows.index, dtype=kind)
            if name == "reason":
                typed[name] = typed[name].fillna("")
        elif name in FLOATS:
            typed[name] = pd.to_numeric(column, errors="coerce").astype("float64")
        elif name in INTEGERS:
            typed[name] = pd.to_numeric(column, errors="coerce").astype("Float64").astype("Int64")
        elif name == "reason":
            typed[name] = column.astype("string").fillna("")
        else:
            text = column.astype("string")
            empty = text.eq("").to_numpy(dtype=bool, na_value=False)
            typed[name] = text.mask(empty, pd.NA) if empty.any() else text
    trials = pd.DataFrame(typed)
    trials["task"] = trials["task"].fillna(DETECTION)
    trials.loc[(trials["status"] != STATUS_OK).fillna(True).astype(bool), list(METRICS)] = float("nan")
    return trials


def other_labels(trials: pd.DataFrame) -> tuple[str, ...]:
    """Labels of tasks from elsewhere: the columns beyond the contract's."""
    return tuple(str(name) for name in trials.columns if name not in TRIAL_COLUMNS)


def dimensions(trials: pd.DataFrame) -> tuple[str, ...]:
    """What trials can be told apart by: `DIMENSIONS`, and `other_labels`."""
    return (*DIMENSIONS, *other_labels(trials))


def crops_in_words(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with ``center_crop`` as text, `NO_CROP` where all of the image is taken."""
    return trials.assign(center_crop=trials["center_crop"].astype("string").fillna(NO_CROP))


def context_in_words(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with texts and numbers where a missing value of the context is a choice.

    ``center_crop`` as `crops_in_words`, ``train_images`` as text (``all``), ``contamination`` 0 and
    ``subset_seed`` as text (``none``).
    """
    return crops_in_words(trials).assign(
        train_images=trials["train_images"].astype("string").fillna(ALL_IMAGES),
        contamination=trials["contamination"].fillna(0.0),
        subset_seed=trials["subset_seed"].astype("string").fillna("none"),
    )


def whole(trials: pd.DataFrame) -> pd.Series:
    """Which trials are of all training images as they are."""
    return trials[list(SUBSET_PARAMS)].isna().all(axis=1)


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
