"""The values the papers printed, as they printed them."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from multirun_analysis.summary.coverage import RANDOM
from multirun_analysis.summary.study import Study

PAPER_BACKBONE = "efficientnet_b5"
PAPER_CATEGORIES = 15

#: What the ridge paper's Table 1 is of.
RIDGE_BACKBONE = "wide_resnet101_2"
RIDGE_INPUT_SIZE = 256
RIDGE_TEST_IMAGES = 1725


@cache
def ono_mori(table: str) -> dict[tuple[str, str], float]:
    """Values of a table (``table2``, ``table3``, ``table4``) by (row, column), named as in our labels.

    Table 2 has the reduction as its row (``npca50``, ``none``) and an empty column, table 3 the category
    (or ``mean``) and the layer (``level7``, ``all``), table 4 the estimator (``mvg``, ``knn1``) and the
    pooling (``min_max``).
    """
    rows = [row for row in _rows("published_ono_mori.csv") if row["table"] == table]
    return {_labels(table, row["row"], row["column"]): float(row["value"]) for row in rows}


@cache
def ridge_table1() -> MappingProxyType[tuple[str, str], float]:
    """Values of the ridge paper's Table 1 by (localizer, metric).

    Metrics: ``pixel_auroc`` and ``aupro`` in per cent, ``score_seconds`` of all test images and its
    ``score_seconds_spread``.
    """
    rows = [row for row in _rows("published_ridge.csv") if row["table"] == "table1"]
    return MappingProxyType({(row["row"], row["metric"]): float(row["value"]) for row in rows})


@cache
def localizers_per_class() -> MappingProxyType[tuple[str, str, str], float]:
    """Per cent by (reference, metric, category): what the papers of PaDiM and PatchCore print per class.

    Metrics: ``pixel_auroc``, ``aupro``, ``image_auroc``; not every reference has all.
    """
    rows = [row for row in _rows("published_ridge.csv") if row["table"] == "per_class"]
    return MappingProxyType({(r["column"], r["metric"], r["row"]): float(r["value"]) for r in rows})


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("multirun_analysis.papers") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _labels(table: str, row: str, column: str) -> tuple[str, str]:
    if table == "table2":
        return f"{row}{column}", ""
    if table == "table3":
        return row, column if column == "all" else f"level{column}"
    return row.replace("_", ""), column.replace("+", "_")


def is_mvtec_ad(dataset: str | None, categories: set[str]) -> bool:
    """Whether a data set, by its name and its categories, is the one of the paper."""
    in_paper = {row for row, _ in ono_mori("table3")} - {"mean"}
    return dataset is not None and "mvtec" in dataset.lower() and categories <= in_paper


def is_paper_dataset(study: Study) -> bool:
    """Whether the categories are those of the papers, MVTec AD's, with all of their training images."""
    return not study.subset and is_mvtec_ad(study.dataset, set(study.categories))


def differences(study: Study, backbone: str) -> list[str]:
    """In what the trials are not those of a paper on MVTec AD with that backbone."""
    differs = []
    if not is_paper_dataset(study):
        trained = f", trained on {study.subset}" if study.subset else ""
        differs.append(f"the data set is {study.dataset or 'not recorded'}{trained}")
    elif len(study.categories) < PAPER_CATEGORIES:
        differs.append(f"{len(study.categories)} of its {PAPER_CATEGORIES} categories")
    if study.backbone != backbone:
        differs.append(f"the backbone is {study.backbone}")
    if study.weights is None or study.weights.startswith(RANDOM):
        differs.append(f"the weights are {study.weights or 'not recorded'}")
    return differs
