"""The values Ono & Mori printed, as they printed them."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

PAPER_BACKBONE = "efficientnet_b5"
PAPER_CATEGORIES = 15


@cache
def ono_mori(table: str) -> dict[tuple[str, str], float]:
    """Values of a table (``table2``, ``table3``, ``table4``) by (row, column), named as in our labels.

    Table 2 has the reduction as its row (``npca50``, ``none``) and an empty column, table 3 the category
    (or ``mean``) and the layer (``level7``, ``all``), table 4 the estimator (``mvg``, ``knn1``) and the
    pooling (``min_max``).
    """
    text = (files("multirun_analysis") / "published_ono_mori.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["table"] == table]
    return {_labels(table, row["row"], row["column"]): float(row["value"]) for row in rows}


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
