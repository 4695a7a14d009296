"""How choices are called in a table, and what is said where a table has no trials."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from multirun_analysis.rendering.table import Absent
from multirun_analysis.summary.study import Study, layer_order

POOLINGS = ("min", "max", "avg", "min_max", "min_avg", "max_avg", "min_max_avg")
GRID = "ono_mori_grid"
ORDER = ("layer", "pooling", "augmentation", "pca_mode", "estimator")
#: The ridge paper's methods in the order of its Table 1, and as it writes them.
LOCALIZERS = {"patchcore": "PatchCore", "padim": "PaDiM", "ridge": "Ridge"}


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
    return f"{LOCALIZERS.get(name, name)}{' [' if bracket else ''}{settings}"


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
    }
    return sorted(values, key=keys.get(dimension))


def _reduction_order(mode: str) -> tuple[int, float, str]:
    match = re.fullmatch(r"(pca|npca)(\d+(?:\.\d+)?)(.*)", mode)
    if match is None:
        return (0 if mode == "none" else 3), 0.0, mode
    return (1 if match[1] == "pca" else 2), float(match[2]), match[3]


def fixed(study: Study, **choices: str | None) -> str:
    """The choices that are the same in every cell."""
    there = {"backbone": study.backbone, **{name: choices.get(name) for name in ORDER}}
    return f"Fixed: {', '.join(f'{name}={value}' for name, value in there.items() if value)}."


def absent(
    name: str, title: str, varied: str, there: list[str], choices: dict[str, str], experiment: str
) -> Absent:
    """Why a table is not made, and the experiment that makes its trials."""
    at = ", ".join(f"{key}={value}" for key, value in choices.items())
    have = f"only {varied} {there[0]}" if there else "no trials"
    return Absent(
        name,
        title,
        f"{have} at {at}. Run anomaly-sweep -m experiment={experiment}; "
        "if it was run, name its sweep with --sweep NAME or use --sweep all",
    )
