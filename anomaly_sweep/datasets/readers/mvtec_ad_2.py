"""MVTec AD 2, its public parts: the private test parts have no labels and are not read."""

from __future__ import annotations

from anomaly_sweep.datasets.readers.tree import TreeReader


class MVTecAD2Reader(TreeReader):
    """``can/train/good``, ``can/test_public/good``, ``.../bad``, masks in ``.../ground_truth/bad``."""

    title = "MVTec AD 2"
    test = "test_public"
    masks = "test_public/ground_truth"
    unused = ("validation", "test_private", "test_private_mixed")


READER = MVTecAD2Reader()
