"""The plan of a sweep: configurations -> shards -> trials, each distinct one once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anomaly_sweep.config import Configuration, DatasetConf
from anomaly_sweep.datasets import Category, FileIndex, list_categories, read_category
from anomaly_sweep.errors import AnomalySweepError, DatasetError, WeightsError
from anomaly_sweep.features.augmentation import excluded
from anomaly_sweep.features.shards import Shard
from anomaly_sweep.features.weights import weights_label
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.trials import Trial, TrialResult, features_fingerprint, settings_fingerprint


@dataclass
class ShardWork:
    """A shard and the distinct trials on it."""

    shard: Shard
    trials: dict[str, Trial] = field(default_factory=dict)

    def levels(self, wanted: Sequence[str] | None = None) -> list[str]:
        """The levels that its trials (or those with the wanted fingerprints) need, shallowest first."""
        keep = self.trials if wanted is None else set(wanted)
        needed = {level for print_, trial in self.trials.items() if print_ in keep for level in trial.levels}
        return [level for level in self.shard.backbone.levels if level in needed]

    def only(self, wanted: set[str]) -> ShardWork:
        """The same shard with some of its trials."""
        return ShardWork(self.shard, {p: t for p, t in self.trials.items() if p in wanted})


@dataclass
class Plan:
    """Everything a sweep will compute, before any of it is.

    Attributes
    ----------
    configurations : list of Configuration
    weights : list of str
        The weights label of each configuration.
    cells : list of dict
        For each configuration: category -> fingerprint of its trial.
    works : list of ShardWork
    failed : dict
        Trials known not to be possible, by fingerprint.
    """

    configurations: list[Configuration]
    weights: list[str]
    cells: list[dict[str, str]]
    works: list[ShardWork]
    failed: dict[str, TrialResult]

    @property
    def fingerprints(self) -> set[str]:
        """All distinct trials."""
        return {print_ for cell in self.cells for print_ in cell.values()}

    def configuration_fingerprint(self, index: int) -> str:
        """Identity of a configuration with its data: what its run is recognised by."""
        return fingerprint(self.cells[index])


def make_plan(configurations: Sequence[Configuration], index: FileIndex) -> Plan:
    """Plan a sweep.

    What is wrong with one category or one backbone's weights makes holes (``failed``) there; what makes
    everything impossible is raised.

    Raises
    ------
    DatasetError
        If a data set's root is missing or has none of the categories.
    ConfigError
        If a configuration names something that is not there.
    """
    plan = Plan(list(configurations), [], [], [], {})
    datasets: dict[str, dict[str, Category | str]] = {}
    weights: dict[str, str] = {}
    works: dict[tuple[str, ...], ShardWork] = {}
    broken: dict[tuple[str, ...], str] = {}
    prints: dict[tuple[str, ...], str] = {}
    for configuration in configurations:
        dataset_key = fingerprint(configuration.dataset)
        if dataset_key not in datasets:
            datasets[dataset_key] = open_dataset(configuration.dataset)
        backbone = configuration.backbone
        backbone_key = fingerprint(backbone)
        if backbone_key not in weights:
            weights[backbone_key] = weights_label(backbone)
        plan.weights.append(weights[backbone_key])
        excluded(configuration.augmentation, "*")  # a wrong name is told now
        levels = configuration.layer.of(backbone)
        settings = settings_fingerprint(configuration)
        shard_base = (
            dataset_key,
            backbone_key,
            str(configuration.input_size),
            fingerprint(configuration.augmentation),
        )
        cell: dict[str, str] = {}
        for name, category in datasets[dataset_key].items():
            key = (name, *shard_base)
            if key not in works and key not in broken:
                try:
                    if isinstance(category, str):
                        raise DatasetError(category)
                    works[key] = ShardWork(
                        Shard.of(
                            category, backbone, configuration.input_size, configuration.augmentation, index
                        )
                    )
                except (DatasetError, WeightsError) as error:
                    broken[key] = str(error)
            feature_key = (*key, *levels)
            if feature_key not in prints:
                features = (
                    fingerprint(key) if key in broken else features_fingerprint(works[key].shard, levels)
                )
                prints[feature_key] = features
            print_ = fingerprint(prints[feature_key], settings)
            cell[name] = print_
            if key in broken:
                plan.failed[print_] = TrialResult.failed(print_, broken[key])
            elif print_ not in works[key].trials:
                works[key].trials[print_] = Trial(
                    print_,
                    levels,
                    tuple(configuration.pooling.kinds),
                    configuration.pca_mode,
                    dict(configuration.estimator),
                )
        plan.cells.append(cell)
    plan.works = list(works.values())
    return plan


def open_dataset(conf: DatasetConf) -> dict[str, Category | str]:
    """The categories asked for; one that cannot be used is the reason why.

    The synthetic data set is generated first if it is not there.

    Raises
    ------
    DatasetError
        If the root is missing, or none of the categories can be used.
    """
    root = Path(conf.root).expanduser()
    if conf.generate is not None:
        from anomaly_sweep.datasets.synthetic import generate

        generate(
            root,
            seed=conf.generate.seed,
            size=conf.generate.size,
            n_train=conf.generate.n_train,
            n_test_good=conf.generate.n_test_good,
            n_per_defect=conf.generate.n_per_defect,
        )
    there = list_categories(root)
    found: dict[str, Category | str] = {}
    for name in conf.categories or there:
        try:
            found[name] = read_category(root, name, dataset=conf.name)
        except AnomalySweepError as error:
            found[name] = str(error)
    if all(isinstance(category, str) for category in found.values()):
        raise DatasetError("; ".join(str(reason) for reason in found.values()))
    return found
