"""What a search leaves on its parent run: its trials, and how much each choice mattered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from mlflow.exceptions import MlflowException

from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.reader import Reader

#: A search that found nothing lacks it, as every other sweep does.
_TAG = f"{names.TAG_BEST_PREFIX}trial"


@dataclass(frozen=True)
class SearchRecord:
    """A search as it was recorded when it ended.

    Attributes
    ----------
    sweep
        Its sweep's name.
    trials
        A row for each trial: ``number``, ``state``, its objectives, its choices.
    importances
        Objective -> choice -> share of its variation.
    """

    sweep: str
    trials: pd.DataFrame
    importances: Mapping[str, Mapping[str, float]]


def read_searches(reader: Reader, run_ids: Iterable[str]) -> list[SearchRecord]:
    """Those of the parent runs that are a search's; one that was killed has no record yet.

    Parameters
    ----------
    reader
        Of the store.
    run_ids
        Of parent runs.
    """
    found = []
    for run_id in run_ids:
        run = reader.client.get_run(run_id)
        if _TAG not in run.data.tags:
            continue
        try:
            with reader.artifact(run, names.SEARCH_TRIALS) as path:
                trials = pd.read_csv(path)
            with reader.artifact(run, names.SEARCH_IMPORTANCES) as path:
                importances = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, MlflowException):
            continue
        found.append(SearchRecord(run.data.tags[names.TAG_SWEEP], trials, importances))
    return found
