"""What stands behind the cells of a table: which categories are there, which are not, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from multirun_analysis.summary.means import MISSING, NO_VALUE, MeanTable
from multirun_analysis.trials.labels import ordered
from multirun_analysis.trials.long_table import NO_CROP, context_in_words, crops_in_words, whole
from multirun_analysis.trials.run_info import Origin

LISTED = 8  # of a long list, this many are named
RUNS_NAMED = 5
REASONS = 3
RANDOM = "random"


def coverage(pivots: Sequence[MeanTable], total: int) -> list[str]:
    """How many of ``total`` categories stand behind the cells, and which do not."""
    holes = pd.concat([_named_holes(pivot) for pivot in pivots])
    whole_cells = holes[holes["empty"]].drop_duplicates("cell")
    partial = holes[~holes["empty"]]
    complete = total - partial["category"].nunique()
    lines = [f"Coverage: {complete} of {total} categories complete in the cells that were run."]
    lines += _failures(partial[~partial["status"].isin([MISSING, NO_VALUE])], total)
    for status, word in ((MISSING, "Missing"), (NO_VALUE, "Recorded without a value")):
        lacking = partial[partial["status"] == status]
        if len(lacking):
            lines.append(f"{word}: {_places(lacking, total)}.")
    if len(whole_cells):
        lines.append(f"Not run: {listed(whole_cells['cell'])}.")
    return lines


def why_empty(pivots: Sequence[MeanTable], total: int) -> str | None:
    """Why tables have no value at all; None if one of them has one."""
    if any(pivot.values.notna().any(axis=None) for pivot in pivots):
        return None
    return "no cell has a value for every category. " + " ".join(coverage(pivots, total))


def provenance(trials: pd.DataFrame, origins: Sequence[Origin] = ()) -> tuple[str, ...]:
    """Where values come from: sweeps, runs, data set, weights, sizes; then their sweeps' parent runs.

    Parameters
    ----------
    origins
        Parent runs; those of other sweeps are left out.
    """

    def values(column: str, otherwise: str = "not recorded") -> str:
        return listed(sorted(map(str, trials[column].dropna().unique()))) or otherwise

    runs = sorted(map(str, trials["run_id"].dropna().unique()))
    named = f" ({', '.join(runs)})" if 0 < len(runs) <= RUNS_NAMED else ""
    cropped = sorted(set(crops_in_words(trials)["center_crop"]))
    crops = "" if cropped in ([], [NO_CROP]) else f"; center crop {listed(cropped)}"
    worded = context_in_words(trials)
    chosen = {
        "training images": ordered("train_images", worded["train_images"].unique()),
        "contamination": [f"{share:g}" for share in sorted(worded["contamination"].unique())],
    }
    if not whole(trials).all():
        crops += "".join(f"; {name} {listed(map(str, found))}" for name, found in chosen.items())
    sweeps = set(trials["sweep"].dropna())
    return (
        f"Data: sweep {values('sweep', 'none (single runs)')}; {len(runs)} runs{named}; "
        f"data set {values('dataset')}; weights {values('weights')}; "
        f"input size {values('input_size')}{crops}.",
        *(f"From {origin}." for origin in origins if origin.sweep in sweeps),
    )


def random_weights(trials: pd.DataFrame) -> tuple[str, ...]:
    """One line when weights of the trials are random."""
    found = sorted(name for name in map(str, trials["weights"].dropna().unique()) if name.startswith(RANDOM))
    if not found:
        return ()
    return (
        f"WARNING: random weights ({', '.join(found)}): these values say nothing about pretrained features.",
    )


def listed(values: Iterable[str]) -> str:
    """The distinct values, of a long list the first and the number of the others."""
    distinct = list(dict.fromkeys(values))
    more = f", and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
    return ", ".join(distinct[:LISTED]) + more


def _failures(failed: pd.DataFrame, total: int) -> list[str]:
    """A line for each reason, the commonest first, with where it was met."""
    counts = failed["reason"].value_counts()
    lines = []
    for reason in counts.index[:REASONS]:
        where = failed[failed["reason"] == reason]
        text = str(reason).rstrip(". ") or "no reason recorded"
        lines.append(f"Failed: {len(where)} ({_places(where, total)}): {text}.")
    rest = counts.iloc[REASONS:]
    if len(rest):
        lines.append(f"Failed: and {int(rest.sum())} more, for {len(rest)} other reasons.")
    return lines


def _places(holes: pd.DataFrame, total: int) -> str:
    """The cells and the categories that lack there."""
    places = []
    for cell, categories in holes.groupby("cell", sort=False)["category"]:
        names = list(dict.fromkeys(map(str, categories)))
        places.append(f"{'every category' if len(names) == total > 1 else listed(names)} at {cell}")
    return listed(places)


def _named_holes(pivot: MeanTable) -> pd.DataFrame:
    """The holes of a table with a name for the place, and whether all of its cell was never run."""
    keys = [name for name in (pivot.rows, pivot.cols) if name != "category"]
    averaged = [str(name) for name in pivot.holes if name not in (*keys, "category", "status", "reason")]
    cells = _texts(pivot.holes, keys)
    ran = set(_texts(pivot.trials, keys))
    empty = [cell not in ran for cell in cells]
    places = _texts(pivot.holes, keys + averaged)
    return pd.DataFrame(
        {
            "category": pivot.holes["category"],
            "status": pivot.holes["status"],
            "reason": pivot.holes["reason"],
            "cell": [c if e else place for c, place, e in zip(cells, places, empty, strict=True)],
            "empty": pd.Series(empty, dtype=bool),
        }
    )


def _texts(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    return [" ".join(values) for values in zip(*(frame[name].astype(str) for name in columns), strict=True)]
