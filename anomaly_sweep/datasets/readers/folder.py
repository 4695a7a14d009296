"""Own images in MVTec AD's layout, with or without masks."""

from __future__ import annotations

from anomaly_sweep.datasets.readers.tree import TreeReader


class FolderReader(TreeReader):
    """Folders as MVTec AD has them."""

    title = "MVTec AD's layout"


READER = FolderReader()
