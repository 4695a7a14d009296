"""What timm knows of a network by its name: ``${timm:MODEL,KEY}`` in a config (``backbone=timm``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from anomaly_sweep.config import RANDOM, BackboneConf
from anomaly_sweep.errors import ConfigError

#: Argument of timm's networks that lets them take images of other sizes, positions interpolated.
_ANY_SIZE = "dynamic_img_size"


@dataclass(frozen=True)
class Described:
    """What a config says of a network, as timm has it.

    Attributes
    ----------
    levels : dict of str to str
        ``level1`` (the shallowest) and so on -> module, from timm's ``feature_info``; or
        ``forward_intermediates.N``, where the modules give something else than the maps that timm says.
    input_size : int
        Side of the images that the weights were made for, pixels.
    mean, std : list of float
        The weights' normalisation of red, green and blue.
    kwargs : dict
        Arguments of ``timm.create_model``: what lets it take images of other sizes, where there is such.
    class_token : bool
        Whether its levels have a class token.
    """

    levels: dict[str, str]
    input_size: int
    mean: list[float]
    std: list[float]
    kwargs: dict[str, Any]
    class_token: bool


def register_resolver() -> None:
    """Make ``${timm:MODEL,KEY}`` known to OmegaConf: an attribute of :class:`Described`."""
    OmegaConf.register_new_resolver("timm", lambda model, key: getattr(describe(model), key), replace=True)


@cache
def describe(model: str) -> Described:
    """What timm knows of a network; it is made without memory for its weights, and nothing is loaded.

    Parameters
    ----------
    model : str
        timm's name, with or without a weight tag (without: input size and normalisation of timm's default).

    Raises
    ------
    ConfigError
        If timm does not know the model, or says nothing of its levels.
    """
    import inspect

    import torch

    from anomaly_sweep.features.backbone.create import create_without_memory
    from anomaly_sweep.features.backbone.levels import INTERMEDIATES, feature_info, has_class_token, look

    backbone = BackboneConf(name=model, model=model, levels={"level1": ""}, weights=RANDOM)
    meta = torch.device("meta")
    network: Any = create_without_memory(backbone)
    known = feature_info(network)
    source = network.pretrained_cfg

    def gives_its_maps(nodes: list[str]) -> bool:
        """Whether the maps of each node have the channels that timm says."""
        levels = replace(backbone, levels=dict(zip(nodes, nodes, strict=True)))
        try:
            with meta:
                found = look(network, levels, list(levels.levels), source["input_size"][-1], meta)
        except AttributeError:  # no module of that name
            return False
        return all(found[node][0] == info["num_chs"] for node, info in zip(nodes, known, strict=True))

    modules = [str(info.get("module")) for info in known]
    in_modules = bool(known) and len(set(modules)) == len(modules) and gives_its_maps(modules)
    nodes = modules if in_modules else [f"{INTERMEDIATES}{number}" for number in range(len(known))]
    if not known or not (in_modules or gives_its_maps(nodes)):
        raise ConfigError(
            f"backbone.model={model}: timm does not say where its maps are; name their modules in a "
            "backbone of your own (conf/backbone/*.yaml, docs/backbones.md)"
        )
    # A class hands what it does not name on to the one it derives from.
    takes = {name for kind in type(network).__mro__ for name in inspect.signature(kind).parameters}
    return Described(
        levels={f"level{number}": node for number, node in enumerate(nodes, 1)},
        input_size=source["input_size"][-1],
        mean=list(source["mean"]),
        std=list(source["std"]),
        kwargs={_ANY_SIZE: True} if _ANY_SIZE in takes else {},
        class_token=in_modules and has_class_token(network),
    )
