"""MVTec AD: its layout, official image counts, and which categories are textures."""

from __future__ import annotations

from anomaly_sweep.datasets.readers.base import Counts
from anomaly_sweep.datasets.readers.tree import TreeReader

#: Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, table 1.
OFFICIAL_COUNTS: dict[str, Counts] = {
    "bottle": Counts(209, 20, 63),
    "cable": Counts(224, 58, 92),
    "capsule": Counts(219, 23, 109),
    "carpet": Counts(280, 28, 89),
    "grid": Counts(264, 21, 57),
    "hazelnut": Counts(391, 40, 70),
    "leather": Counts(245, 32, 92),
    "metal_nut": Counts(220, 22, 93),
    "pill": Counts(267, 26, 141),
    "screw": Counts(320, 41, 119),
    "tile": Counts(230, 33, 84),
    "toothbrush": Counts(60, 12, 30),
    "transistor": Counts(213, 60, 40),
    "wood": Counts(247, 19, 60),
    "zipper": Counts(240, 32, 119),
}

TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood"})


class MVTecADReader(TreeReader):
    """The layout that the others are told by."""

    title = "MVTec AD"
    counts = OFFICIAL_COUNTS


READER = MVTecADReader()
