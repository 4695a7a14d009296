"""MVTec 3D-AD, its photographs: the scans (``xyz``) are not read."""

from __future__ import annotations

from pathlib import Path

from anomaly_sweep.datasets.readers.base import Counts
from anomaly_sweep.datasets.readers.tree import TreeReader

#: Bergmann et al., The MVTec 3D-AD Dataset, VISAPP 2022, table 1: 2656 + 1197 scans (+ 294 validation).
OFFICIAL_COUNTS = {
    "bagel": Counts(244, 22, 88),
    "cable_gland": Counts(223, 21, 87),
    "carrot": Counts(286, 27, 132),
    "cookie": Counts(210, 28, 103),
    "dowel": Counts(288, 26, 104),
    "foam": Counts(236, 20, 80),
    "peach": Counts(361, 26, 106),
    "potato": Counts(300, 22, 92),
    "rope": Counts(298, 32, 69),
    "tire": Counts(210, 25, 87),
}


class MVTec3DReader(TreeReader):
    """``bagel/test/hole/rgb/000.png`` and its mask ``bagel/test/hole/gt/000.png``; train as test."""

    title = "MVTec 3D-AD"
    masks = ""
    within = "rgb"
    unused = ("validation", "calibration")
    counts = OFFICIAL_COUNTS

    def mask_folder(self, base: Path, defect: str) -> Path:
        """Beside the images'."""
        return base / self.test / defect / "gt"


READER = MVTec3DReader()
