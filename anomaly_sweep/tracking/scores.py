"""The scores of every trial's test images as one Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.tracking import names

if TYPE_CHECKING:
    import pyarrow as pa


#: Of each test image its path relative to the data set's root, and its defect type or "good".
ImageNames = tuple[tuple[str, str], ...]


class ImageScores(NamedTuple):
    """What one trial gave its test images: float64 (little-endian) scores and int8 labels, in one order.

    ``images`` says which they are, where that was kept.
    """

    fingerprint: str
    category: str
    scores: bytes
    labels: bytes
    images: ImageNames | None = None


def write_scores(path: Path, trials: Sequence[ImageScores]) -> None:
    """Write ``names.SCORES_TABLE``: a row a trial, what it has of its images as lists of one length."""
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
        *(pa.ListArray.from_arrays(ends, _words(trials, part)) for part in (0, 1)),
    )
    table = pa.table(dict(zip(names.SCORE_COLUMNS, columns, strict=True)))
    # Scores hardly ever repeat: a dictionary of them would be larger than they are.
    pq.write_table(table, path, compression="zstd", use_dictionary=["category", "labels.list.element"])


def _words(trials: Sequence[ImageScores], part: int) -> pa.Array:
    """A name's part for each test image of each trial; trials of one category share theirs."""
    import pyarrow as pa

    places: dict[ImageNames, NDArray[np.int32]] = {}
    known: dict[str, int] = {}
    for images in {trial.images for trial in trials if trial.images is not None}:
        own = [known.setdefault(image[part], len(known)) for image in images]
        places[images] = np.array(own, dtype=np.int32)
    unknown = -1
    indices = [
        np.full(len(trial.labels), unknown, np.int32) if trial.images is None else places[trial.images]
        for trial in trials
    ]
    every = np.concatenate([np.empty(0, np.int32), *indices])
    return pa.DictionaryArray.from_arrays(
        pa.array(every, mask=every == unknown), pa.array(list(known), pa.string())
    )
