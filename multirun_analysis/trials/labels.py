"""How choices are called, and in which order they are listed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

POOLINGS = ("min", "max", "avg", "min_max", "min_avg", "max_avg", "min_max_avg")
#: The ridge paper's methods in the order of its Table 1, and as it writes them.
LOCALIZERS = {"patchcore": "PatchCore", "padim": "PaDiM", "ridge": "Ridge"}
#: What is read otherwise, or is not in the paper.
BESIDE = {
    "ridge_shared": "Ridge, read literally",
    "ridge_1x1": "Ridge, no neighbourhood",
    "ridge_plus": "Ridge plus (ours)",
}


def estimator_name(estimator: str) -> str:
    """``knn1`` as the paper writes it."""
    match = re.fullmatch(r"knn(\d+)", estimator)
    if match:
        return f"k-NN (n={match[1]})"
    return {"mvg": "MVG", "flow": "Normalizing Flow"}.get(estimator, estimator)


def estimator_order(estimator: str) -> tuple[int, int, str]:
    """Sort key: the paper's order, then any other by name."""
    match = re.fullmatch(r"knn(\d+)", estimator)
    if match:
        return 1, int(match[1]), ""
    return {"mvg": 0, "flow": 2}.get(estimator, 3), 0, estimator


def localizer_name(localizer: str) -> str:
    """``patchcore[coreset=0.1]`` as the paper writes it, with its settings: ``PatchCore [coreset=0.1]``."""
    name, bracket, settings = localizer.partition("[")
    return f"{(LOCALIZERS | BESIDE).get(name, name)}{' [' if bracket else ''}{settings}"


def localizer_order(localizer: str) -> tuple[bool, int, str]:
    """Sort key: the paper's three, then those with other settings, each with its like."""
    name, bracket, _ = localizer.partition("[")
    place = list(LOCALIZERS).index(name) if name in LOCALIZERS else len(LOCALIZERS)
    return bool(bracket) or name not in LOCALIZERS, place, localizer


def ordered(dimension: str, values: Iterable[Any]) -> list[Any]:
    """The choices of a dimension in the order a reader expects."""
    keys: dict[str, Callable[[Any], Any]] = {
        "layer": layer_order,
        "estimator": estimator_order,
        "localizer": localizer_order,
        "pca_mode": _reduction_order,
        "pooling": lambda name: (name.count("_"), POOLINGS.index(name) if name in POOLINGS else 99, name),
        "augmentation": lambda name: (name != "none", name),
        "train_images": lambda number: (
            not str(number).isdigit(),
            int(number) if str(number).isdigit() else 0,
        ),
    }
    return sorted(values, key=keys.get(dimension))


def _reduction_order(mode: str) -> tuple[int, float, str]:
    match = re.fullmatch(r"(pca|npca)(\d+(?:\.\d+)?)(.*)", mode)
    if match is None:
        return (0 if mode == "none" else 3), 0.0, mode
    return (1 if match[1] == "pca" else 2), float(match[2]), match[3]


def layer_order(layer: str) -> tuple[int, int, str]:
    """Sort key: levels by number, then ``all``, then any other name."""
    match = re.fullmatch(r"level(\d+)", layer)
    return (0, int(match[1]), "") if match else (1 if layer == "all" else 2, 0, layer)
