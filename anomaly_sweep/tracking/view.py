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
_RUN_NAME = "attributes.`Run Name`"  # always shown
#: Pixels of a column that has none in ``_WIDTHS``; MLflow's own are too wide for short choices.
_WIDTH = 90
_WIDTHS = {"backbone": 135, "augmentation": 105, "localizer": 110, "task": 110, "weights": 160}


def _arranged(metrics: Sequence[str], params: Sequence[str]) -> dict[str, int]:
    """Column -> pixels, from the left: the AUROC, the choices, then whatever else there is.

    MLflow by itself puts metrics by the alphabet before params, so that the choices are out of sight.
    """
    first, others = [names.AUC_MEAN], [name for name in metrics if name != names.AUC_MEAN]
    return {
        _RUN_NAME: 170,
        **{f"metrics.`{name}`": _WIDTH for name in first},
        **{f"params.`{name}`": _WIDTHS.get(name, _WIDTH) for name in params},
        **{f"metrics.`{name}`": _WIDTH for name in others},
        "attributes.`Created`": 140,
        "attributes.`Dataset`": 240,
        f"tags.`{names.TAG_SWEEP}`": 200,
    }


def saved_view(shown: Sequence[str] = USUAL) -> str:
    """The view as the UI stores it (JSON), with these of ``COLUMNS``."""
    params = [name for name in COLUMNS if name in shown]
    means = [prefix + names.MEAN for prefix in names.PREFIXES.values()]
    metrics = (*means, names.SCORE_SECONDS, names.FAILED_TRIALS)
    widths = _arranged(metrics, params)
    return json.dumps(
        {
            "searchFilter": f"tags.`{names.TAG_KIND}` = '{names.KIND_CONFIGURATION}'",
            "orderByKey": f"metrics.`{names.AUC_MEAN}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": [column for column in widths if column != _RUN_NAME],
            "columnOrder": list(widths),
            "columnWidths": widths,
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
