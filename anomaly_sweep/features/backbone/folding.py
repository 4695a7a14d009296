"""Fold batch norms into the convolutions before them: the same function with fewer operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class FoldedNorm(nn.Module):
    """What is left of a folded batch norm: its activation, if it had one."""

    def __init__(self, after: nn.Module, folded_names: list[str]) -> None:
        super().__init__()
        self.after = after
        #: Names the batch norm's parameters had: a partial weight file is still checked for them.
        self.folded_names = folded_names

    def forward(self, x: Tensor) -> Tensor:
        """Apply what follows the batch norm."""
        return self.after(x)  # type: ignore[no-any-return]


def fold_batch_norm(model: nn.Module, probe: Tensor, keep: Collection[nn.Module] = ()) -> int:
    """Fold each batch norm that is the only reader of one convolution's output, in place.

    Which pairs those are is read off one forward pass of ``probe`` (1, 3, h, w), so no module naming is
    assumed. Returns how many were folded. Equal to the original to float32 rounding.

    Parameters
    ----------
    keep : collection of nn.Module
        Modules whose own output is read: a convolution whose output it is stays as it is.
    """
    trace = _trace(model, probe, keep)
    names = {module: name for name, module in model.named_modules()}
    kept = set(keep)
    folded = 0
    for norm, output in trace.norm_inputs.items():
        conv = trace.producers.get(output)
        if conv is None or trace.calls[norm] > 1 or trace.calls[conv] > 1:
            continue
        # Read elsewhere too, or by a level; or the level is a part of the norm, which would go.
        if trace.uses[output] > 1 or output in trace.read or kept & set(norm.children()):
            continue
        if norm.running_mean is None or norm.running_var is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.requires_grad_(False)
        # timm's BatchNormAct2d carries its activation.
        after = nn.Sequential(*(child for child in norm.children() if not isinstance(child, nn.Identity)))
        statistics = [f"{names[norm]}.{leaf}" for leaf in (*norm._parameters, *norm._buffers)]
        parent, _, leaf = names[norm].rpartition(".")
        setattr(model.get_submodule(parent), leaf, FoldedNorm(after, statistics).eval())
        folded += 1
    return folded


@dataclass
class _Trace:
    """One forward pass; tensors by their id, and kept alive so that no id comes twice."""

    producers: dict[int, nn.Conv2d] = field(default_factory=dict)
    norm_inputs: dict[nn.BatchNorm2d, int] = field(default_factory=dict)
    calls: Counter[nn.Module] = field(default_factory=Counter)
    uses: Counter[int] = field(default_factory=Counter)
    read: set[int] = field(default_factory=set)
    alive: list[Tensor] = field(default_factory=list)


class _CountUses(TorchFunctionMode):
    """Counts the operations that take each convolution's output and give a tensor."""

    def __init__(self, trace: _Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(
            isinstance(leaf, Tensor) for leaf in tree_leaves(result)
        ):  # not a shape, a number of dimensions
            taken = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            self.trace.uses.update(taken & self.trace.producers.keys())
        return result


def _trace(model: nn.Module, probe: Tensor, keep: Collection[nn.Module]) -> _Trace:
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.norm_act import BatchNormAct2d

    # Exactly these: a subclass may compute something else (weight standardisation, say).
    convs, norms = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
    trace = _Trace()

    def after_conv(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        trace.calls[module] += 1
        trace.producers[id(output)] = module
        trace.alive.append(output)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        trace.calls[module] += 1
        trace.norm_inputs[module] = id(inputs[0])
        trace.alive.append(inputs[0])

    def after_kept(_module: nn.Module, _inputs: Any, output: Any) -> None:
        trace.read.add(id(output))
        trace.alive.append(output)

    hooks = [module.register_forward_hook(after_conv) for module in model.modules() if type(module) in convs]
    hooks += [
        module.register_forward_pre_hook(before_norm) for module in model.modules() if type(module) in norms
    ]
    hooks += [module.register_forward_hook(after_kept) for module in keep]
    try:
        with torch.inference_mode(), _CountUses(trace):
            getattr(model, "forward_features", model)(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return trace
