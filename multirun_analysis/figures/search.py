"""A search: its history, and how much each choice mattered, from what its parent run holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from anomaly_sweep.config import OBJECTIVES
from multirun_analysis.figures.style import COLOURS, GREY, Picture, panels
from multirun_analysis.trials.searches import SearchRecord


def search_pictures(searches: Sequence[SearchRecord]) -> list[Picture]:
    """The history of each objective of each search, and the shares of its variation.

    Parameters
    ----------
    searches
        Of several, the figures' names and titles say which one they are of.
    """
    several = len(searches) > 1
    found: list[Picture] = []
    for one in searches:
        stem = "_" + re.sub(r"[^\w.-]", "_", one.sweep) if several else ""
        found += _pictures_of(one, stem, f"Search {one.sweep}" if several else "Search")
    return found


def _pictures_of(search: SearchRecord, stem: str, title: str) -> Iterator[Picture]:
    trials = search.trials
    for objective, direction in OBJECTIVES.items():
        if objective not in trials:
            continue
        done = trials[trials["state"] == "complete"].sort_values("number")
        values = done.set_index("number")[objective].astype(float)
        if values.empty:
            continue
        best = values.cummax() if direction == "maximize" else values.cummin()
        yield Picture(
            f"search_history_{objective}{stem}",
            f"{title}: {objective} by trial",
            f"A mark is a trial, the line the best so far ({direction}); {len(values)} of {len(trials)} "
            "trials have a value.",
            lambda values=values, best=best, name=objective: _history(values, best, name),  # type: ignore[misc]
        )
        shares = search.importances.get(objective)
        if shares:
            yield Picture(
                f"search_importance_{objective}{stem}",
                f"{title}: what mattered for {objective}",
                "Shares of the variation between the trials (functional ANOVA on a random forest). "
                "A search looks where it is good: the shares are of what it has seen.",
                lambda shares=shares: _importance(shares),  # type: ignore[misc]
            )


def _history(values: pd.Series, best: pd.Series, objective: str) -> Figure:
    figure, (axes,) = panels(1, 1, 5.6, 3.2)
    axes.scatter(values.index, values, s=14, facecolors="none", edgecolors=GREY, label="trial")
    axes.step(best.index, best, where="post", color=COLOURS[2], linewidth=1.6, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.legend(fontsize=8)
    return figure


def _importance(shares: Mapping[str, float]) -> Figure:
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure, (axes,) = panels(1, 1, 5.0, 0.7 + 0.3 * len(ordered))
    axes.barh([name for name, _ in ordered], [100 * share for _, share in ordered], color=COLOURS[2])
    axes.set_xlabel("share of the variation [%]")
    axes.set_xlim(left=0)
    return figure
