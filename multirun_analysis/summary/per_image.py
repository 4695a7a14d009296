"""The scores of a configuration's test images, category by category."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from anomaly_sweep.tracking import names
from multirun_analysis.errors import AnalysisError
from multirun_analysis.summary.coverage import listed
from multirun_analysis.trials.filter import matching, parse_where
from multirun_analysis.trials.image_scores import Images, read_scores
from multirun_analysis.trials.labels import ordered
from multirun_analysis.trials.long_table import DIMENSIONS, crops_in_words

HOW = (
    f"a sweep writes them to {names.SCORES_TABLE} on its parent run when it ends, from the results in its "
    "runtime.cache_dir. Launch it again to write them; with runtime.resume=false if its results are of a "
    "version that did not keep scores"
)


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
        choices = "; ".join(
            f"{name} ({listed(map(str, ordered(name, different[name].dropna().unique())))})" for name in still
        )
        raise AnalysisError(
            f"{option} {where!r} selects {len(different)} configurations: choose one of each of {choices}"
        )
    return chosen
