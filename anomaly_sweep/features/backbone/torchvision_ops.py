"""Let timm import beside any build of torch.

torchvision's wheels carry compiled operators linked against one build of torch. Beside another build
(a CPU torch, say) they do not load, and torchvision then fails at import because it registers fake
kernels for operators that do not exist. Declaring a schema for each of those is all it needs: neither
timm nor this project calls them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

#: What torchvision says of an operator that is not there.
_ABSENT = re.compile(r"operator torchvision::(\w+) does not exist")
#: Of its non-maximum suppressions; a fake kernel is registered by its name alone.
_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def ensure_torchvision_imports() -> Any:
    """Declare the operators that torchvision's fake kernels need, if it does not import without.

    Call it before ``import timm``. Returns the ``torch.library.Library`` that owns the declarations (kept
    alive by the cache: dropping it would undeclare them), or None where nothing had to be declared.
    """
    import torch

    owner: Any = None
    declared: set[str] = set()
    while True:
        try:
            import torchvision  # noqa: F401
        except ImportError:
            return owner  # timm will say what is missing
        except RuntimeError as error:
            absent = _ABSENT.search(str(error))
            if absent is None or absent[1] in declared:
                raise
            owner = owner or torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            owner.define(absent[1] + _ARGUMENTS)
            declared.add(absent[1])
        else:
            return owner
