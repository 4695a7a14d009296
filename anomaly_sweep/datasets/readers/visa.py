"""VisA, by its one-class split."""

from __future__ import annotations

from pathlib import Path

from anomaly_sweep.datasets.readers.base import Counts
from anomaly_sweep.datasets.readers.rows import (
    Row,
    Rows,
    RowsReader,
    lacking_categories,
    masks_of,
    read_table,
)
from anomaly_sweep.datasets.records import GOOD, Remark
from anomaly_sweep.errors import DatasetError

SPLIT = "split_csv/1cls.csv"
#: Where a category's defect types are named.
ANNOTATIONS = "image_anno.csv"
ANOMALY = "anomaly"
#: Rows of the split that the authors publish (github.com/amazon-science/spot-diff): of all good images nine
#: tenths for training; 10,821 images.
OFFICIAL_COUNTS = {
    "candle": Counts(900, 100, 100),
    "capsules": Counts(542, 60, 100),
    "cashew": Counts(450, 50, 100),
    "chewinggum": Counts(453, 50, 100),
    "fryum": Counts(450, 50, 100),
    "macaroni1": Counts(900, 100, 100),
    "macaroni2": Counts(900, 100, 100),
    "pcb1": Counts(904, 100, 100),
    "pcb2": Counts(901, 100, 100),
    "pcb3": Counts(905, 101, 100),
    "pcb4": Counts(904, 101, 100),
    "pipe_fryum": Counts(450, 50, 100),
}


class VisAReader(RowsReader):
    """``candle/Data/Images/{Normal,Anomaly}/000.JPG`` and ``candle/Data/Masks/Anomaly/000.png``.

    The split is ``split_csv/1cls.csv``: object, split, label, image, mask. Defect types are those of each
    category's ``image_anno.csv``; ``anomaly`` where there is none.
    """

    title = "VisA"
    layout = f"{SPLIT} and <category>/Data/Images"
    counts = OFFICIAL_COUNTS

    def categories(self, root: Path) -> list[str]:
        """Objects of the split whose folder is there."""
        names = {row["object"] for row in self._split(root)}
        found = sorted(name for name in names if (root / name).is_dir())
        if not found:
            raise DatasetError(
                f"no category under {root}: {root / SPLIT} names {', '.join(sorted(names)) or 'none'}, and "
                "no folder is called so"
            )
        return found

    def remarks(self, root: Path) -> list[Remark]:
        """Objects of the split whose folder is not there."""
        names = {row["object"] for row in self._split(root)}
        return lacking_categories(root, names, self.categories(root), root / SPLIT)

    def rows(self, root: Path, name: str) -> Rows:
        """Of the split."""
        kinds: dict[str, str] = {}
        if (root / name / ANNOTATIONS).is_file():
            table = read_table(root / name / ANNOTATIONS, ("image", "label"))
            kinds = {row["image"]: row["label"] for row in table}
        found = Rows()
        for row in self._split(root):
            if row["object"] != name:
                continue
            good = row["label"] == "normal"
            defect = GOOD if good else kinds.get(row["image"]) or ANOMALY
            if row["split"] in ("train", "test"):
                found.rows.append(
                    Row(root / row["image"], row["split"] == "train", defect, masks_of(row, root))
                )
            else:
                path = root / row["image"]
                message = (
                    f"{path} is of the split {row['split']!r} in {root / SPLIT}: train and test are known"
                )
                found.problems.append((path, message))
        return found

    def _split(self, root: Path) -> list[dict[str, str]]:
        if not root.is_dir():
            raise DatasetError(f"data set root {root} is not a folder: give the one with {self.layout}")
        return read_table(root / SPLIT, ("object", "split", "label", "image", "mask"))


READER = VisAReader()
