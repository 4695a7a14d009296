"""From a composed config's nodes to checked objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from anomaly_sweep.config.groups import (
    AugmentationConf,
    BackboneConf,
    DatasetConf,
    LayerConf,
    PcaModeConf,
    PoolingConf,
)
from anomaly_sweep.config.runtime import RuntimeConf, TrackingConf
from anomaly_sweep.errors import AnomalySweepError, ConfigError


@dataclass
class RootConf:
    """The whole config of one job.

    ``estimator`` and ``localizer`` are open, any ``_target_`` brings its own keys; those of ``task`` are its
    task's.
    """

    dataset: DatasetConf = MISSING
    backbone: BackboneConf = MISSING
    layer: LayerConf = MISSING
    pooling: PoolingConf = MISSING
    augmentation: AugmentationConf = MISSING
    pca_mode: PcaModeConf = MISSING
    estimator: Any = MISSING
    task: Any = MISSING
    localizer: Any = MISSING
    tracking: TrackingConf = field(default_factory=TrackingConf)
    runtime: RuntimeConf = MISSING


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
#: Nodes whose keys are the arguments of their ``_target_``.
OPEN_NODES = ("estimator", "localizer")
#: The node whose keys its task declares.
TASK = "task"
NODES = (*NODE_TYPES, TASK, *OPEN_NODES)


def parse_node(name: str, node: Any, kind: type | None = None) -> Any:
    """A node of a composed config as its checked class (an open node: as a plain dict).

    Parameters
    ----------
    name : str
        Of the node.
    node : DictConfig or mapping
    kind : type, optional
        Its class, where ``NODE_TYPES`` does not say.

    Raises
    ------
    ConfigError
        For a value out of range, a missing value or an unknown key.
    """
    try:
        # Resolved where it stands: a value may refer to other nodes.
        value = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
        if name in OPEN_NODES:
            if not isinstance(value, dict) or "_target_" not in value or "name" not in value:
                raise ConfigError(f"{name} needs the keys name and _target_ (see conf/{name}/)")
            return value
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind or NODE_TYPES[name]), value))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{name}.{error.key} must be given: {name}.{error.key}=...") from error
    except InterpolationToMissingValueError as error:
        missing = str(error).splitlines()[0].rpartition(": ")[2]  # the value referred to, the key refers
        raise ConfigError(f"{missing} must be given: {missing}=...") from error
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, AnomalySweepError):
            cause = cause.__context__
        if cause is not None:  # a resolver of ours has said it
            raise cause from error
        key = error.full_key or name
        where = key if key == name or key.startswith(f"{name}.") else f"{name}.{key}"
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error


def register() -> None:
    """Make the schema known to Hydra's config store (name ``schema``)."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RootConf)
