"""Normalizing flows on feature vectors, trained many at once.

What needs torch is imported when it is first asked for: planning a sweep looks at settings only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomaly_sweep.estimators.flow.estimator import CouplingFlow, coupling_flow
from anomaly_sweep.estimators.flow.settings import DIFFERNET, FAST, PRESETS, FlowSettings, flow_settings

if TYPE_CHECKING:
    from anomaly_sweep.estimators.flow.fitted import FittedFlow, score_stack
    from anomaly_sweep.estimators.flow.stacks import plan_stacks
    from anomaly_sweep.estimators.flow.train import train_stack

_LATER = {"FittedFlow": "fitted", "score_stack": "fitted", "plan_stacks": "stacks", "train_stack": "train"}

__all__ = [
    "DIFFERNET",
    "FAST",
    "PRESETS",
    "CouplingFlow",
    "FittedFlow",
    "FlowSettings",
    "coupling_flow",
    "flow_settings",
    "plan_stacks",
    "score_stack",
    "train_stack",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
