"""Structured configs of the groups, and their checks.

Hydra checks keys and types while it composes (through :func:`register`); ranges and choices are checked
here when a composed config becomes a :class:`Configuration`, before any work starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.labels import label_of

POOLS = ("min", "max", "avg")
ALL_LEVELS = "all"
PRETRAINED, RANDOM = "pretrained", "random"
#: What can be searched for -> the direction that is better.
OBJECTIVES = {"auc": "maximize", "score_seconds": "minimize", "fit_seconds": "minimize"}


def one_of(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ConfigError unless value is one of the allowed ones."""
    allowed = list(allowed)
    if value not in allowed:
        raise ConfigError(f"{key}={value} is not allowed; allowed: {', '.join(map(str, allowed))}")


def in_range(
    key: str, value: float, low: float, high: float = float("inf"), *, open_low: bool = False
) -> None:
    """Raise ConfigError unless low <= value <= high (low < value with ``open_low``)."""
    if not (low < value if open_low else low <= value) or not value <= high:
        bracket = "(" if open_low else "["
        raise ConfigError(f"{key}={value} is outside {bracket}{low:g}, {high:g}]")


@dataclass
class GenerateConf:
    """Parameters of the embedded synthetic data set."""

    seed: int = 0
    size: int = 128
    n_train: int = 24
    n_test_good: int = 12
    n_per_defect: int = 6


@dataclass
class DatasetConf:
    """Where the images are; ``categories`` None takes all there are."""

    name: str = MISSING
    root: str = MISSING
    categories: list[str] | None = None
    #: Overrides the backbone's input size (pixels, square) when set.
    input_size: int | None = None
    #: Set for the synthetic set: it is generated under ``root`` when it is not there.
    generate: GenerateConf | None = None

    def __post_init__(self) -> None:
        if self.input_size is not None:
            in_range("dataset.input_size", self.input_size, 32, 4096)
        if self.categories is not None and not self.categories:
            raise ConfigError("dataset.categories=[] names no category; use null for all of them")


@dataclass
class BackboneConf:
    """A timm network, its weights and the nodes of its levels.

    ``weights`` is ``pretrained`` (timm's hub, by the tag in ``model``), ``random`` or the path of a
    ``.safetensors`` or ``.pth`` file.
    """

    name: str = MISSING
    model: str = MISSING
    levels: dict[str, str] = field(default_factory=dict)
    input_size: int = 224
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    kwargs: dict[str, Any] = field(default_factory=dict)
    weights: str = PRETRAINED
    #: Seed of random weights; unused otherwise.
    weights_seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels:
            raise ConfigError(f"backbone.levels of {self.name} is empty; name the node of each level")
        in_range("backbone.input_size", self.input_size, 32, 4096)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("backbone.mean and backbone.std need three values each, std above 0")


@dataclass
class LayerConf:
    """The levels whose pooled features are joined by concatenation; ``[all]`` takes every level."""

    name: str = MISSING
    levels: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.levels:
            raise ConfigError("layer.levels is empty; name at least one level, or [all]")

    def of(self, backbone: BackboneConf) -> tuple[str, ...]:
        """The levels this choice means on a backbone.

        Raises
        ------
        ConfigError
            If the backbone lacks one of them: the message lists those it has.
        """
        if self.levels == [ALL_LEVELS]:
            return tuple(backbone.levels)
        for level in self.levels:
            if level not in backbone.levels:
                raise ConfigError(
                    f"layer={self.name}: backbone {backbone.name} has no {level}; it has "
                    f"{', '.join(backbone.levels)} and all"
                )
        return tuple(self.levels)


@dataclass
class PoolingConf:
    """Spatial pools of a feature map, joined by concatenation in the order given."""

    name: str = MISSING
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError(f"pooling.kinds is empty; choose from {', '.join(POOLS)}")
        for kind in self.kinds:
            one_of("pooling.kinds", kind, POOLS)


@dataclass
class AugmentationConf:
    """Random changes of the training images; the test set is never augmented.

    ``kind`` none takes each image once as it is. Otherwise ``passes`` changed versions of each training
    image are taken (``keep_original`` adds the unchanged one).
    """

    name: str = MISSING
    kind: str = "none"
    passes: int = 1
    seed: int = 0
    keep_original: bool = False
    #: Standard deviation of ``kind: noise``, on the 0..1 intensity scale.
    noise_std: float = 0.05
    #: Probability of each change of ``kind: standard``.
    probability: float = 0.5
    #: Changes left out, by category (``"*"`` for every one).
    exclude: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("augmentation.kind", self.kind, ("none", "noise", "standard"))
        in_range("augmentation.passes", self.passes, 1)
        in_range("augmentation.noise_std", self.noise_std, 0, 1)
        in_range("augmentation.probability", self.probability, 0, 1)
        if self.kind == "none" and self.passes != 1:
            raise ConfigError("augmentation.passes must be 1 with augmentation.kind=none")


@dataclass
class PcaModeConf:
    """A slice of the spectrum: PCA keeps the leading ``rate`` of it, NPCA the trailing.

    ``basis`` says what the rate is a share of: ``rank`` (components by count, of the training features'
    rank), ``dims`` (of the number of features) or ``variance`` (of the explained variance).
    """

    name: str = MISSING
    mode: str = "none"
    rate: float = 1.0
    basis: str = "rank"

    def __post_init__(self) -> None:
        one_of("pca_mode.mode", self.mode, ("none", "pca", "npca"))
        in_range("pca_mode.rate", self.rate, 0, 1, open_low=True)
        one_of("pca_mode.basis", self.basis, ("rank", "dims", "variance"))

    @property
    def label(self) -> str:
        """``npca50``, ``pca12.5``, ``npca1[basis=variance]``, ``none``: exact, from whatever option."""
        if self.mode == "none":
            return "none"
        suffix = "" if self.basis == "rank" else f"[basis={self.basis}]"
        return f"{self.mode}{100 * self.rate:.10g}{suffix}"


@dataclass
class TrackingConf:
    """MLflow: where runs go. ``artifacts`` is used when the experiment is created (None: the server's)."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "anomaly_sweep"
    artifacts: str | None = "mlartifacts"


@dataclass
class RuntimeConf:
    """How the work is done; nothing here changes a result."""

    device: str = "auto"
    batch_size: int = 16
    #: Processes, one thread each; null for one a core (one in all when a GPU does the features).
    workers: int | None = None
    cache_dir: str = ".anomaly_sweep"
    #: Reuse results that are there; false computes every trial again.
    resume: bool = True
    #: After a failed trial: ``continue`` with the rest or ``stop``.
    on_error: str = "continue"
    #: Print the plan (what would be computed, what is there already) and stop.
    plan_only: bool = False
    #: What a job returns to Hydra's sweeper: one number, or several as a tuple.
    objectives: list[str] = field(default_factory=lambda: ["auc"])

    def __post_init__(self) -> None:
        in_range("runtime.batch_size", self.batch_size, 1)
        if self.workers is not None:
            in_range("runtime.workers", self.workers, 1)
        one_of("runtime.on_error", self.on_error, ("continue", "stop"))
        if not self.objectives:
            raise ConfigError(f"runtime.objectives is empty; choose from {', '.join(OBJECTIVES)}")
        for objective in self.objectives:
            one_of("runtime.objectives", objective, OBJECTIVES)
        if self.device != "auto" and self.device.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise ConfigError(
                f"runtime.device={self.device} is not allowed; allowed: auto, cpu, cuda, cuda:N, mps"
            )


@dataclass
class RootConf:
    """The whole config of one job. ``estimator`` is open: any ``_target_`` brings its own keys."""

    dataset: DatasetConf = MISSING
    backbone: BackboneConf = MISSING
    layer: LayerConf = MISSING
    pooling: PoolingConf = MISSING
    augmentation: AugmentationConf = MISSING
    pca_mode: PcaModeConf = MISSING
    estimator: Any = MISSING
    tracking: TrackingConf = field(default_factory=TrackingConf)
    runtime: RuntimeConf = field(default_factory=RuntimeConf)


#: Node of the root config -> its class, for all nodes with fixed keys.
NODE_TYPES: dict[str, type] = {
    "dataset": DatasetConf,
    "backbone": BackboneConf,
    "layer": LayerConf,
    "pooling": PoolingConf,
    "augmentation": AugmentationConf,
    "pca_mode": PcaModeConf,
    "tracking": TrackingConf,
    "runtime": RuntimeConf,
}


@dataclass(frozen=True)
class Configuration:
    """One choice of (backbone, layer, pooling, augmentation, pca_mode, estimator) on a data set."""

    dataset: DatasetConf
    backbone: BackboneConf
    layer: LayerConf
    pooling: PoolingConf
    augmentation: AugmentationConf
    pca_mode: PcaModeConf
    estimator: Mapping[str, Any]

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        return self.dataset.input_size or self.backbone.input_size

    @cached_property
    def labels(self) -> dict[str, str]:
        """The six choices as they are recorded: an option's name, with what differs from that option.

        ``mvg``, ``knn1[aggregation=kth]``, ``npca12.5``. Weights and input size are recorded apart.
        """
        return {
            "backbone": label_of("backbone", self.backbone, apart=("weights", "weights_seed", "input_size")),
            "layer": label_of("layer", self.layer),
            "pooling": label_of("pooling", self.pooling),
            "augmentation": label_of("augmentation", self.augmentation),
            "pca_mode": self.pca_mode.label,
            "estimator": label_of("estimator", self.estimator),
        }


def parse_node(name: str, node: Any) -> Any:
    """A node of a composed config as its checked class (``estimator``: as a plain dict).

    Raises
    ------
    ConfigError
        For a value out of range, a missing value or an unknown key.
    """
    try:
        # Resolved where it stands: a value may refer to other nodes.
        value = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
        if name == "estimator":
            if not isinstance(value, dict) or "_target_" not in value or "name" not in value:
                raise ConfigError("estimator needs the keys name and _target_ (see conf/estimator/)")
            return value
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(NODE_TYPES[name]), value))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{name}.{error.key} must be given: {name}.{error.key}=...") from error
    except OmegaConfBaseException as error:
        key = error.full_key or name
        where = key if key == name or key.startswith(f"{name}.") else f"{name}.{key}"
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error


def configuration_of(nodes: Mapping[str, Any]) -> Configuration:
    """Put parsed nodes together and check what concerns several of them."""
    configuration = Configuration(**{name: nodes[name] for name in Configuration.__dataclass_fields__})
    configuration.layer.of(configuration.backbone)
    return configuration


def parse(cfg: DictConfig) -> tuple[Configuration, TrackingConf, RuntimeConf]:
    """A composed config as checked objects."""
    nodes = {name: parse_node(name, cfg[name]) for name in (*NODE_TYPES, "estimator")}
    return configuration_of(nodes), nodes["tracking"], nodes["runtime"]


def register() -> None:
    """Make the schema known to Hydra's config store (name ``schema``)."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RootConf)
