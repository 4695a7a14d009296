"""Normalizing flows on feature vectors, trained many at once."""

from anomaly_sweep.estimators.flow.estimator import CouplingFlow, coupling_flow
from anomaly_sweep.estimators.flow.fitted import FittedFlow, score_stack
from anomaly_sweep.estimators.flow.settings import DIFFERNET, FAST, PRESETS, FlowSettings, flow_settings
from anomaly_sweep.estimators.flow.stacks import plan_stacks
from anomaly_sweep.estimators.flow.train import train_stack

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
