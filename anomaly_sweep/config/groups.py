"""What a trial is composed of: the nodes of the config groups, with their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from omegaconf import MISSING

from anomaly_sweep.checks import in_range, one_of, whole
from anomaly_sweep.errors import ConfigError

#: Spatial pools of a map.
POOLS = ("min", "max", "avg")
#: A transformer's class token, of the networks that have one.
CLASS_TOKEN = "cls"
ALL_LEVELS = "all"
#: Of a category's training images (``dataset.train_images``).
ALL_IMAGES = "all"
PRETRAINED, PACKAGED, RANDOM = "pretrained", "packaged", "random"
#: Weights where there is no network.
NO_WEIGHTS = "none"
DETECTION, LOCALIZATION = "detection", "localization"


#: Keys of a data set that choose its training images -> the values that leave them as they are.
SUBSET: Mapping[str, Any] = MappingProxyType(
    {"train_images": ALL_IMAGES, "contamination": 0.0, "subset_seed": 0}
)


@dataclass
class GenerateConf:
    """Parameters of the embedded synthetic data set."""

    seed: int = 0
    size: int = 128
    n_train: int = 60
    n_test_good: int = 20
    n_per_defect: int = 10


@dataclass
class DatasetConf:
    """Where the images are; ``categories`` None takes all there are."""

    name: str = MISSING
    root: str = MISSING
    categories: list[str] | None = None
    #: Overrides the backbone's input size (pixels, square) when set.
    input_size: int | None = None
    #: Side of the central square that is cut out of the resized image; null for all of it.
    center_crop: int | None = None
    #: Whose layout it has: one of the package's readers, or a module with a ``READER``.
    reader: str = "folder"
    #: Arguments of the reader, where it has any.
    options: dict[str, Any] = field(default_factory=dict)
    #: Set for the synthetic set: it is generated under ``root`` when it is not there.
    generate: GenerateConf | None = None
    #: Training images taken of each category, the first in an order that ``subset_seed`` draws; or ``all``.
    train_images: Any = ALL_IMAGES  # OmegaConf's unions cannot be merged
    #: Share of the training images that are anomalous: test images, moved and left out of the test.
    contamination: float = 0.0
    #: Of the order in which training images and contaminating ones are taken; unused without either.
    subset_seed: int = 0

    def __post_init__(self) -> None:
        if self.train_images != ALL_IMAGES:
            if isinstance(self.train_images, str):
                one_of("dataset.train_images", self.train_images, (ALL_IMAGES, "a number of images"))
            whole("dataset.train_images", self.train_images, 1)
        in_range("dataset.contamination", self.contamination, 0, 0.5)
        whole("dataset.subset_seed", self.subset_seed, 0)
        if not self.is_subset:
            self.subset_seed = 0  # draws nothing: jobs that differ in it are the same
        if self.input_size is not None:
            in_range("dataset.input_size", self.input_size, 32, 4096)
        if self.center_crop is not None:
            in_range("dataset.center_crop", self.center_crop, 32, 4096)
        if self.categories is not None and not self.categories:
            raise ConfigError("dataset.categories=[] names no category; use null for all of them")

    @property
    def is_subset(self) -> bool:
        """Whether few images are trained on, or anomalous ones."""
        return self.train_images != ALL_IMAGES or self.contamination > 0

    @property
    def subset(self) -> dict[str, int | float | None]:
        """How training images are chosen, as it is recorded: None for what is as in the whole data set."""
        return {
            "train_images": None if isinstance(self.train_images, str) else self.train_images,
            "contamination": self.contamination or None,
            "subset_seed": self.subset_seed if self.is_subset else None,
        }

    @property
    def whole(self) -> DatasetConf:
        """The same data set with all of its training images, as they are."""
        return replace(self, **SUBSET) if self.is_subset else self


@dataclass
class BackboneConf:
    """A timm network, its weights and the nodes of its levels.

    ``weights`` is ``pretrained`` (timm's hub, by the tag in ``model``), ``packaged`` (inside an installed
    package), ``random`` or the path of a ``.safetensors`` or ``.pth`` file.
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
    #: Whether its levels have a class token (``pooling=cls``).
    class_token: bool = False

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
    """Spatial pools of a feature map, and its class token, joined by concatenation in the order given."""

    name: str = MISSING
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError(f"pooling.kinds is empty; choose from {', '.join((*POOLS, CLASS_TOKEN))}")
        for kind in self.kinds:
            one_of("pooling.kinds", kind, (*POOLS, CLASS_TOKEN))

    def check(self, backbone: BackboneConf) -> None:
        """Refuse a pool that a backbone does not have.

        Raises
        ------
        ConfigError
            If the class token is asked of a network without one.
        """
        if CLASS_TOKEN in self.kinds and not backbone.class_token:
            raise ConfigError(
                f"pooling={self.name}: backbone {backbone.name} has no class token; choose a pooling of "
                f"{', '.join(POOLS)}, or a transformer with one (backbone.class_token=true says so)"
            )


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
    #: Probability of the composite of ``kind: rippel`` as a whole.
    probability: float = 0.5
    #: Its parts that are left out, by category (``"*"`` for every one).
    exclude: dict[str, list[str]] = field(default_factory=dict)
    #: What its shift, scale and rotation draw from where that is not the usual, by category:
    #: ``shift``, ``smaller``, ``larger`` (shares of the side) and ``rotate`` (degrees).
    geometry: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("augmentation.kind", self.kind, ("none", "noise", "rippel"))
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
class TaskConf:
    """What a trial answers: is an image anomalous (``detection``), or where is it (``localization``).

    ``name`` is that of a package of ``anomaly_sweep.tasks``. A task's settings are a class derived from this.
    """

    name: str = DETECTION


@dataclass
class CustomTaskConf(TaskConf):
    """Settings of a task from elsewhere, found by its class. One's own keys are fields of a derived class."""

    name: str = MISSING
    _target_: str = MISSING


@dataclass
class LocalizationConf(TaskConf):
    """How a localizer's grid becomes an anomaly map, which pixel metrics are recorded, and what is kept."""

    name: str = LOCALIZATION
    #: Standard deviation of the Gaussian that smooths an anomaly map, pixels of the input; 0 for none.
    sigma: float = 4.0
    #: AUPRO is integrated up to this false positive rate and divided by it.
    fpr_limit: float = 0.3
    #: Neighbours of a pixel in a defect's connected component: 4 or 8.
    connectivity: int = 8
    #: What the overlap is averaged over: every defect ``region``, or every ``image``'s regions first.
    average: str = "region"
    #: Whose pixels count: those of ``all`` test images, or of the ``anomalous`` ones only.
    images: str = "all"
    #: Draw the best and the worst cases of each category.
    figure: bool = True
    #: Keep the anomaly maps of the test images as an artifact.
    save_maps: bool = False
    #: Keep the backbone's feature maps in the cache (large: see the plan).
    cache_maps: bool = False

    def __post_init__(self) -> None:
        in_range("task.sigma", self.sigma, 0, 100)
        in_range("task.fpr_limit", self.fpr_limit, 0, 1, open_low=True)
        one_of("task.connectivity", self.connectivity, (4, 8))
        one_of("task.average", self.average, ("region", "image"))
        one_of("task.images", self.images, ("all", "anomalous"))
