"""The scores of a configuration's test images, category by category."""

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
from multirun_analysis.errors import AnalysisError
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.coverage import listed
from multirun_analysis.summary.pivot import DIMENSIONS
from multirun_analysis.summary.wording import ordered
from multirun_analysis.trials.connection import connect, experiment_ids
from multirun_analysis.trials.filter import matching, parse_where
from multirun_analysis.trials.long_table import crops_in_words
from multirun_analysis.trials.read import TABLE_ERRORS, search

HOW = (
    f"a sweep writes them to {names.SCORES_TABLE} on its parent run when it ends, from the results in its "
    "runtime.cache_dir. Launch it again to write them; with runtime.resume=false if its results are of a "
    "version that did not keep scores"
)


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


@dataclass(frozen=True)
class Scored:
    """One configuration.

    Attributes
    ----------
    trials
        One a category.
    choices
        What it is: each dimension that has a value.
    images
        By category, sorted.
    notes
        Which categories have none, and why.
    """

    trials: pd.DataFrame
    choices: dict[str, str]
    images: dict[str, Images]
    notes: tuple[str, ...]


def scored(
    frame: pd.DataFrame,
    where: str,
    tracking_uri: str,
    experiment: str | None = None,
    *,
    option: str = "--where",
) -> Scored:
    """The one configuration that conditions select, with the scores of its test images.

    Parameters
    ----------
    frame
        Trials, each once.
    where
        Conditions (see `parse_where`).
    tracking_uri, experiment
        Where the trials were recorded.
    option
        Where the user wrote the conditions, for the messages.

    Raises
    ------
    AnalysisError
        If the conditions select no configuration or several, or no scores of it were kept.
    """
    trials = one_configuration(frame, where, option)
    choices = {name: str(trials[name].iloc[0]) for name in DIMENSIONS if trials[name].notna().all()}
    worked = trials["status"].eq(names.STATUS_OK).fillna(False).astype(bool)
    found = read_scores(tracking_uri, experiment, trials[worked])
    prints = dict(zip(trials["category"], trials["fingerprint"], strict=True))
    images = {name: found[prints[name]] for name in sorted(prints) if prints[name] in found}
    failed = sorted(trials.loc[~worked, "category"])
    without = sorted(set(trials.loc[worked, "category"]) - set(images))
    if not images:
        why = "all its trials failed" if not without else f"no scores of its images were kept: {HOW}"
        raise AnalysisError(f"{option} {where!r}: {why}")
    notes = []
    if failed:
        notes.append(f"Failed: {listed(failed)}.")
    if without:
        notes.append(f"No scores were kept of {listed(without)}: {HOW}.")
    return Scored(trials, choices, images, tuple(notes))


def one_configuration(frame: pd.DataFrame, where: str, option: str = "--where") -> pd.DataFrame:
    """The trials of the one configuration that conditions select; as `scored` without the scores."""
    frame = crops_in_words(frame)
    chosen = matching(frame, parse_where(where, frame, option))
    if chosen.empty:
        raise AnalysisError(f"no trial meets all of {option} {where!r}")
    different = chosen[list(DIMENSIONS)].drop_duplicates()
    if len(different) > 1:
        still = [name for name in DIMENSIONS if different[name].nunique(dropna=False) > 1]
        if "task" in still:  # each task leaves the other's choices out
            still = ["task"]
        said = "; ".join(
            f"{name} ({listed(map(str, ordered(name, different[name].dropna().unique())))})" for name in still
        )
        raise AnalysisError(
            f"{option} {where!r} selects {len(different)} configurations: choose one of each of {said}"
        )
    return chosen


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
