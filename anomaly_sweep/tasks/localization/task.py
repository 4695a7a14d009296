"""Localization: one vector a place, under a localizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anomaly_sweep.config import LOCALIZATION, LocalizationConf, LocalizationConfiguration, RuntimeConf
from anomaly_sweep.datasets import Category, FileIndex, masks_digest
from anomaly_sweep.datasets.records import ORPHAN_MASKS
from anomaly_sweep.errors import ConfigError, DatasetError
from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.localization.seeds import SEEDS, seeds_of_config, without_seeds
from anomaly_sweep.tasks.base import ShardWork, Task, Tick, TrialResult
from anomaly_sweep.tasks.forecast import Rates
from anomaly_sweep.tasks.localization.trial import LOCALIZATION_VERSION, LocalizationTrial
from anomaly_sweep.tracking.names import LOCALIZATION_GROUPS


class Localization(Task[LocalizationConfiguration, LocalizationTrial]):
    """``task=localization``: the trials of the ridge paper."""

    name = LOCALIZATION
    paper = "ridge"
    conf = LocalizationConf
    groups = LOCALIZATION_GROUPS
    takes_subsets = True

    def configuration(self, nodes: Mapping[str, Any]) -> LocalizationConfiguration:
        """Of backbone, task and localizer."""
        if nodes["augmentation"].kind != "none":
            raise ConfigError(
                f"augmentation={nodes['augmentation'].name} has no meaning with task=localization, whose "
                "training images are taken as they are; leave augmentation out"
            )
        localizer = dict(nodes["localizer"])
        if SEEDS in localizer and len(seeds_of_config(localizer)) == 1:
            localizer[SEEDS] = 1  # nothing is drawn: several would be the same
        return LocalizationConfiguration(
            localizer=localizer, **{name: nodes[name] for name in ("dataset", "backbone", "task")}
        )

    def check(self, configurations: Sequence[LocalizationConfiguration]) -> None:
        """Build each distinct localizer once and throw it away."""
        for c in {fingerprint(dict(c.localizer), c.backbone): c for c in configurations}.values():
            self.levels(c)

    def levels(self, configuration: LocalizationConfiguration) -> tuple[str, ...]:
        """Those that its localizer reads."""
        from anomaly_sweep.localization.create import levels_of  # torch

        backbone = configuration.backbone
        return levels_of(configuration.localizer, backbone.levels, backbone.name)

    def identity(self, configuration: LocalizationConfiguration) -> str:
        """Of the localizer, and of how maps are made and measured."""
        task = configuration.task
        measured = (task.sigma, task.fpr_limit, task.connectivity, task.average, task.images)
        arguments = {key: value for key, value in configuration.localizer.items() if key != "name"}
        if len(seeds_of_config(arguments)) == 1:
            arguments = without_seeds(arguments)
        return fingerprint("localization", LOCALIZATION_VERSION, measured, arguments)

    def trial(
        self,
        configuration: LocalizationConfiguration,
        fingerprint: str,
        levels: tuple[str, ...],
        content: str,
    ) -> LocalizationTrial:
        """Localizer and task of a configuration; what it draws at random has seeds of its own."""
        return LocalizationTrial(fingerprint, levels, dict(configuration.localizer), configuration.task)

    def check_category(self, category: Category) -> None:
        """Every anomalous test image has a mask."""
        check_masks(category)

    def annotations(self, category: Category, index: FileIndex) -> str:
        """Of the masks."""
        masks = masks_digest(category.test, index)
        return fingerprint(masks, category.saturations) if category.saturations else masks

    def missing(self, work: ShardWork, cache: FeatureCache) -> list[str]:
        """All: whether maps are kept, and are still there, is seen when they are read."""
        return work.levels()

    def fit_bytes(self, work: ShardWork, runtime: RuntimeConf) -> float:
        """Of the largest of its localizers."""
        from anomaly_sweep.tasks.localization.run import largest_fit  # torch

        return largest_fit(work, runtime)

    def run(
        self, work: ShardWork, runtime: RuntimeConf, tick: Tick, *, decoders: int = 1, budget: float = 0.0
    ) -> list[TrialResult]:
        """One pass over the training maps and one over the test maps for all."""
        from anomaly_sweep.tasks.localization.run import run_localizations  # torch

        return run_localizations(work, runtime, decoders=decoders, budget=budget, tick=tick)

    def units(self, work: ShardWork) -> list[list[str]]:
        """Each by itself: the maps alone are shared, which another worker makes anew."""
        return [[trial_id] for trial_id in work.trials]

    def costs(self, work: ShardWork, network: NetworkCost, rates: Rates) -> dict[str, tuple[str, float]]:
        """Localizers by what they say they compute; ranking pixels and drawing."""
        from anomaly_sweep.tasks.localization.forecast import trial_costs  # torch

        return trial_costs(work, network, rates)


def check_masks(category: Category) -> None:
    """Raise DatasetError unless every anomalous test image has a mask."""
    without = [record.relative for record in category.test if record.label and not record.masks]
    if without:
        orphans = [remark.message for remark in category.remarks if remark.kind == ORPHAN_MASKS]
        raise DatasetError(
            f"{category.name}: {len(without)} anomalous test images have no mask (first: {without[0]}); "
            "task=localization needs them all" + (f". A {orphans[0]}" if orphans else "")
        )


TASK = Localization()
