"""The plan of a sweep: configurations -> shards -> trials, each distinct one once."""

from __future__ import annotations

import logging
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from anomaly_sweep.config import (
    SUBSET,
    AnyConfiguration,
    DatasetConf,
    GenerateConf,
)
from anomaly_sweep.datasets import (
    Category,
    FileIndex,
    Remark,
    Snapshot,
    copied_files,
    manifest_digest,
    reader_named,
)
from anomaly_sweep.datasets.readers import Reader, open_root, root_remarks
from anomaly_sweep.datasets.subsets import subset_of
from anomaly_sweep.errors import AnomalySweepError, DatasetError
from anomaly_sweep.features.augmentation import check as check_augmentation
from anomaly_sweep.features.backbone.weights import weights_label
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks import task_of
from anomaly_sweep.tasks.base import (
    ShardWork,
    Task,
    Trial,
    TrialResult,
    features_fingerprint,
    training_fingerprint,
)
from anomaly_sweep.tracking.names import METRIC_NAME

log = logging.getLogger(__name__)

#: Where conf/dataset/synthetic.yaml puts the synthetic data set.
DEFAULT_ROOT = Path("data/synthetic")
#: Hexadecimal digits of a data digest: two of a million states are alike with a probability of 2e-3.
DATA_DIGITS = 12


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
    data : list of dict
        For each configuration: category -> digest of its data ("" where it cannot be read).
    failed : dict
        Trials known not to be possible, by fingerprint.
    """

    configurations: list[AnyConfiguration]
    weights: list[str]
    cells: list[dict[str, str]]
    data: list[dict[str, str]]
    works: list[ShardWork]
    failed: dict[str, TrialResult]

    @property
    def fingerprints(self) -> set[str]:
        """All distinct trials."""
        return {trial_id for cell in self.cells for trial_id in cell.values()}

    @cached_property
    def trials(self) -> dict[str, Trial]:
        """All distinct trials that are possible, by fingerprint."""
        return {trial_id: trial for work in self.works for trial_id, trial in work.trials.items()}

    def configuration_fingerprint(self, index: int) -> str:
        """Identity of a configuration with its data: what its run is recognised by."""
        return fingerprint(self.cells[index])


def make_plan(configurations: Sequence[AnyConfiguration], index: FileIndex) -> Plan:
    """Plan a sweep.

    What is wrong with one category or one backbone's weights makes holes (``failed``) there; what makes
    everything impossible is raised.

    Parameters
    ----------
    index : FileIndex
        Remembers the contents of files.

    Raises
    ------
    DatasetError
        If a data set's root is missing or has none of the categories.
    WeightsError
        If a weight file is not there.
    ConfigError
        If a configuration names something that is not there.
    """
    planner = _Planner(index)
    for configuration in configurations:
        planner.add(configuration)
    planner.plan.works = list(planner.works.values())
    return planner.plan


class _Planner:
    """Puts a plan together; each distinct data set, backbone, shard and set of features is looked at once."""

    def __init__(self, index: FileIndex) -> None:
        self.plan = Plan([], [], [], [], [], {})
        self.works: dict[tuple[str, ...], ShardWork] = {}
        self._index = Snapshot(index)  # one state of the files for all shards
        self._compared: set[int] = set()  # categories, which _datasets keeps
        self._datasets: dict[str, dict[str, Category | str]] = {}
        self._wholes: dict[str, str] = {}  # a data set's print -> that of it with all of its training images
        self._shards: dict[tuple[str, ...], Shard] = {}
        self._weights: dict[str, str] = {}
        self._broken: dict[tuple[str, ...], str] = {}
        self._annotations: dict[tuple[str, ...], str] = {}
        self._data: dict[tuple[str, ...], dict[str, str]] = {}
        self._features: dict[tuple[str, ...], str] = {}
        self._training: dict[tuple[str, ...], str] = {}
        self._prints: dict[int, tuple[object, str]] = {}  # a node, kept so that its id stays its own

    def add(self, configuration: AnyConfiguration) -> None:
        """Plan one configuration's trials."""
        dataset, backbone = self._print(configuration.dataset), self._print(configuration.backbone)
        categories = self._categories(configuration.dataset)
        if backbone not in self._weights:
            self._weights[backbone] = weights_label(configuration.backbone)
        check_augmentation(configuration.augmentation)  # a wrong name is told now
        task = task_of(configuration)
        levels = task.levels(configuration)
        settings, seeding = task.identity(configuration), task.seeding(configuration)
        shard = (
            task.name,
            dataset,
            backbone,
            str(configuration.input_size),
            self._print(configuration.augmentation),
        )
        cell = {}
        for name, category in categories.items():
            key = (*shard, name)
            whole = (task.name, self._wholes[dataset], *key[2:])
            self._make_work(whole, task, configuration, self._datasets[whole[1]][name])
            if key != whole:
                self._make_subset(key, whole, category)
            annotations = (self._annotations[key],) if key in self._annotations else ()
            cell[name] = trial_id = fingerprint(self._features_of(key, levels), settings, *annotations)
            if key in self._broken:
                self.plan.failed[trial_id] = TrialResult.failed(trial_id, self._broken[key])
            elif trial_id not in self.works[whole].trials:
                content = fingerprint(self._training_of(key, levels), seeding)
                self.works[whole].trials[trial_id] = task.trial(configuration, trial_id, levels, content)
                if key != whole:
                    self.works[whole].subsets[trial_id] = self._shards[key]
        self.plan.configurations.append(configuration)
        self.plan.weights.append(self._weights[backbone])
        self.plan.cells.append(cell)
        self.plan.data.append(self._data_of((task.name, self._wholes[dataset], *shard[2:]), cell))

    def _print(self, node: object) -> str:
        """A node's fingerprint; configurations of one sweep share their nodes."""
        if id(node) not in self._prints:
            own = _identity(node) if isinstance(node, DatasetConf) else node
            self._prints[id(node)] = (node, fingerprint(own))
        return self._prints[id(node)][1]

    def _categories(self, dataset: DatasetConf) -> dict[str, Category | str]:
        """The categories of a data set, with the training images that it takes of them."""
        own = self._print(dataset)
        if own not in self._datasets:
            whole = self._wholes[own] = fingerprint(_identity(dataset.whole))
            if whole not in self._datasets:
                self._wholes[whole] = whole
                self._datasets[whole] = open_dataset(dataset.whole)
            if own != whole:
                self._datasets[own] = _subsets(dataset, self._datasets[whole])
        return self._datasets[own]

    def _make_work(
        self,
        key: tuple[str, ...],
        task: Task[Any, Any],
        configuration: AnyConfiguration,
        category: Category | str,
    ) -> None:
        if key in self.works or key in self._broken:
            return
        if isinstance(category, str):
            self._broken[key] = category
            return
        try:
            shard = Shard.of(
                category,
                configuration.backbone,
                configuration.input_size,
                configuration.augmentation,
                self._index,
                configuration.dataset.center_crop,
            )
            task.check_category(category)
            annotations = task.annotations(category, self._index)
            if annotations is not None:
                self._annotations[key] = annotations
        except DatasetError as error:
            self._broken[key] = str(error)
        else:
            self.works[key] = ShardWork(shard, task, annotations=annotations)
            self._shards[key] = shard
            if id(category) not in self._compared:
                self._compared.add(id(category))
                _tell_copies(category, self._index)

    def _make_subset(self, key: tuple[str, ...], whole: tuple[str, ...], category: Category | str) -> None:
        """The shard of some of a category's images, beside that of all of them."""
        if key in self._shards or key in self._broken:
            return
        if whole in self._broken or isinstance(category, str):
            self._broken[key] = self._broken.get(whole) or str(category)
            return
        work = self.works[whole]
        try:
            work.task.check_category(category)
            annotations = work.task.annotations(category, self._index)
        except DatasetError as error:
            self._broken[key] = str(error)
            return
        self._shards[key] = work.shard.subset(category, self._index)
        if annotations is not None:
            self._annotations[key] = annotations

    def _data_of(self, shard: tuple[str, ...], categories: Iterable[str]) -> dict[str, str]:
        if shard not in self._data:
            self._data[shard] = {name: self._digest((*shard, name)) for name in categories}
        return self._data[shard]

    def _digest(self, key: tuple[str, ...]) -> str:
        if key in self._broken:
            return ""
        shard = self.works[key].shard
        return data_digest(shard.train_manifest, shard.test_manifest, self._annotations.get(key))

    def _features_of(self, key: tuple[str, ...], levels: tuple[str, ...]) -> str:
        if (*key, *levels) not in self._features:
            self._features[*key, *levels] = (
                fingerprint(key, levels)
                if key in self._broken
                else features_fingerprint(self._shards[key], levels)
            )
        return self._features[*key, *levels]

    def _training_of(self, key: tuple[str, ...], levels: tuple[str, ...]) -> str:
        if (*key, *levels) not in self._training:
            self._training[*key, *levels] = training_fingerprint(self._shards[key], levels)
        return self._training[*key, *levels]


def _identity(dataset: DatasetConf) -> dict[str, Any]:
    """A data set's settings, without those that leave its training images as they are."""
    own = asdict(dataset)
    return own if dataset.is_subset else {key: value for key, value in own.items() if key not in SUBSET}


def _subsets(dataset: DatasetConf, categories: dict[str, Category | str]) -> dict[str, Category | str]:
    """The categories with some of their training images; one that has not enough of them is the reason why.

    Raises
    ------
    DatasetError
        If none of them has.
    """
    number = None if isinstance(dataset.train_images, str) else dataset.train_images
    found: dict[str, Category | str] = {}
    for name, category in categories.items():
        if isinstance(category, str):
            found[name] = category
            continue
        try:
            found[name] = subset_of(category, number, dataset.contamination, dataset.subset_seed)
        except DatasetError as error:
            found[name] = str(error)
    chosen = [category for category in found.values() if isinstance(category, Category)]
    if not chosen:
        raise DatasetError("; ".join(map(str, found.values())))
    clean = [one.name for one in chosen if dataset.contamination and not one.train[0].label]
    if clean:
        _warn(
            f"{dataset.name}: dataset.contamination={dataset.contamination:g} is less than half an image of "
            f"the training images of {', '.join(clean[:5])}{', ...' if clean[5:] else ''}: none is moved"
        )
    return found


def data_digest(train: str, test: str, annotations: str | None) -> str:
    """Digest of a category's data as it is recorded, from those of its parts."""
    return fingerprint(train, test, annotations)[:DATA_DIGITS]


def data_state(
    configurations: Iterable[AnyConfiguration], index: FileIndex
) -> dict[str, dict[str, dict[str, str]]]:
    """What configurations would be applied to: root -> task's kind -> category -> digest of its data.

    A category, or a whole root, that cannot be read has no digest: the plan tells why.
    """
    state: dict[str, dict[str, dict[str, str]]] = {}
    opened: dict[str, dict[str, Category | str]] = {}
    seen = set()
    for configuration in configurations:
        if (id(configuration.dataset), task := task_of(configuration)) in seen:  # jobs share their nodes
            continue
        seen.add((id(configuration.dataset), task))
        dataset = configuration.dataset.whole
        dataset_id = fingerprint(dataset)
        if dataset_id not in opened:
            try:
                opened[dataset_id] = open_dataset(dataset)
            except DatasetError:
                opened[dataset_id] = {}
        of_root = state.setdefault(root_label(dataset), {})
        of_task = of_root.setdefault(task.name, {})
        for name, category in opened[dataset_id].items():
            of_task[name] = _state_of(category, task, index)
    return state


def _state_of(category: Category | str, task: Task[Any, Any], index: FileIndex) -> str:
    if isinstance(category, str):
        return ""
    try:
        train, test = (manifest_digest(records, index) for records in (category.train, category.test))
        annotations = task.annotations(category, index)
    except DatasetError:
        return ""
    return data_digest(train, test, annotations)


def root_label(dataset: DatasetConf) -> str:
    """A data set's root as it is recorded: as given, but for a trailing slash and the like."""
    return str(Path(dataset.root))


def _check_synthetic_root(root: Path) -> None:
    """Raise DatasetError where the synthetic set would be drawn because a path is mistyped.

    A folder that is there is `generate`'s to judge. A new one is made only in the configuration's own place:
    who names another one usually means own images.
    """
    if root.exists() or root.absolute().parts[-2:] == DEFAULT_ROOT.parts:
        return
    raise DatasetError(
        f"dataset.root={root}: there is no such folder. For own images give dataset=folder (or mvtec_ad) and "
        "the folder that holds the categories; for the synthetic data set in a new place, make the folder "
        f"first, or: anomaly-sweep-data generate {shlex.quote(str(root))}"
    )


def _tell_remarks(conf: DatasetConf, reader: Reader, root: Path, categories: Sequence[Category]) -> None:
    """Warn of what is not read, and of what is there in part: one line a kind."""
    remarks = [] if conf.categories else root_remarks(root, reader)
    kinds: dict[str, list[Remark]] = defaultdict(list)
    for category in categories:
        remarks += category.remarks
        remarks += [Remark(f"differences from {reader.title}", *what) for what in reader.missing(category)]
    for remark in remarks:
        kinds[remark.kind].append(remark)
    for kind, same in kinds.items():
        more = "" if len(same) == 1 else " (anomaly-sweep-data check lists them)"
        _warn(f"{conf.name}: {kind}: {len(same)}{more}; the first: {same[0].message}")


def _tell_copies(category: Category, index: FileIndex) -> None:
    copies = copied_files(category, index)
    if copies:
        image, of = copies[0]
        _warn(
            f"{category.name}: test images that are copies of training images: {len(copies)}; the first: "
            f"{image.path} of {of.path} (anomaly-sweep-data check lists all, also those of another format)"
        )


@cache  # once: a launch opens its data sets several times
def _warn(line: str) -> None:
    log.warning("%s", line)


def open_dataset(conf: DatasetConf) -> dict[str, Category | str]:
    """The categories asked for; one that cannot be used is the reason why.

    The synthetic data set is generated first if it is not there; an archive is unpacked.

    Raises
    ------
    DatasetError
        If the root is missing, or none of the categories can be used.
    """
    root = Path(conf.root).expanduser()
    if conf.generate is not None:
        from anomaly_sweep.datasets.synthetic import generate

        if conf.generate == GenerateConf():
            _check_synthetic_root(root)
        generate(
            root,
            seed=conf.generate.seed,
            size=conf.generate.size,
            n_train=conf.generate.n_train,
            n_test_good=conf.generate.n_test_good,
            n_per_defect=conf.generate.n_per_defect,
        )
    reader = reader_named(conf.reader, conf.options)
    root, known = open_root(root, reader)
    found: dict[str, Category | str] = {}
    for name in conf.categories or known:
        try:
            if not METRIC_NAME.fullmatch(name):
                raise DatasetError(
                    f"{root / name}: MLflow takes no metric of that name; rename the folder, using letters, "
                    "digits, spaces and _ - . only"
                )
            found[name] = reader.read(root, name, dataset=conf.name)
        except AnomalySweepError as error:
            found[name] = str(error)
    _tell_remarks(conf, reader, root, [c for c in found.values() if isinstance(c, Category)])
    if all(isinstance(category, str) for category in found.values()):
        raise DatasetError("; ".join(str(reason) for reason in found.values()))
    return found
