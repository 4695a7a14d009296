"""Tasks that give each test image a score: what a task from elsewhere starts from."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import NO_BACKBONE, CustomConfiguration, CustomTaskConf, RuntimeConf
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.fingerprint import fingerprint, seed_of
from anomaly_sweep.metrics.ties import ScoreScale
from anomaly_sweep.tasks.base import ShardWork, Task, Tick, Trial, TrialResult, guarded, of_images
from anomaly_sweep.tasks.forecast import Rates, decode_seconds
from anomaly_sweep.tracking.names import STATUS_OK, TRIAL_COLUMNS

S = TypeVar("S", bound=CustomTaskConf)


@dataclass(frozen=True)
class ScoringTrial(Trial):
    """Settings and choices that a shard's test images are scored with.

    ``seed`` is for what is random: it depends on the training images and the settings, nothing else.
    """

    settings: CustomTaskConf
    choices: Mapping[str, Any]
    seed: int


class ScoringTask(Task[CustomConfiguration, ScoringTrial]):
    """A task whose trials are a score for each test image: :meth:`scores` says how they are found.

    The config of ``task=NAME`` is ``name``, ``_target_`` (the path of the class) and the settings, fields of
    a dataclass ``conf`` that derives from :class:`~anomaly_sweep.config.CustomTaskConf`. Each setting is a
    column of the long table, as the choices of ``groups`` are. Without ``backbone`` among the groups no
    network is made; with ``layer`` the levels that it names are the trial's.
    """

    conf: ClassVar[type[CustomTaskConf]] = CustomTaskConf
    groups: ClassVar[tuple[str, ...]] = ()
    lacks = ("pixel_auroc", "aupro", "aupro_mvtec")
    #: Raised when the computation changes so that its numbers do.
    version: ClassVar[int] = 1
    #: What its scores are: ``ratio`` for distances, see :mod:`anomaly_sweep.metrics.ties`.
    score_scale: ClassVar[ScoreScale] = "interval"

    @abstractmethod
    def scores(self, work: ShardWork, trial: ScoringTrial, runtime: RuntimeConf) -> NDArray[np.float64]:
        """A score for each test image of a shard's category, in their order; higher = more anomalous.

        Parameters
        ----------
        work : ShardWork
            ``work.shard`` has the images (``category.train``, ``category.test``) and their side in pixels.
        trial : ScoringTrial
            Its settings, choices and levels.
        runtime : RuntimeConf
        """

    def configuration(self, nodes: Mapping[str, Any]) -> CustomConfiguration:
        """Of the groups it names, and its settings."""
        settings = nodes["task"]
        configuration = CustomConfiguration(
            nodes["dataset"],
            nodes["backbone"] if "backbone" in self.groups else NO_BACKBONE,
            settings,
            {group: nodes[group] for group in self.groups},
            *((nodes["augmentation"],) if "augmentation" in self.groups else ()),
        )
        for key in configuration.settings:
            if key in TRIAL_COLUMNS:
                raise ConfigError(
                    f"task.{key} would be a second column {key} of the long table; call the setting otherwise"
                )
        self.levels(configuration)
        return configuration

    def check(self, configurations: Sequence[CustomConfiguration]) -> None:
        """Nothing more than the settings' own checks."""

    def levels(self, configuration: CustomConfiguration) -> tuple[str, ...]:
        """Those of its layer; none without one."""
        layer = configuration.choices.get("layer")
        return () if layer is None else cast("tuple[str, ...]", layer.of(configuration.backbone))

    def identity(self, configuration: CustomConfiguration) -> str:
        """Of settings and choices, but for what the features' identity covers."""
        return fingerprint(configuration.task_target, self.version, *self._decisive(configuration))

    def seeding(self, configuration: CustomConfiguration) -> str:
        """Settings and choices."""
        return fingerprint(*self._decisive(configuration))

    def trial(
        self, configuration: CustomConfiguration, fingerprint: str, levels: tuple[str, ...], content: str
    ) -> ScoringTrial:
        """Its settings and choices."""
        return ScoringTrial(
            fingerprint, levels, configuration.task, dict(configuration.choices), seed_of(content)
        )

    def costs(self, work: ShardWork, network: NetworkCost, rates: Rates) -> dict[str, tuple[str, float]]:
        """Reading the images; what is done with them is not known before it is measured."""
        images = len(work.shard.category.train) + len(work.shard.category.test)
        seconds = images * decode_seconds(work.shard.category)
        return dict.fromkeys(work.trials, (self.name, seconds))

    def run(
        self, work: ShardWork, runtime: RuntimeConf, tick: Tick, *, decoders: int = 1, budget: float = 0.0
    ) -> list[TrialResult]:
        """One trial after the other; a failure is the trial's own."""
        results = []
        for trial in work.trials.values():
            results.append(guarded(trial, self._result, work, trial, runtime))
            tick(0, results[-1])
        return results

    def _result(self, work: ShardWork, trial: ScoringTrial, runtime: RuntimeConf) -> TrialResult:
        labels = work.shard.category.test_labels
        begun = time.perf_counter()
        scores = np.asarray(self.scores(work, trial, runtime), dtype=np.float64)
        seconds = time.perf_counter() - begun
        if scores.shape != labels.shape:
            raise EstimatorError(
                f"task={self.name} gave scores of shape {scores.shape} for {len(labels)} test images"
            )
        (images,) = of_images(scores[None], labels, self.score_scale)
        return TrialResult(
            trial.fingerprint, STATUS_OK, n_train=work.shard.n_train, score_seconds=seconds, **images
        )

    def _decisive(self, configuration: CustomConfiguration) -> tuple[Any, ...]:
        covered = ("backbone", "layer", "augmentation")  # by the features' identity
        choices = {group: node for group, node in configuration.choices.items() if group not in covered}
        return configuration.settings, choices
