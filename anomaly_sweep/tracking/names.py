"""What a run looks like in MLflow: the one place where its names are written.

A sweep is one parent run; a configuration is one child run. The analysis reads runs through these
names only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Params of a child run: its group choices (six for detection, two for localization), then what they were
#: applied to.
GROUPS = ("backbone", "layer", "pooling", "augmentation", "pca_mode", "estimator")
LOCALIZATION_GROUPS = ("backbone", "localizer")
SUBSET_PARAMS = ("train_images", "contamination", "subset_seed")
CONTEXT_PARAMS = ("task", "dataset", "weights", "input_size", "center_crop", *SUBSET_PARAMS)
#: Further params: where the images were read from, as given, and a digest of what was read (of names and
#: contents of the images, for localization of the masks too). A run's digest is over its categories, a row's
#: in the long table is its category's.
DATA_PARAMS = ("root", "data")
DETECTION = "detection"

#: Metrics of a child run, one a category: column of the long table -> prefix. A failed trial has no metric,
#: and then there is no mean either.
AUC_PREFIX = "auc/"
AUC_MEAN = "auc/mean"
PREFIXES = {
    "image_auroc": AUC_PREFIX,
    "image_auroc_sd": "auc_sd/",
    "image_ap": "ap/",
    "image_f1max": "f1max/",
    "image_fpr95": "fpr95/",
    "pixel_auroc": "pixel_auroc/",
    "pixel_auroc_sd": "pixel_auroc_sd/",
    "pixel_ap": "pixel_ap/",
    "pixel_f1max": "pixel_f1max/",
    "aupro": "aupro/",
    "aupro_sd": "aupro_sd/",
    "aupro_mvtec": "aupro_mvtec/",
    "au_spro": "au_spro/",
    "au_spro_logical": "au_spro_logical/",
    "au_spro_structural": "au_spro_structural/",
}
MEAN = "mean"
FAILED_TRIALS = "failed_trials"
#: Params of a child run that say a choice as a number, for charts: a single level's, the percentage that a
#: reduction keeps, neighbours.
NUMBERS = ("level", "rate", "k")
#: Metrics of a parent run beside ``FAILED_TRIALS``. Seconds and rate are those of the last launch that
#: computed something. Curves are stepped by level, or by percent.
BEST_AUC = "auc/best"
MEDIAN_AUC = "auc/median"
CONFIGURATIONS = "configurations"
TRIALS = "trials"
SECONDS = "seconds"
TRIALS_PER_SECOND = "trials_per_second"
BY_LEVEL = "auc_by_level/"
BY_RATE = "auc_by_rate/"
BY_TRAIN_IMAGES = "auc_by_train_images/"
BY_CONTAMINATION = "auc_by_contamination/"
#: What a category's name may be, for its metrics.
METRIC_NAME = re.compile(r"[\w.\- ]+")
FIT_SECONDS = "fit_seconds"
SCORE_SECONDS = "score_seconds"
#: Metrics that are totals over the categories.
TOTALS = (FIT_SECONDS, SCORE_SECONDS, "map_seconds", "backbone_seconds")

#: Tags.
TAG_KIND = "anomaly_sweep.kind"  # "sweep" | "configuration"
KIND_SWEEP = "sweep"
KIND_CONFIGURATION = "configuration"
TAG_SWEEP = "anomaly_sweep.sweep"  # name of the sweep a run belongs to
TAG_FINGERPRINT = "anomaly_sweep.fingerprint"  # of a sweep: its jobs and the state of its data
TAG_JOBS = "anomaly_sweep.jobs"  # of a sweep: its jobs alone, whatever its data
TAG_LAUNCHED = "anomaly_sweep.launched"  # of a sweep: when it was launched last, milliseconds, ever larger
#: Of an experiment: its SQLite file when the artifacts' place was written.
TAG_STORE = "anomaly_sweep.store"
TAG_VERSION = "anomaly_sweep.version"
TAG_VERSIONS = "anomaly_sweep.versions"  # torch, timm, scikit-learn, ... as "name==version, ..."
TAG_WARNING = "anomaly_sweep.warning"  # set when the weights are random
TAG_PARENT = "mlflow.parentRunId"
TAG_NOTE = "mlflow.note.content"
TAG_GIT = "anomaly_sweep.git_commit"  # of this project, where it runs from its own checkout
TAG_GIT_DIRTY = "anomaly_sweep.git_dirty"  # "true" if files differ from it
TAG_SOURCE_GIT = "mlflow.source.git.commit"  # of the folder that was launched in
TAG_SOURCE_GIT_DIRTY = "mlflow.source.git.dirty"

#: A search's parent run: metrics stepped by finished trials (with several objectives each one's best by
#: itself), tags of the best trial's number and choices.
BEST_PREFIX = "best/"
TAG_BEST_PREFIX = "anomaly_sweep.best."
SEARCH_IMPORTANCES = "search_importances.json"
SEARCH_TRIALS = "search_trials.csv"

#: Artifacts. A child carries its per-class rows of the long table, the parent the whole of it. A localization
#: run has a folder for each category, with what ``sweep/outputs.py`` keeps.
PER_CLASS_TABLE = "per_class.json"  # list of rows, keys = TRIAL_COLUMNS
LONG_TABLE = "trials.parquet"
#: On the parent: data set's root -> task -> category -> digest of its data.
DATA_STATE = "data.json"
#: On the parent, or on a run without one: a row for each trial whose scores were kept. Its lists have one
#: value a test image (label 1: anomalous; its path in the data set; its defect type, or "good"), in the order
#: of the category's.
SCORES_TABLE = "scores.parquet"
SCORE_COLUMNS = ("fingerprint", "category", "labels", "scores", "paths", "defects")

#: Columns of the long table, one row a trial. ``image_auroc`` is missing where status is not "ok".
TRIAL_COLUMNS = (
    "sweep",
    "run_id",
    "task",  # "detection", or "localization" with the settings that differ from the shipped ones
    "dataset",  # its name, with what differs from the shipped one of that name
    "root",  # where it was read from
    "data",  # digest of the category's images (for localization: and masks)
    "category",
    "backbone",
    "weights",
    "input_size",  # pixels that images are resized to
    "center_crop",  # side of the central square cut out of it, missing for all of it
    "train_images",  # good ones taken of each category, missing for all of them
    "contamination",  # share of the training images that are anomalous, missing for none
    "subset_seed",  # of which images these are; missing without either
    "layer",
    "pooling",
    "augmentation",
    "pca_mode",
    "estimator",
    "localizer",
    "image_auroc",
    "image_auroc_sd",  # standard deviation between seeds, as the others of its kind; missing for one seed
    "image_ap",  # average precision
    "image_f1max",  # F1 at the threshold that is best on the test images
    "image_fpr95",  # false positive rate at 95 % recall; less is better
    "pixel_auroc",  # this and the next six for localization only
    "pixel_auroc_sd",
    "pixel_ap",
    "pixel_f1max",
    "aupro",
    "aupro_sd",
    "aupro_mvtec",  # AUPRO at the 100 thresholds of MVTec's evaluation code
    "au_spro",  # of MVTec LOCO AD: saturated AUPRO to FPR 0.05, the mean of the next two
    "au_spro_logical",
    "au_spro_structural",
    "n_features",  # columns after the reduction
    "n_train",
    "n_test",
    "fit_seconds",
    "score_seconds",
    "map_seconds",  # upsampling and smoothing the test maps
    "backbone_seconds",  # the network on the test images; 0 from the cache
    "state_bytes",  # of the fitted localizer
    "device",  # what the seconds of a localizer were measured on
    "status",  # "ok" | "failed"
    "reason",  # why it failed; empty when ok
    "fingerprint",  # identity of the trial: data, weights and every setting that changes its value
)
STATUS_OK = "ok"
STATUS_FAILED = "failed"


def columns(found: Iterable[str]) -> list[str]:
    """The long table's columns: ``TRIAL_COLUMNS``, then whatever else there is, labels of other tasks."""
    return list(dict.fromkeys((*TRIAL_COLUMNS, *found)))


def columns_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """:func:`columns` of rows."""
    return columns(name for row in rows for name in row)
