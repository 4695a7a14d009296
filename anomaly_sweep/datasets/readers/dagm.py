"""DAGM 2007: ten drawn textures; an ellipse around each defect is its mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anomaly_sweep.datasets.listing import list_folder
from anomaly_sweep.datasets.readers.base import Counts, dangling_link
from anomaly_sweep.datasets.readers.rows import Row, Rows, RowsReader
from anomaly_sweep.datasets.readers.tree import unread_inside
from anomaly_sweep.datasets.records import GOOD, Remark
from anomaly_sweep.errors import DatasetError

DEFECT = "defect"
_PARTS = ("Train", "Test")
_LABEL = "_label"
_LIST = "Labels.txt"  # which image has which label: their names say so
#: Defective images of Class1 to Class6 in Train, of 150 in both; 150 in each of Class7 to Class10. Half of
#: the 1150 images (2300 from Class7 on) are for training; 16,100 in all, 1046 + 1054 of them defective.
_DEFECTIVE = (79, 66, 66, 82, 70, 83)
OFFICIAL_COUNTS = {
    f"Class{number}": Counts(575 - defective, 575 - (150 - defective), 150 - defective)
    for number, defective in enumerate(_DEFECTIVE, 1)
} | {f"Class{number}": Counts(1000, 1000, 150) for number in range(7, 11)}


class DAGMReader(RowsReader):
    """``Class1/Test/0001.PNG``, and ``Class1/Test/Label/0001_label.PNG`` where it has a defect.

    What is defective among the training images is left out.
    """

    title = "DAGM 2007"
    layout = "<category>/Train/NNNN.PNG, <category>/Test/NNNN.PNG and NNNN_label.PNG in their Label"
    counts = OFFICIAL_COUNTS

    def categories(self, root: Path) -> list[str]:
        """Folders with a training or test part."""
        found = [folder.name for folder in list_folder(root).folders if _is_category(folder)]
        if not found:
            raise DatasetError(f"no category under {root}: expected {self.layout}")
        return found

    def remarks(self, root: Path) -> list[Remark]:
        """Other folders."""
        return [
            Remark(
                "folders that are no category",
                folder,
                f"{folder} is not read: it holds neither Train nor Test",
            )
            for folder in list_folder(root).folders
            if not _is_category(folder)
        ]

    def rows(self, root: Path, name: str) -> Rows:
        """Of both folders, by their labels."""
        found = Rows()
        for part in _PARTS:
            folder = root / name / part
            listed, labels = list_folder(folder), list_folder(folder / "Label")
            folders = [path for path in listed.folders if path.name != "Label"]
            others = [path for path in labels.others if path.name != _LIST]
            found.remarks += unread_inside(replace(listed, folders=folders))
            found.remarks += unread_inside(replace(labels, others=others))
            found.problems += [(link, dangling_link(link)) for link in (*listed.dangling, *labels.dangling)]
            if not listed.images:
                found.problems.append((folder, f"{folder} holds no image: expected {self.layout}"))
            masks = {path.stem.removesuffix(_LABEL): path for path in labels.images}
            for path in listed.images:
                mask = masks.pop(path.stem, None)
                if part == "Test" or mask is None:
                    defect = GOOD if mask is None else DEFECT
                    found.rows.append(Row(path, part == "Train", defect, (mask,) if mask else ()))
            for stem, mask in masks.items():
                message = f"{mask} is the label of no image: expected {folder / stem}.*"
                found.problems.append((mask, message))
        return found


def _is_category(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in _PARTS)


READER = DAGMReader()
