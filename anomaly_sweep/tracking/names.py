"""What a run looks like in MLflow: the one place where its names are written.

A sweep is one parent run; a configuration is one child run. The analysis reads runs through these
names only.
"""

from __future__ import annotations

#: Params of a child run: the six group choices, then what they were applied to.
GROUPS = ("backbone", "layer", "pooling", "augmentation", "pca_mode", "estimator")
CONTEXT_PARAMS = ("dataset", "weights", "input_size")

#: Metrics of a child run. A failed trial has no metric, and then there is no mean either.
AUC_PREFIX = "auc/"
AUC_MEAN = "auc/mean"
FAILED_TRIALS = "failed_trials"
FIT_SECONDS = "fit_seconds"
SCORE_SECONDS = "score_seconds"

#: Tags.
TAG_KIND = "anomaly_sweep.kind"  # "sweep" | "configuration"
KIND_SWEEP = "sweep"
KIND_CONFIGURATION = "configuration"
TAG_SWEEP = "anomaly_sweep.sweep"  # name of the sweep a run belongs to
TAG_FINGERPRINT = "anomaly_sweep.fingerprint"
TAG_VERSION = "anomaly_sweep.version"
TAG_VERSIONS = "anomaly_sweep.versions"  # torch, timm, scikit-learn, ... as "name==version, ..."
TAG_WARNING = "anomaly_sweep.warning"  # set when the weights are random
TAG_PARENT = "mlflow.parentRunId"
TAG_NOTE = "mlflow.note.content"
TAG_GIT = "mlflow.source.git.commit"

#: A search's parent run: metrics stepped by finished trials (with several objectives each one's best by
#: itself), tags of the best trial's number and choices.
BEST_PREFIX = "best/"
TAG_BEST_PREFIX = "anomaly_sweep.best."
SEARCH_IMPORTANCES = "search_importances.json"
SEARCH_TRIALS = "search_trials.csv"

#: Artifacts. A child carries its per-class rows of the long table, the parent the whole of it.
PER_CLASS_TABLE = "per_class.json"  # list of rows, keys = TRIAL_COLUMNS
LONG_TABLE = "trials.parquet"

#: Columns of the long table, one row a trial. ``image_auroc`` is missing where status is not "ok".
TRIAL_COLUMNS = (
    "sweep",
    "run_id",
    "dataset",
    "category",
    "backbone",
    "weights",
    "input_size",
    "layer",
    "pooling",
    "augmentation",
    "pca_mode",
    "estimator",
    "image_auroc",
    "n_features",  # columns after the reduction
    "n_train",
    "n_test",
    "fit_seconds",
    "score_seconds",
    "status",  # "ok" | "failed"
    "reason",  # why it failed; empty when ok
    "fingerprint",  # identity of the trial: data, weights and every setting that changes its value
)
STATUS_OK = "ok"
STATUS_FAILED = "failed"
