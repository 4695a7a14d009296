"""Let timm import beside a CPU build of torch.

torchvision's wheels carry compiled operators linked against one build of torch. Beside another build
(a CPU torch, say) they do not load, and torchvision then fails at import because it registers fake
kernels for two operators that do not exist. Declaring the schemas of those two is all it needs: neither
timm nor this project calls them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def ensure_torchvision_imports() -> Any:
    """Declare the operator schemas that torchvision's fake kernels need, if it does not import without.

    Call it before ``import timm``. Returns the ``torch.library.Library`` that owns the declarations (kept
    alive by the cache: dropping it would undeclare them), or None where nothing had to be declared.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None  # timm will say what is missing
    except RuntimeError as error:
        if "nms" not in str(error):
            raise
        owner = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            owner.define(schema)  # type: ignore[no-untyped-call]
        return owner
    return None
