"""Fold batch norms into the convolutions before them: the same function with fewer operations."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


class FoldedNorm(nn.Module):
    """What is left of a folded batch norm: its activation, if it had one."""

    def __init__(self, after: nn.Module, folded_names: list[str]) -> None:
        super().__init__()
        self.after = after
        #: Names the batch norm's parameters had: a partial weight file is still checked for them.
        self.folded_names = folded_names

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x)  # type: ignore[no-any-return]


def fold_batch_norm(model: nn.Module, probe: Tensor, keep: Collection[nn.Module] = ()) -> int:
    """Fold each batch norm whose input is the untouched output of one convolution, in place.

    Which pairs those are is read off one forward pass of ``probe`` (1, 3, h, w), so no module naming is
    assumed. Returns how many were folded. Equal to the original to float32 rounding.

    Parameters
    ----------
    keep : collection of nn.Module
        Modules whose own output is read: a convolution among them is left as it is.
    """
    producers: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # a freed tensor's id could come back
    pairs: dict[nn.Module, nn.Conv2d] = {}
    uses: dict[nn.Module, int] = {}

    def after_conv(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        uses[module] = uses.get(module, 0) + 1
        producers[id(output)] = module
        alive.append(output)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        uses[module] = uses.get(module, 0) + 1
        conv = producers.get(id(inputs[0]))
        if conv is not None:
            pairs[module] = conv

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        with torch.inference_mode():
            getattr(model, "forward_features", model)(probe)
    finally:
        for hook in hooks:
            hook.remove()

    names = {module: name for name, module in model.named_modules()}
    folded = 0
    for norm, conv in pairs.items():
        assert isinstance(norm, nn.BatchNorm2d)
        shared = uses[norm] > 1 or uses[conv] > 1 or list(pairs.values()).count(conv) > 1
        if shared or conv in keep or norm.running_mean is None or norm.running_var is None:
            continue
        conv.weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.bias = bias
        conv.requires_grad_(False)
        # timm's BatchNormAct2d carries its activation.
        after = nn.Sequential(*(child for child in norm.children() if not isinstance(child, nn.Identity)))
        own = [f"{names[norm]}.{leaf}" for leaf in (*norm._parameters, *norm._buffers)]
        parent, _, leaf = names[norm].rpartition(".")
        setattr(model.get_submodule(parent), leaf, FoldedNorm(after, own).eval())
        folded += 1
    return folded
