"""Recording what the trials gave each test image."""

from __future__ import annotations

import logging
from pathlib import Path

from anomaly_sweep.errors import CacheError
from anomaly_sweep.sweep.record.results import RESULTS, ResultStore
from anomaly_sweep.tracking.content import Rows
from anomaly_sweep.tracking.names import STATUS_OK
from anomaly_sweep.tracking.scores import ImageScores
from anomaly_sweep.tracking.writer import Recorder

log = logging.getLogger(__name__)


def record_scores(recorder: Recorder, run_id: str, rows: Rows, cache_dir: Path) -> None:
    """Put the scores of the trials in rows of the long table on a run: of those that the result store has.

    A result store that cannot be read is told and left alone: the scores are not worth a sweep that does
    not end.

    Raises
    ------
    TrackingError
        If the tracking store cannot be written.
    """
    trials = dict.fromkeys(
        (row["fingerprint"], row["category"]) for row in rows if row["status"] == STATUS_OK
    )
    path = cache_dir / RESULTS
    if not trials:
        return
    try:
        found = ResultStore(path).scores(trial_id for trial_id, _ in trials)
    except CacheError as error:
        log.warning("the images' scores are not recorded: %s", error)
        return
    kept = [
        ImageScores(trial_id, category, *found[trial_id])
        for trial_id, category in trials
        if trial_id in found
    ]
    if kept:
        recorder.log_scores(run_id, kept)
