"""A search: its history, and how much each choice mattered, from what its parent run holds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from anomaly_sweep.config import OBJECTIVES
from multirun_analysis.figures.style import COLOURS, GREY, Picture, panels


def search_pictures(trials: pd.DataFrame, importances: Mapping[str, Mapping[str, float]]) -> list[Picture]:
    """The history of each objective, and the shares of its variation.

    Parameters
    ----------
    trials
        A row for each trial of the search: ``number``, ``state``, its objectives, its choices.
    importances
        Objective -> choice -> share (functional ANOVA).
    """
    found = []
    for objective, direction in OBJECTIVES.items():
        if objective not in trials:
            continue
        done = trials[trials["state"] == "complete"].sort_values("number")
        values = done.set_index("number")[objective].astype(float)
        if values.empty:
            continue
        best = values.cummax() if direction == "maximize" else values.cummin()
        found.append(
            Picture(
                f"search_history_{objective}",
                f"Search: {objective} by trial",
                f"A mark is a trial, the line the best so far ({direction}); {len(values)} of {len(trials)} "
                "trials have a value.",
                lambda values=values, best=best, name=objective: _history(values, best, name),  # type: ignore[misc]
            )
        )
        shares = importances.get(objective)
        if shares:
            found.append(
                Picture(
                    f"search_importance_{objective}",
                    f"Search: what mattered for {objective}",
                    "Shares of the variation between the trials (functional ANOVA on a random forest). "
                    "A search looks where it is good: the shares are of what it has seen.",
                    lambda shares=shares: _importance(shares),  # type: ignore[misc]
                )
            )
    return found


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
