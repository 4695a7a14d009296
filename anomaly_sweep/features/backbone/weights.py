"""Weights of a backbone: their identity, and how they get into the network."""

from __future__ import annotations

import argparse
import inspect
import logging
import pickle
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from anomaly_sweep.config import NO_WEIGHTS, PACKAGED, PRETRAINED, RANDOM, BackboneConf
from anomaly_sweep.errors import WeightsError
from anomaly_sweep.features.backbone.packaged import packaged
from anomaly_sweep.fingerprint import file_digest

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: Prefix of a network that is a part of what was trained.
_BACKBONE = "backbone."
#: Buffers that no forward pass in evaluation reads.
_UNUSED = "num_batches_tracked"
_DIGEST_SHOWN = 8
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_SETTLED_NS = 2_000_000_000
_digests: dict[tuple[str, int, int], str] = {}


def weights_label(backbone: BackboneConf) -> str:
    """How the weights are recorded.

    ``pretrained:TAG``, ``packaged:PACKAGE==VERSION``, ``file:NAME@DIGEST`` or ``random:seedN``.

    Raises
    ------
    WeightsError
        If the weights are a file that is not there, or come with a package that is not installed.
    """
    if backbone.weights == PRETRAINED:
        return f"pretrained:{backbone.model}"
    if backbone.weights == RANDOM:
        return f"random:seed{backbone.weights_seed}"
    if backbone.weights == NO_WEIGHTS:
        return NO_WEIGHTS
    path = _weight_file(backbone)
    if backbone.weights == PACKAGED:
        return f"packaged:{packaged(backbone.model).requirement}"
    return f"file:{path.name}@{_digest(path)[:_DIGEST_SHOWN]}"


def weights_identity(backbone: BackboneConf) -> dict[str, str]:
    """What a cache key says of the weights: equal exactly when the parameters are.

    Raises
    ------
    WeightsError
        If the weights are a file that is not there or cannot be read.
    """
    if backbone.weights == NO_WEIGHTS:
        return {"weights": NO_WEIGHTS}
    if backbone.weights == RANDOM:  # the initialisation belongs to the libraries' versions
        libraries = " ".join(f"{name}=={_version(name)}" for name in ("torch", "timm"))
        return {"weights": f"random:seed{backbone.weights_seed} {libraries}"}
    if backbone.weights == PRETRAINED:
        path = pretrained_file(backbone.model)
        # Nothing is kept under a name alone: without a file here no network can be made either.
        return {"weights": f"pretrained:{backbone.model}" + (f"@{_digest(path)}" if path else "")}
    return {"weights": f"file:{_digest(_weight_file(backbone))}"}


def pretrained_file(model: str) -> Path | None:
    """The file with a model's pretrained weights in the hub's cache on this machine, None if it is not there.

    It is the one that :func:`anomaly_sweep.features.backbone.create.create` loads.
    """
    from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports

    ensure_torchvision_imports()
    import timm
    import torch

    source: Any = timm.get_pretrained_cfg(model)
    if source is None:
        return None
    if not source.hf_hub_id:
        address = urlparse(source.url or "")
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(address.path).name
        return path if address.path and path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = source.hf_hub_id.partition("@")
    for name in hub_files(source):
        found = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def hub_files(source: Any) -> tuple[str, ...]:
    """Names that a model's weights may have on the hub, in the order in which timm looks for them."""
    return (source.hf_hub_filename,) if source.hf_hub_filename else _HUB_FILES


def is_random(label: str) -> bool:
    """Whether a recorded weights label marks random weights."""
    return label.startswith(RANDOM)


@cache  # every shard asks, and the answer is parsed from a long file
def _version(library: str) -> str:
    return version(library)


def _weight_file(backbone: BackboneConf) -> Path:
    if backbone.weights == PACKAGED:
        return packaged(backbone.model).locate()
    path = Path(backbone.weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"backbone.weights={backbone.weights}: no such file (for {backbone.name}). Give pretrained, "
            "packaged, random, or the path of a .safetensors or .pth file"
        )
    return path


def _digest(path: Path) -> str:
    """Content hash, remembered: every shard asks for it.

    Not that of a file so young that it may yet change within one tick of its time stamp.
    """
    try:
        stat = path.stat()
        key = (str(path.absolute()), stat.st_size, stat.st_mtime_ns)
        if key not in _digests:
            digest = file_digest(path)
            if time.time_ns() - stat.st_mtime_ns < _SETTLED_NS:
                return digest
            _digests[key] = digest
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); make it readable") from error
    return _digests[key]


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Parameters in a ``.safetensors`` or ``.pth`` file; nothing in the file is executed.

    Of a training's checkpoint the network's: those under ``state_dict``, ``model`` or, of DINO, ``teacher``,
    and of these the ones of its ``backbone``, without the prefix.

    Raises
    ------
    WeightsError
        If the file is not of these kinds, is damaged, or holds pickled objects other than tensors.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state: Any = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path}: cannot be read as safetensors ({error}); get the file again"
            ) from error
    elif path.suffix in (".pth", ".pt", ".bin"):
        try:
            # DINO keeps its command line with the parameters; a namespace runs nothing.
            torch.serialization.add_safe_globals([argparse.Namespace])
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"{path}: is damaged, or holds pickled objects other than tensors; it is not loaded, since "
                "loading could run code. Save the network's state_dict() alone, best as .safetensors"
            ) from error
        except Exception as error:  # damaged bytes make the unpickler raise anything
            raise WeightsError(f"{path}: cannot be read ({error or type(error).__name__})") from error
    else:
        raise WeightsError(f"{path}: weights must be a .safetensors or .pth file")
    for wrapper in ("state_dict", "model", "model_state_dict", "teacher"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{path}: does not hold a state dict (name -> tensor)")
    parameters = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    prefixed = {name: tensor for name, tensor in parameters.items() if name.startswith(_BACKBONE)}
    return {name.removeprefix(_BACKBONE): tensor for name, tensor in prefixed.items()} or parameters


def load_file_into(model: torch.nn.Module, backbone: BackboneConf) -> frozenset[str]:
    """Copy a file's parameters into the model; returns the names the file lacks.

    Where the names or shapes are not timm's, timm's own conversion for the family is tried (original weights
    of DINOv2, CLIP, ConvNeXt, Swin and the like; positions interpolated).

    Raises
    ------
    WeightsError
        If the file names a parameter the model does not have, or has one of another shape.
    """
    path = _weight_file(backbone)
    state = read_state(path)
    if backbone.weights == PACKAGED:
        to_timm = packaged(backbone.model).to_timm
        state = {to_timm(name): tensor for name, tensor in state.items()}
    expected = model.state_dict()
    misfits = _misfits(state, expected)
    if misfits:
        converted = _by_timm(state, model)
        if converted is not None and not _misfits(converted, expected):
            log.info("%s: converted to timm's %s", path.name, backbone.model)
            state, misfits = converted, []
    if misfits:
        lacking = sorted(name for name in set(expected) - set(state) if not name.endswith(_UNUSED))
        lacks = f"; the network has, and the file lacks, {_some(lacking)}" if lacking else ""
        raise WeightsError(f"{path} does not fit {backbone.model}: {_some(misfits)}{lacks}")
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # quantised or sparse tensors
        raise WeightsError(f"{path} does not fit {backbone.model}: {error}") from error
    return frozenset(name for name in set(expected) - set(state) if not name.endswith(_UNUSED))


def _misfits(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
    unknown = [f"{name} is not in the network" for name in sorted(set(state) - set(expected))]
    return unknown + [
        f"{name} is {tuple(tensor.shape)}, the network's {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]


def _by_timm(state: Mapping[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """A state dict as timm's conversion for the network's family leaves it; None without such."""
    for kind in type(model).__mro__:
        module = sys.modules[kind.__module__]
        if not module.__name__.startswith("timm."):
            return None
        for convert in (getattr(module, name, None) for name in ("checkpoint_filter_fn", "_filter_fn")):
            if convert is not None:
                arguments = (dict(state), model)[: len(inspect.signature(convert).parameters)]
                try:
                    converted: dict[str, torch.Tensor] = convert(*arguments)
                except Exception as error:  # whatever it meets in a file that is not of the family
                    log.debug("%s: %s", kind.__name__, error)
                    return None
                return converted
    return None


def missing_message(backbone: BackboneConf, level: str, missing: Iterable[str]) -> str:
    """Why a level cannot be had from a partial file."""
    return (
        f"{backbone.weights}: {level} of {backbone.name} needs parameters the file lacks: "
        f"{_some(sorted(missing))}. Choose a shallower level or complete weights"
    )


def _some(items: list[str], limit: int = 3) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return "; ".join(items[:limit]) + more
