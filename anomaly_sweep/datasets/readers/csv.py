"""Images that a table names: path, label, split, and where there are any mask, category and group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anomaly_sweep.datasets.readers.rows import Row, Rows, RowsReader, masks_of, read_table
from anomaly_sweep.datasets.records import GOOD, Remark
from anomaly_sweep.errors import DatasetError

ANOMALY = "anomaly"
_GOOD = frozenset({"good", "normal", "ok", "0", "false"})
_ANOMALY = frozenset({"bad", "anomalous", "anomaly", "ng", "1", "true"})


class CsvReader(RowsReader):
    """A table with a header; paths are relative to it, or absolute.

    ``label`` is good (normal, ok, 0), anomaly (bad, ng, 1), or the name of a defect type. ``split`` is train
    or test; rows of another are not read. Without ``category`` all is one, called as the folder.

    Parameters
    ----------
    file
        The table, in the root.
    """

    title = "the table"
    layout = "a table of path, label, split, mask, category, group"

    def __init__(self, file: str = "images.csv") -> None:
        self.file = file

    def place(self, root: Path, name: str) -> Path:  # noqa: ARG002
        """The table."""
        return root / self.file

    def categories(self, root: Path) -> list[str]:
        """Those of the table."""
        found = sorted({_category(row, root) for row in self._table(root)})
        if not found:
            raise DatasetError(f"{root / self.file} names no image: expected {self.layout}")
        return found

    def rows(self, root: Path, name: str) -> Rows:
        """Of the table."""
        found = Rows()
        for row in self._table(root):
            if _category(row, root) != name:
                continue
            path, split, label = root / row["path"], row["split"].lower(), row["label"]
            if not row["path"] or not label:
                message = (
                    f"{root / self.file} has a row without a {'label' if row['path'] else 'path'}: {row}"
                )
                found.problems.append((root / self.file, message))
            elif split not in ("train", "test"):
                message = f"{path} is not read: its split is {row['split']!r}, neither train nor test"
                found.remarks.append(Remark("images of other splits", path, message, serious=False))
            else:
                defect = GOOD if label.lower() in _GOOD else ANOMALY if label.lower() in _ANOMALY else label
                group = row.get("group", "")
                found.rows.append(Row(path, split == "train", defect, masks_of(row, root), group))
        return found

    def _table(self, root: Path) -> list[dict[str, str]]:
        return read_table(root / self.file, ("path", "label", "split"))


def _category(row: Mapping[str, str], root: Path) -> str:
    return row.get("category") or root.absolute().name


READER = CsvReader()
