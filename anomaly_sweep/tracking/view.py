"""The runs table as it should look on opening: configurations by mean AUC, with their choices as columns.

MLflow's UI hides metric and param columns until they are ticked. It can load a saved view from a tag of the
experiment (its "Share view" button writes one); a URL names it by ``viewStateShareKey``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from anomaly_sweep.tracking import names

#: Tag prefix that MLflow's UI looks under, and our key below it.
_TAG_PREFIX = "mlflow.sharedViewState."
VIEW_KEY = "anomaly_sweep"
VIEW_TAG = _TAG_PREFIX + VIEW_KEY
#: What MLflow's UI takes an experiment for. In a new browser MLflow 3.17 opens every experiment as GenAI all
#: the same: that is the browser's own setting (``mlflow.workflowType``), which only an address such as that
#: of :func:`runs_page` overrides.
KIND_TAG = "mlflow.experimentKind"
TRAINING = "custom_model_development"


#: Params that can be columns: choices, then what they were applied to.
COLUMNS = tuple(dict.fromkeys((*names.GROUPS, *names.LOCALIZATION_GROUPS, *names.CONTEXT_PARAMS)))
#: Those shown until sweeps have said what they differ in. Columns that no run has are not shown.
USUAL = tuple(name for name in COLUMNS if name not in ("input_size", "center_crop", *names.SUBSET_PARAMS))


def saved_view(shown: Sequence[str] = USUAL) -> str:
    """The view as the UI stores it (JSON), with these of ``COLUMNS``."""
    params = [name for name in COLUMNS if name in shown]
    means = [prefix + names.MEAN for prefix in names.PREFIXES.values()]
    metrics = (*means, names.SCORE_SECONDS, names.FAILED_TRIALS)
    return json.dumps(
        {
            "searchFilter": f"tags.`{names.TAG_KIND}` = '{names.KIND_CONFIGURATION}'",
            "orderByKey": f"metrics.`{names.AUC_MEAN}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": [
                "attributes.`Created`",
                "attributes.`Dataset`",
                *(f"metrics.`{name}`" for name in metrics),
                *(f"params.`{name}`" for name in params),
                f"tags.`{names.TAG_SWEEP}`",
            ],
            "columnOrder": [],
            "columnWidths": {},
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "runsVisibilityMap": {},
            "runsHiddenMode": "FIRST_10_RUNS",
            "viewMaximized": False,
            "runListHidden": False,
            "isAccordionReordered": False,
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "groupBy": None,
            "groupsExpanded": {},
            "autoRefreshEnabled": True,
            "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        }
    )


def shown_of(view: str | None) -> tuple[str, ...]:
    """Those of ``COLUMNS`` that a view shows; the usual ones where there is none yet."""
    if view is None:
        return USUAL
    return tuple(name for name in COLUMNS if f"params.`{name}`" in view)


def runs_page(host: str, experiment: str) -> str:
    """Address of the runs table with this view."""
    return (
        f"{host}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"
    )
