"""Let timm import beside a CPU build of torch.

torchvision's wheels carry compiled operators linked against one build of torch. Beside another build
(a CPU torch, say) they do not load, and torchvision then fails at import because it registers fake
kernels for two operators that do not exist. Declaring the schemas of those two is all it needs: neither
timm nor this project calls them.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def ensure_torchvision_imports() -> Any:
    """Declare the operator schemas that torchvision's fake kernels need, if its library will not load.

    Call it before ``import timm``. Returns the ``torch.library.Library`` that owns the declarations (kept
    alive by the cache: dropping it would undeclare them), or None where nothing had to be declared.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None  # timm will say what is missing
    for library in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            break
        return None
    owner = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            owner.define(schema)
    return owner
