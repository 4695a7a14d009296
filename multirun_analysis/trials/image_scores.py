"""The scores of test images, as a sweep wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.reader import Reader
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.trials.connection import connect, experiment_ids
from multirun_analysis.trials.runs import TABLE_ERRORS, search


@dataclass(frozen=True)
class Images:
    """A category's test images: their scores, ties settled, and 1 for the anomalous ones; shapes (n,).

    ``paths`` (in the data set) and ``defects`` (the type, or "good") are None where they were not kept.
    """

    scores: Floats
    labels: NDArray[np.int8]
    paths: tuple[str, ...] | None = None
    defects: tuple[str, ...] | None = None

    @property
    def good(self) -> Floats:
        """Scores of the good images."""
        values: Floats = self.scores[self.labels == 0]
        return values

    @property
    def anomalous(self) -> Floats:
        """Scores of the anomalous images."""
        values: Floats = self.scores[self.labels != 0]
        return values


def read_scores(tracking_uri: str, experiment: str | None, trials: pd.DataFrame) -> dict[str, Images]:
    """Fingerprint -> images of those trials whose sweep, or own run, has their scores."""
    reader = connect(tracking_uri)
    wanted = set(trials["fingerprint"].dropna())
    found: dict[str, Images] = {}
    for run in _runs(reader, experiment, trials):
        if wanted <= set(found):
            break
        filters = [("fingerprint", "in", sorted(wanted - set(found)))]
        try:
            with reader.artifact(run, names.SCORES_TABLE) as path:
                rows = pq.read_table(path, filters=filters).to_pylist()
            for row in rows:
                scores = np.asarray(row["scores"], dtype=np.float64)
                found[row["fingerprint"]] = Images(
                    scores,
                    np.asarray(row["labels"], dtype=np.int8),
                    *(_words(row.get(column)) for column in ("paths", "defects")),
                )
        except (*TABLE_ERRORS, KeyError):
            continue  # an earlier version's, or one that has not ended
    return found


def _words(values: list[str | None] | None) -> tuple[str, ...] | None:
    """A list of the file, if it was kept and is whole."""
    if values is None or None in values:
        return None
    return tuple(map(str, values))


def _runs(reader: Reader, experiment: str | None, trials: pd.DataFrame) -> Iterator[Run]:
    """Runs that may hold the scores: the parents of the trials' sweeps, then their own."""
    ids = experiment_ids(reader, experiment)
    for sweep in sorted(trials["sweep"].dropna().unique()):
        parents = search(reader, ids, names.KIND_SWEEP, sweep)
        yield from (run for run in parents if run.data.tags.get(names.TAG_SWEEP) == sweep)
    for run_id in sorted(trials["run_id"].dropna().unique()):
        try:
            yield reader.client.get_run(run_id)
        except MlflowException:
            continue
