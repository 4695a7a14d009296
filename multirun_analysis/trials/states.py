"""Data sets that changed between sweeps, or that share a name: told apart, and never mixed in a table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.tasks import task_names_of

_SHOWN = 5


def label_data_states(trials: pd.DataFrame) -> pd.DataFrame:
    """Data sets of one name but several roots, and not of the same images, become ``NAME[root=ROOT]``."""
    names = []
    for name, group in trials[trials["data"].notna()].groupby("dataset"):
        several = (
            group.groupby(["category", task_names_of(group)])[["data", "root"]].nunique().gt(1).all(axis=1)
        )
        if several.any() or _disjoint_in_a_sweep(group):
            names.append(name)
    rows = trials["dataset"].isin(names) & trials["root"].notna()
    if not rows.any():
        return trials
    rooted = trials["dataset"] + "[root=" + trials["root"] + "]"
    return trials.assign(dataset=trials["dataset"].mask(rows.astype(bool), rooted))


def _disjoint_in_a_sweep(trials: pd.DataFrame) -> bool:
    """Whether one sweep has read different categories under several roots: these are two data sets."""
    for _, own in trials.groupby("sweep"):
        categories = {frozenset(found) for _, found in own.groupby("root")["category"]}
        if any(not (one & other) for one, other in itertools.combinations(categories, 2)):
            return True
    return False


def latest_state(trials: pd.DataFrame, launched: Mapping[str, int]) -> tuple[pd.DataFrame, list[str]]:
    """Without the trials on images that have changed since, and a note on them.

    Of several states of a category's images the one is kept whose sweep was launched last: a launch that
    finds all of its results known says as much about what is on disk as one that computes them.

    Parameters
    ----------
    launched
        Run id -> when the run's sweep was launched last.

    Raises
    ------
    AnalysisError
        If nothing says which state is the latest.
    """
    known = trials[trials["data"].notna()]
    states = known.assign(_task=task_names_of(known), _launched=known["run_id"].map(launched).fillna(0))
    keys = ["dataset", "category", "_task"]  # localization's digests are of the masks too
    last = states.groupby([*keys, "data"], as_index=False)["_launched"].max()
    newest = last.groupby(keys)["_launched"].transform("max")
    kept = last[last["_launched"] == newest]
    if len(kept) == len(last) and not kept.duplicated(keys).any():
        return trials, []
    unclear = kept[kept.duplicated(keys, keep=False)]
    if len(unclear):
        raise AnalysisError(
            f"the trials are of several states of the images of {_places(unclear)}, and nothing says which "
            "is the latest: choose one with --sweep"
        )
    current = pd.MultiIndex.from_frame(kept[[*keys, "data"]])
    old = states.index[~pd.MultiIndex.from_frame(states[[*keys, "data"]]).isin(current)]
    gone = trials.loc[old]
    note = (
        f"{len(gone)} trials are of images that have changed since ({_places(gone)}) and left out: launch "
        "their sweeps again, or choose one with --sweep"
    )
    return trials.drop(old), [note]


def _places(trials: pd.DataFrame) -> str:
    places = sorted(set(trials["dataset"] + "/" + trials["category"]))
    return ", ".join(places[:_SHOWN]) + (", ..." if len(places) > _SHOWN else "")
