"""What a trial is and what comes out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import (
    AnyConfiguration,
    Configuration,
    LocalizationConfiguration,
    PcaModeConf,
    TaskConf,
)
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.estimators.create import identity
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.fingerprint import fingerprint, seed_of
from anomaly_sweep.metrics.ranking import ranking_metrics
from anomaly_sweep.metrics.ties import ScoreScale, settle_ties
from anomaly_sweep.tracking.names import STATUS_FAILED, STATUS_OK

log = logging.getLogger(__name__)

#: Raised when the computation of a trial changes so that its numbers do.
TRIAL_VERSION = 2
LOCALIZATION_VERSION = 3
#: Fields of a result that hold a value for each test image.
PER_IMAGE = ("scores", "labels")


@dataclass(frozen=True)
class Trial:
    """What is done with a shard's pooled features (``task=detection``).

    The fingerprint covers everything that changes the result. ``content`` is what the seed comes from: the
    training features' and the settings' identity, without the names of data set, category, backbone and level
    and without the test images. A trial that is given none has its fingerprint for it.
    """

    fingerprint: str
    levels: tuple[str, ...]
    pools: tuple[str, ...]
    pca_mode: PcaModeConf
    estimator: dict[str, Any]
    content: str = ""

    @property
    def is_flow(self) -> bool:
        """Whether its estimator is a flow, which is trained together with others."""
        return str(self.estimator["_target_"]).startswith("anomaly_sweep.estimators.flow.")

    @property
    def seed(self) -> int:
        """Seed of everything random in the trial, where its estimator's config sets none."""
        return seed_of(self.content or self.fingerprint)


@dataclass(frozen=True)
class LocalizationTrial:
    """What is done with a shard's feature maps (``task=localization``); see :class:`Trial`."""

    fingerprint: str
    levels: tuple[str, ...]
    localizer: dict[str, Any]
    task: TaskConf


AnyTrial: TypeAlias = Trial | LocalizationTrial


@dataclass(frozen=True)
class TrialResult:
    """Outcome of a trial. ``image_auroc`` is None exactly when it failed, for the ``reason``.

    ``fit_seconds`` and ``score_seconds`` are the estimator's or localizer's own; features and spectrum, which
    trials share, are not in them. Trials that were computed together have equal shares of the time they took
    together. What only localization has is None otherwise: the pixel metrics, the seconds of upsampling and
    smoothing the test maps (``map_seconds``) and of the backbone on the test images (``backbone_seconds``; 0
    from the cache), the bytes of the fitted state and the device all this took place on.

    ``scores`` (float64, little-endian, ties settled) and ``labels`` (int8, 1 for anomalous) have one value a
    test image, in the order of the category's; the image metrics are of these scores. They are no part of
    what makes two results equal. Of several seeds (``seeds`` of a flow) metrics are means over the seeds,
    ``image_auroc_sd`` is the AUROC's standard deviation between them, and the scores are the first one's.
    """

    fingerprint: str
    status: str
    image_auroc: float | None = None
    n_features: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    fit_seconds: float | None = None
    score_seconds: float | None = None
    reason: str = ""
    pixel_auroc: float | None = None
    aupro: float | None = None
    aupro_mvtec: float | None = None
    map_seconds: float | None = None
    backbone_seconds: float | None = None
    state_bytes: int | None = None
    device: str | None = None
    image_ap: float | None = None
    image_f1max: float | None = None
    image_fpr95: float | None = None
    pixel_ap: float | None = None
    pixel_f1max: float | None = None
    image_auroc_sd: float | None = None
    scores: bytes | None = field(default=None, compare=False, repr=False)
    labels: bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def failed(cls, print_: str, reason: str) -> TrialResult:
        """A hole with a reason."""
        return cls(print_, STATUS_FAILED, reason=reason)

    @property
    def ok(self) -> bool:
        """Whether there is a number."""
        return self.status == STATUS_OK

    def numbers(self) -> dict[str, Any]:
        """All fields but those that hold a value for each image: what goes into a row."""
        return {name: value for name, value in vars(self).items() if name not in PER_IMAGE}


def of_images(
    scores: NDArray[np.float64], labels: NDArray[np.int64], scale: ScoreScale
) -> list[dict[str, Any]]:
    """What scores of the test images come to, (trials, images): fields of a result for each trial.

    Ties are settled first: metrics and scores that are kept are of one and the same numbers.

    Raises
    ------
    EstimatorError
        If a score is NaN or infinite.
    DatasetError
        If there are no good or no anomalous images.
    """
    settled = settle_ties(scores, scale)
    metrics = ranking_metrics(settled, labels)
    columns = {f"image_{name}": values.tolist() for name, values in vars(metrics).items()}
    same = {"n_test": len(labels), "labels": labels.astype(np.int8).tobytes()}
    return [
        {**dict(zip(columns, values, strict=True)), "scores": row.astype("<f8", copy=False).tobytes(), **same}
        for row, *values in zip(settled, *columns.values(), strict=True)
    ]


def features_fingerprint(shard: Shard, levels: Sequence[str]) -> str:
    """Identity of a shard's features at some levels."""
    return fingerprint(*(shard.about(split, level) for split in ("train", "test") for level in levels))


def training_fingerprint(shard: Shard, levels: Sequence[str]) -> str:
    """Identity of a shard's training features at some levels, whatever anything is called."""
    return fingerprint([shard.training_content(level) for level in levels])


def levels_of(configuration: AnyConfiguration) -> tuple[str, ...]:
    """The levels of the backbone that a configuration reads.

    Raises
    ------
    ConfigError
        If the backbone lacks one of them.
    """
    if isinstance(configuration, Configuration):
        return configuration.layer.of(configuration.backbone)
    from anomaly_sweep.localization.create import levels_of as read_by  # imports torch

    return read_by(configuration.localizer, configuration.backbone)


def trial_of(configuration: AnyConfiguration, print_: str, levels: tuple[str, ...], content: str) -> AnyTrial:
    """The trial of a configuration with a fingerprint; for `content` see :class:`Trial`."""
    if isinstance(configuration, LocalizationConfiguration):
        return LocalizationTrial(print_, levels, dict(configuration.localizer), configuration.task)
    return Trial(
        print_,
        levels,
        tuple(configuration.pooling.kinds),
        configuration.pca_mode,
        dict(configuration.estimator),
        content,
    )


def settings_fingerprint(configuration: AnyConfiguration) -> str:
    """Identity of what a configuration does with features: every setting that changes a trial's value."""
    if isinstance(configuration, LocalizationConfiguration):
        task = configuration.task
        measured = (task.sigma, task.fpr_limit, task.connectivity, task.average, task.images)
        arguments = {key: value for key, value in configuration.localizer.items() if key != "name"}
        return fingerprint("localization", LOCALIZATION_VERSION, measured, arguments)
    return fingerprint(
        TRIAL_VERSION,
        configuration.pooling.kinds,
        _reduction(configuration),
        identity(configuration.estimator),
    )


def seeding_fingerprint(configuration: AnyConfiguration) -> str:
    """Identity of the settings that a trial's seed depends on: not how many seeds there are, nor versions."""
    if isinstance(configuration, LocalizationConfiguration):
        return ""
    settings = identity(configuration.estimator)
    for key in ("seed", "seeds", "device"):
        settings.pop(key, None)
    return fingerprint(configuration.pooling.kinds, _reduction(configuration), settings)


def _reduction(configuration: Configuration) -> list[Any]:
    pca = configuration.pca_mode
    return [pca.mode] if pca.mode == "none" else [pca.mode, pca.rate, pca.basis]


def guarded(trial: AnyTrial, compute: Callable[..., TrialResult], *arguments: Any) -> TrialResult:
    """A trial's result, or what ``compute(*arguments)`` raised: a trial's failure is its own."""
    try:
        return compute(*arguments)
    except Exception as error:
        return TrialResult.failed(trial.fingerprint, reason_of(error, f"trial {trial.fingerprint}"))


def reason_of(error: Exception, what: str) -> str:
    """Why something failed; the trace of an error that is not meant for users goes to the log."""
    if isinstance(error, AnomalySweepError):
        return str(error)
    log.error("%s", what, exc_info=error)
    return f"{type(error).__name__}: {error}"


def by(trials: Sequence[Trial], key: Callable[[Trial], Any]) -> list[list[Trial]]:
    """Groups of trials with equal keys, in order of first appearance."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(repr(key(trial)), []).append(trial)
    return list(groups.values())
