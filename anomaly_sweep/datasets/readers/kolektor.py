"""KolektorSDD2: surfaces, split by its authors. The first KolektorSDD has no such split."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from anomaly_sweep.datasets.listing import list_folder
from anomaly_sweep.datasets.masks import read_mask
from anomaly_sweep.datasets.readers.base import Counts, dangling_link
from anomaly_sweep.datasets.readers.rows import Row, Rows, RowsReader
from anomaly_sweep.datasets.readers.tree import unread_inside
from anomaly_sweep.datasets.records import GOOD
from anomaly_sweep.errors import DatasetError

NAME = "kolektorsdd2"
DEFECT = "defect"
_MASK = "_GT"
#: Bozic et al., Mixed supervision for surface-defect detection, Computers in Industry 2021: 2331 images of
#: training, 246 of them defective and not read, and 1004 of the test.
OFFICIAL_COUNTS = {NAME: Counts(2085, 894, 110)}


class KolektorReader(RowsReader):
    """``train/10000.png`` with its mask ``train/10000_GT.png``; defective where that marks something.

    One category. What is defective among the training images is left out.
    """

    title = "KolektorSDD2"
    layout = "train/NNNNN.png, test/NNNNN.png and NNNNN_GT.png of each"
    counts = OFFICIAL_COUNTS

    def place(self, root: Path, name: str) -> Path:  # noqa: ARG002
        """All of it."""
        return root

    def categories(self, root: Path) -> list[str]:
        """One."""
        if any((root / part).is_dir() for part in ("train", "test")):
            return [NAME]
        if any(root.glob("kos*/Part*")):
            raise DatasetError(
                f"{root} is the first KolektorSDD, which has no split into training and test images: make "
                "one in a table (dataset=csv), or take KolektorSDD2"
            )
        raise DatasetError(f"no images under {root}: expected {self.layout}")

    def rows(self, root: Path, name: str) -> Rows:  # noqa: ARG002
        """Of both folders, by their masks."""
        found = Rows()
        for part in ("train", "test"):
            listed = list_folder(root / part)
            found.remarks += unread_inside(listed)
            found.problems += [(link, dangling_link(link)) for link in listed.dangling]
            masks = {p.stem.removesuffix(_MASK): p for p in listed.images if p.stem.endswith(_MASK)}
            if not listed.images:
                found.problems.append((root / part, f"{root / part} holds no image: expected {self.layout}"))
            for path in listed.images:
                if path.stem.endswith(_MASK):
                    continue
                mask = masks.get(path.stem)
                if mask is None:
                    message = f"{path} has no mask {path.stem}{_MASK}.png, which tells whether it is good"
                    found.problems.append((path, message))
                    continue
                try:
                    defective = _marks(mask, mask.stat().st_mtime_ns)
                except DatasetError as error:
                    found.problems.append((mask, str(error)))
                    continue
                if part == "test" or not defective:
                    defect = DEFECT if defective else GOOD
                    found.rows.append(Row(path, part == "train", defect, (mask,)))
        return found


@lru_cache(maxsize=1 << 14)  # a launch lists its data sets several times
def _marks(mask: Path, changed: int) -> bool:  # noqa: ARG001
    return bool(read_mask(mask).marked.any())


READER = KolektorReader()
