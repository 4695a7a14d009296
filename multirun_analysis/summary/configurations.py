"""Whole configurations: their means, the best of them, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_sweep.tracking.names import GROUPS
from multirun_analysis.stats.intervals import Floats
from multirun_analysis.summary.study import DetectionStudy


@dataclass(frozen=True)
class Best:
    """The best configurations, by their test AUROC.

    Attributes
    ----------
    overall
        Label and mean AUROC of the configuration with the highest mean over all categories.
    by_category
        Label and AUROC of the best of each category.
    loss
        Mean over categories of what ``overall`` gives away against the best of each, in AUROC. All of them
        were chosen on the images they are measured on, so there is no interval.
    left_out
        Mean AUROC where each category gets the configuration that is best on the others: what choosing one
        configuration gives on a category it was not chosen on. NaN with one category.
    """

    overall: tuple[str, float]
    by_category: dict[str, tuple[str, float]]
    loss: float
    left_out: float


def configurations(study: DetectionStudy) -> pd.DataFrame:
    """One row a configuration that has every category, the best first.

    Returns
    -------
    pandas.DataFrame
        ``label``, the groups, ``auroc`` (mean over categories), ``seconds`` (to score one image, the mean
        over categories, without the network; NaN where a category lacks it), and one column for each
        category's AUROC.
    """
    trials = study.finished().trials()
    trials = trials.assign(
        _seconds=trials["score_seconds"] / trials["n_test"].astype("Float64").astype("float64")
    )
    keys = list(GROUPS)
    table = trials.pivot(index=keys, columns="category", values="image_auroc")
    table = table.reindex(columns=list(study.categories)).dropna()
    seconds = trials.pivot(index=keys, columns="category", values="_seconds").loc[table.index]
    ahead = pd.DataFrame({"auroc": table.mean(axis=1), "seconds": seconds.mean(axis=1, skipna=False)})
    rows = ahead.join(table).reset_index()
    rows.insert(0, "label", label_configurations(rows))
    return rows.sort_values(["auroc", "label"], ascending=[False, True], ignore_index=True)


def label_configurations(rows: pd.DataFrame) -> list[str]:
    """The choices in which the configurations differ, joined; all but the backbone if there is one row."""
    differing = [name for name in GROUPS if rows[name].nunique() > 1] or list(GROUPS[1:])
    return [" ".join(values) for values in rows[differing].astype(str).itertuples(index=False)]


def best(rows: pd.DataFrame, categories: tuple[str, ...]) -> Best:
    """The best of `configurations`, overall and by category. The first of equals."""
    values: Floats = rows[list(categories)].to_numpy(dtype=np.float64)
    labels = list(rows["label"])
    tops = values.argmax(axis=0)
    one = int(values.mean(axis=1).argmax())
    n = len(categories)
    chosen = (values.sum(axis=1, keepdims=True) - values).argmax(axis=0)  # by the other categories
    return Best(
        (labels[one], float(values[one].mean())),
        {
            name: (labels[top], float(values[top, i]))
            for i, (name, top) in enumerate(zip(categories, tops, strict=True))
        },
        float((values.max(axis=0) - values[one]).mean()),
        float(values[chosen, np.arange(n)].mean()) if n > 1 else float("nan"),
    )


def pareto(rows: pd.DataFrame) -> pd.DataFrame:
    """The configurations than which no other is both faster and better, the fastest first."""
    timed = rows.dropna(subset=["seconds"]).sort_values(["seconds", "auroc"], ascending=[True, False])
    return timed[timed["auroc"] > timed["auroc"].cummax().shift(fill_value=-np.inf)].reset_index(drop=True)
