"""MPDD: painted metal parts, in MVTec AD's layout."""

from __future__ import annotations

from anomaly_sweep.datasets.readers.base import Counts
from anomaly_sweep.datasets.readers.tree import TreeReader

#: Jezek et al., Deep learning-based defect detection of metal parts, ICUMT 2021: 888 + 458 images.
OFFICIAL_COUNTS = {
    "bracket_black": Counts(289, 32, 47),
    "bracket_brown": Counts(185, 26, 51),
    "bracket_white": Counts(110, 30, 30),
    "connector": Counts(128, 30, 14),
    "metal_plate": Counts(54, 26, 71),
    "tubes": Counts(122, 32, 69),
}


class MPDDReader(TreeReader):
    """``tubes/train/good/000.png``, ``tubes/test/anomalous/000.png``, ``tubes/ground_truth/...``."""

    title = "MPDD"
    counts = OFFICIAL_COUNTS


READER = MPDDReader()
