"""timm networks with their weights: pretrained, from a package or a file, or random."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from anomaly_sweep.config import PRETRAINED, RANDOM, BackboneConf
from anomaly_sweep.errors import ConfigError, WeightsError, shortened
from anomaly_sweep.features.backbone import weights
from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports

#: timm's arguments that would bring in weights beside those of ``backbone.weights``.
_OTHER_WEIGHTS = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")
_HUB_SECONDS = 10.0


def create(backbone: BackboneConf) -> tuple[nn.Module, frozenset[str]]:
    """The network with its weights, and the names of the parameters that the weights lack.

    torch's global random state is left as it was.

    Raises
    ------
    ConfigError
        If timm does not know the model or its arguments.
    WeightsError
        If the weights cannot be had or do not fit.
    """
    ensure_torchvision_imports()
    pretrained = backbone.weights == PRETRAINED
    _check_name(backbone)
    for name in _OTHER_WEIGHTS:
        if name in backbone.kwargs:
            raise ConfigError(
                f"backbone.kwargs.{name} is not allowed: which weights were loaded would not be recorded; "
                "give the file as backbone.weights=PATH"
            )
    if pretrained:
        _check_tag(backbone)
        _check_hub(backbone)
    try:
        model = _make(backbone, pretrained=pretrained)
    except Exception as error:  # constructors, hub clients and file readers raise what they like
        if pretrained and _can_be_made(backbone):
            raise _not_had(backbone, error) from error
        raise ConfigError(
            f"backbone {backbone.name}: timm cannot make {backbone.model} with "
            f"backbone.kwargs={dict(backbone.kwargs)}: {shortened(error)}"
        ) from error
    if backbone.weights in (PRETRAINED, RANDOM):
        return model, frozenset()
    return model, weights.load_file_into(model, backbone)


def create_without_memory(backbone: BackboneConf) -> nn.Module:
    """The network for evaluation on torch's meta device: modules and shapes, nothing computed or loaded.

    Raises
    ------
    ConfigError
        As :func:`create`.
    """
    backbone = replace(backbone, weights=RANDOM)
    meta = torch.device("meta")
    try:
        with meta:
            network, _ = create(backbone)
    except ConfigError as error:
        # Some of timm's constructors compute with tensors, of which the meta device has no values.
        if not isinstance(error.__cause__, NotImplementedError):
            raise
        network = create(backbone)[0].to(meta)
    return network.eval()


def fetch(backbone: BackboneConf) -> None:
    """Download pretrained weights that are not on this machine yet, so that their content can be told.

    What goes wrong is left to :func:`create` to tell.
    """
    if backbone.weights == PRETRAINED and weights.pretrained_file(backbone.model) is None:
        with suppress(ConfigError, WeightsError):
            create(backbone)


def _make(backbone: BackboneConf, *, pretrained: bool) -> nn.Module:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            backbone.weights_seed
        )  # not the GPUs': nothing would restore them
        # From the very file that the identity is of; timm would ask the hub for a newer one.
        file = weights.pretrained_file(backbone.model) if pretrained else None
        source: dict[str, Any] = {"pretrained_cfg_overlay": {"file": str(file)}} if file else {}
        model: nn.Module = timm.create_model(
            backbone.model, pretrained=pretrained, **source, **backbone.kwargs
        )
    return model


def _can_be_made(backbone: BackboneConf) -> bool:
    try:
        _make(backbone, pretrained=False)
    except Exception:
        return False
    return True


def _check_name(backbone: BackboneConf) -> None:
    import timm

    if timm.is_model(backbone.model):
        return
    near = difflib.get_close_matches(backbone.model.partition(".")[0], timm.list_models(), n=3)
    raise ConfigError(
        f"backbone.model={backbone.model}: timm {timm.__version__} has no such network"
        + (f"; near: {', '.join(near)}" if near else "; timm.list_models() lists them")
    )


def _check_tag(backbone: BackboneConf) -> None:
    """Pretrained weights are named by a tag: timm's choice for an untagged name changes between versions."""
    import timm

    architecture, _, tag = backbone.model.partition(".")
    known = [name for name in timm.list_models(pretrained=True) if name.partition(".")[0] == architecture]
    if backbone.model in known:
        return
    if not known:
        raise WeightsError(
            f"backbone.weights=pretrained: timm has no pretrained weights for {backbone.model}; give a file "
            "(backbone.weights=PATH) or ask for backbone.weights=random"
        )
    problem = f"timm has no weights of that tag ({tag})" if tag else "the name has no weight tag"
    raise WeightsError(
        f"backbone.model={backbone.model} with backbone.weights=pretrained: {problem}; choose from "
        f"{', '.join(known)}"
    )


def _check_hub(backbone: BackboneConf) -> None:
    """Ask the hub once for weights not downloaded yet: its client would retry for most of a minute."""
    import timm
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    source: Any = timm.get_pretrained_cfg(backbone.model)
    if source is None or not source.hf_hub_id or weights.pretrained_file(backbone.model):
        return  # there is nothing, or a plain address: its client does not retry
    repository, _, revision = source.hf_hub_id.partition("@")
    files, where = weights.hub_files(source), {"revision": revision or None}
    try:
        get_session().head(hf_hub_url(repository, files[0], **where), timeout=_HUB_SECONDS)
    except Exception as error:  # the client's, its HTTP library's (which changed) or the system's
        raise _not_had(backbone, error) from error


def _not_had(backbone: BackboneConf, error: Exception) -> WeightsError:
    return WeightsError(
        f"backbone.weights=pretrained: the weights of {backbone.model} could not be had from timm's hub "
        f"({shortened(error)}). Connect to the internet once, give a file (backbone.weights=PATH), or ask "
        "for backbone.weights=random"
    )
