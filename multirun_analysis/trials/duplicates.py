"""Each trial once: which of several rows of a trial is kept."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from anomaly_sweep.tracking.names import STATUS_OK, SUBSET_PARAMS
from multirun_analysis.trials.long_table import CHOICES, LABELS, other_labels
from multirun_analysis.trials.run_info import RunEnd


def drop_duplicates(trials: pd.DataFrame, ends: Mapping[str, RunEnd]) -> tuple[pd.DataFrame, int]:
    """Keep each trial once, and count those dropped.

    Two rows with one fingerprint and the same choices are one trial: its value is kept before its
    failure. Of rows that have the same labels but are not known to be the same, the one whose run
    finished last is kept, whatever came of it. A row read twice from one run is not counted.
    """
    others = other_labels(trials)
    ranked = trials.assign(
        _ok=trials["status"].eq(STATUS_OK).fillna(False).astype(bool),
        _finished=[run in ends and ends[run].finished for run in trials["run_id"]],
        _time=[ends[run].time if run in ends else 0 for run in trials["run_id"]],
    )
    once = ranked.drop_duplicates(["run_id", *LABELS, *others], keep="last")
    known = once["fingerprint"].notna()
    by_fingerprint = (
        once[known]
        .sort_values(["_ok", "_finished", "_time"], kind="stable")
        .drop_duplicates(["fingerprint", "category", *SUBSET_PARAMS, *CHOICES, *others], keep="last")
    )
    kept = (
        pd.concat([by_fingerprint, once[~known]])
        .sort_values(["_finished", "_time"], kind="stable")
        .drop_duplicates([*LABELS, *others], keep="last")
    )
    return kept[list(trials.columns)].reset_index(drop=True), len(once) - len(kept)
