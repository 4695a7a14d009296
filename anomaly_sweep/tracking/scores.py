"""The scores of every trial's test images as one Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly_sweep.tracking import names


class ImageScores(NamedTuple):
    """What one trial gave its test images: float64 (little-endian) scores and int8 labels, in one order."""

    fingerprint: str
    category: str
    scores: bytes
    labels: bytes


def write_scores(path: Path, trials: Sequence[ImageScores]) -> None:
    """Write ``names.SCORES_TABLE``: a row a trial, its labels and scores as lists of one length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ends = np.cumsum([0, *(len(trial.labels) for trial in trials)], dtype=np.int32)
    scores = np.frombuffer(b"".join(trial.scores for trial in trials), dtype="<f8")
    labels = np.frombuffer(b"".join(trial.labels for trial in trials), dtype=np.int8)
    columns = (
        pa.array([trial.fingerprint for trial in trials], pa.string()),
        pa.array([trial.category for trial in trials], pa.string()),
        pa.ListArray.from_arrays(ends, labels),
        pa.ListArray.from_arrays(ends, scores),
    )
    table = pa.table(dict(zip(names.SCORE_COLUMNS, columns, strict=True)))
    # Scores hardly ever repeat: a dictionary of them would be larger than they are.
    pq.write_table(table, path, compression="zstd", use_dictionary=["category", "labels.list.element"])
