"""BTAD (beanTech Anomaly Detection): three products, good images in ``ok``, defective ones in ``ko``."""

from __future__ import annotations

from anomaly_sweep.datasets.readers.base import Counts
from anomaly_sweep.datasets.readers.tree import TreeReader

#: Mishra et al., VT-ADL, ISIE 2021: 2540 images.
OFFICIAL_COUNTS = {"01": Counts(400, 21, 49), "02": Counts(399, 30, 200), "03": Counts(1000, 400, 41)}


class BTADReader(TreeReader):
    """``01/train/ok/0000.bmp``, ``01/test/ko/0000.bmp`` and its mask ``01/ground_truth/ko/0000.png``.

    Images are BMP or PNG, masks PNG or BMP, by the product.
    """

    title = "BTAD"
    good = "ok"
    counts = OFFICIAL_COUNTS


READER = BTADReader()
