"""What a task is: what its trials are, and how those of a shard are computed."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import AnyConfiguration, RuntimeConf, TaskConf
from anomaly_sweep.datasets import Category, FileIndex
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.shard import ImageRange, Shard
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.metrics.ranking import ranking_metrics
from anomaly_sweep.metrics.ties import ScoreScale, settle_ties
from anomaly_sweep.tasks.forecast import IMAGES, Rates, ShardForecast, decode_seconds, image_seconds
from anomaly_sweep.tracking.names import STATUS_FAILED, STATUS_OK

log = logging.getLogger(__name__)

#: Metrics of a result.
METRICS = (
    *("image_auroc", "image_ap", "image_f1max", "image_fpr95"),
    *("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro", "aupro_mvtec"),
    *("au_spro", "au_spro_logical", "au_spro_structural"),
)
#: Those whose spread between seeds is kept.
SPREAD = ("image_auroc", "pixel_auroc", "aupro")
#: Fields of a result that hold a value for each test image.
PER_IMAGE = ("scores", "labels")


@dataclass(frozen=True)
class Trial:
    """What is done with a shard's features. The fingerprint covers everything that changes the result."""

    fingerprint: str
    levels: tuple[str, ...]

    @property
    def spectrum(self) -> tuple[Any, ...] | None:
        """Which of the shard's spectra it reads; None if it reads none."""
        return None

    def outputs(self, cache_dir: Path) -> dict[str, Path]:
        """Name -> file of what it left beside its numbers, where that is there."""
        return {}

    def has_outputs(self, cache_dir: Path) -> bool:
        """Whether all that it is to leave beside its numbers is there."""
        return True


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
    what makes two results equal. Of several seeds (``estimator.seeds``, ``localizer.seeds``) see
    :func:`over_seeds`.
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
    au_spro: float | None = None
    au_spro_logical: float | None = None
    au_spro_structural: float | None = None
    image_auroc_sd: float | None = None
    pixel_auroc_sd: float | None = None
    aupro_sd: float | None = None
    scores: bytes | None = field(default=None, compare=False, repr=False)
    labels: bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def failed(cls, fingerprint: str, reason: str) -> TrialResult:
        """A hole with a reason."""
        return cls(fingerprint, STATUS_FAILED, reason=reason)

    @property
    def ok(self) -> bool:
        """Whether there is a number."""
        return self.status == STATUS_OK

    def numbers(self) -> dict[str, Any]:
        """All fields but those that hold a value for each image: what goes into a row."""
        return {name: value for name, value in vars(self).items() if name not in PER_IMAGE}


#: Told of images read, or of a trial's result.
Tick: TypeAlias = Callable[[int, TrialResult | None], None]


C = TypeVar("C", bound=AnyConfiguration)
T = TypeVar("T", bound=Trial)


class Task(ABC, Generic[C, T]):
    """One kind of trials: what is read off a configuration, and how a shard's trials are computed.

    Planning, running and recording know tasks by this alone. A task holds no state.
    """

    #: As in ``task=...``.
    name: ClassVar[str]
    #: The paper whose tables its trials fill (``multirun-analysis tables --paper``), if any.
    paper: ClassVar[str | None] = None
    #: Its settings: the keys of the node ``task``.
    conf: ClassVar[type[TaskConf]] = TaskConf
    #: Config groups that its configurations are labelled by, columns of the long table. Others have no part.
    groups: ClassVar[tuple[str, ...]]
    #: Whether :meth:`run` takes trials on subsets of a shard's images; if not, it is given each of
    #: `ShardWork.parts` by itself.
    takes_subsets: ClassVar[bool] = False
    #: Those of ``config.OBJECTIVES`` that its trials have no number for.
    lacks: ClassVar[tuple[str, ...]] = ()
    #: Splits whose features :meth:`make_features` makes of ranges of images.
    ranged_splits: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def configuration(self, nodes: Mapping[str, Any]) -> C:
        """The configuration of parsed nodes (see ``config.parse_node``).

        Raises
        ------
        ConfigError
            If nodes do not fit each other.
        """

    @abstractmethod
    def check(self, configurations: Sequence[C]) -> None:
        """Tell what is wrong with settings before any data is looked at.

        Raises
        ------
        ConfigError
            For a wrong key or value, or a level that the backbone lacks.
        """

    @abstractmethod
    def levels(self, configuration: C) -> tuple[str, ...]:
        """The levels of the backbone that a configuration reads.

        Raises
        ------
        ConfigError
            If the backbone lacks one of them.
        """

    @abstractmethod
    def identity(self, configuration: C) -> str:
        """Fingerprint of what is done with features: of every setting that changes a trial's value."""

    def seeding(self, configuration: C) -> str:
        """Fingerprint of the settings that a trial's seed depends on."""
        return ""

    @abstractmethod
    def trial(self, configuration: C, fingerprint: str, levels: tuple[str, ...], content: str) -> T:
        """The trial of a configuration.

        Parameters
        ----------
        content : str
            Identity of the training features and of the settings that :meth:`seeding` names.
        """

    def check_category(self, category: Category) -> None:
        """Raise DatasetError if a category lacks something the task needs."""

    def annotations(self, category: Category, index: FileIndex) -> str | None:
        """Digest of what is read of a category beside its images; None: nothing.

        Raises
        ------
        DatasetError
            If it cannot be read.
        """
        return None

    def missing(self, work: ShardWork, cache: FeatureCache) -> Sequence[str]:
        """The levels whose features have, or may have, to be made: what the network is needed for."""
        return work.shard.missing(cache, work.levels())

    def fit_bytes(self, work: ShardWork, runtime: RuntimeConf) -> float:
        """The most bytes that fitting one of a shard's trials holds, where that is worth counting."""
        return 0.0

    def units(self, work: ShardWork) -> list[list[str]]:
        """Fingerprints of a shard's trials, in groups that several workers may compute.

        Trials of one group share so much that they belong together, or have to: a trial's numbers are the
        same however the groups are spread.
        """
        return [list(work.trials)]

    def make_features(
        self,
        work: ShardWork,
        images: Sequence[ImageRange],
        runtime: RuntimeConf,
        tick: Tick,
        *,
        decoders: int,
    ) -> None:
        """Put features of some images into the cache, where :meth:`run` finds them.

        Raises
        ------
        AnomalySweepError
            If they cannot be made; :meth:`run` says so of its trials.
        """
        raise NotImplementedError(f"{self.name} has no features of ranges of images")

    @abstractmethod
    def run(
        self, work: ShardWork, runtime: RuntimeConf, tick: Tick, *, decoders: int, budget: float
    ) -> list[TrialResult]:
        """The trials of a shard, each with its own outcome.

        Parameters
        ----------
        tick : callable
            Told of images read and of each result as it is made.
        decoders : int
            Threads that decode images.
        budget : float
            Bytes that models fitted at once may hold; at least one is fitted.
        """

    @abstractmethod
    def costs(self, work: ShardWork, network: NetworkCost, rates: Rates) -> dict[str, tuple[str, float]]:
        """What a shard's trials will cost beside their features.

        Parameters
        ----------
        network : NetworkCost
            Of the shard's network at its input size.
        rates : Rates
            Of what the work is done on.

        Returns
        -------
        dict
            Fingerprint -> (kind, seconds). Of one kind are those whose measured seconds tell of each other's.
        """


@dataclass
class ShardWork:
    """A shard and the distinct trials on it, all of one task.

    ``annotations`` is the digest of what the task reads beside the images, if anything. ``subsets`` has the
    shard of each trial that is of some of the images only.
    """

    shard: Shard
    task: Task[Any, Any]
    trials: dict[str, Trial] = field(default_factory=dict)
    annotations: str | None = None
    subsets: dict[str, Shard] = field(default_factory=dict)

    def parts(self) -> list[ShardWork]:
        """The trials on all of the images, and those on each subset of them: works without subsets."""
        if not self.subsets:
            return [self]
        groups: dict[int, ShardWork] = {}
        for trial_id, trial in self.trials.items():
            own = self.subsets.get(trial_id)
            if id(own) not in groups:
                shard = self.shard
                if own is not None:
                    shard = replace(own, backbone=shard.backbone, source=shard)
                groups[id(own)] = ShardWork(shard, self.task)
            groups[id(own)].trials[trial_id] = trial
        return list(groups.values())

    def needs_network(self, cache: FeatureCache) -> bool:
        """Whether some of its features have, or may have, to be made."""
        return bool(self.task.missing(self, cache))

    def forecast(self, network: NetworkCost, cache: FeatureCache, rates: Rates) -> ShardForecast:
        """What it will cost on a processor of these rates; a pass of all its images where one is missing."""
        shard = self.shard
        missing = self.task.missing(self, cache)
        passes = shard.n_train + len(shard.category.test) if missing else 0
        each = decode_seconds(shard.category) + image_seconds(network, missing, rates)
        kind = f"{IMAGES} {shard.backbone.name} {shard.side} {self.task.name}"
        return ShardForecast(passes, kind, each, self.task.costs(self, network, rates))

    def levels(self, wanted: Iterable[str] | None = None) -> list[str]:
        """The levels that its trials (or those with the wanted fingerprints) need, shallowest first."""
        keep = self.trials if wanted is None else set(wanted)
        needed = {
            level for trial_id, trial in self.trials.items() if trial_id in keep for level in trial.levels
        }
        return [level for level in self.shard.backbone.levels if level in needed]

    def only(self, wanted: set[str]) -> ShardWork:
        """The same shard with some of its trials."""
        trials = {p: t for p, t in self.trials.items() if p in wanted}
        subsets = {p: shard for p, shard in self.subsets.items() if p in trials}
        return ShardWork(self.shard, self.task, trials, self.annotations, subsets)


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
    """Identity of a shard's features at some levels; of its images, where none is read."""
    read = levels or (None,)
    return fingerprint(*(shard.describe(split, level) for split in ("train", "test") for level in read))


def training_fingerprint(shard: Shard, levels: Sequence[str]) -> str:
    """Identity of a shard's training features at some levels, whatever anything is called."""
    return fingerprint([shard.training_content(level) for level in levels or (None,)])


def over_seeds(results: Sequence[TrialResult]) -> TrialResult:
    """One trial's result of those of its seeds.

    Metrics are means over the seeds; the ``_sd`` fields are standard deviations between them (ddof 1), None
    for one seed. All else, the scores too, is the first one's.
    """
    first, *others = results
    if not others:
        return first

    def values(name: str) -> list[float] | None:
        found = [getattr(result, name) for result in results]
        return None if None in found else found

    means: dict[str, Any] = {
        name: None if (each := values(name)) is None else fmean(each) for name in METRICS
    }
    spread: dict[str, Any] = {
        f"{name}_sd": None if (each := values(name)) is None else stdev(each) for name in SPREAD
    }
    return replace(first, **means, **spread)


def guarded(trial: Trial, compute: Callable[..., TrialResult], *arguments: Any) -> TrialResult:
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
