"""Real-IAD: five views of each object, by the JSON files that come with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anomaly_sweep.datasets.readers.base import Problems
from anomaly_sweep.datasets.readers.rows import Row, Rows, RowsReader, lacking_categories
from anomaly_sweep.datasets.records import GOOD, Remark
from anomaly_sweep.errors import DatasetError

_JSONS = "realiad_jsons"


class RealIADReader(RowsReader):
    """``realiad_1024/audiojack/NG/QS/S0001/....jpg``, as ``realiad_jsons/.../audiojack.json`` has them.

    Defect types are the two letters of the JSON file, groups the object that the views show.

    Parameters
    ----------
    resolution
        Of the images: the folder ``realiad_<resolution>`` (256, 512, 1024, raw).
    split
        The folder of the JSON files: ``realiad_jsons`` (all views), ``realiad_jsons_sv`` (one view).
    """

    title = "Real-IAD"
    layout = "realiad_<resolution>/<category> and realiad_jsons/<split>/<category>.json"

    def __init__(self, resolution: str | int = "1024", split: str = _JSONS) -> None:
        self.resolution, self.split = str(resolution), split

    def place(self, root: Path, name: str) -> Path:
        """The JSON file."""
        return self._folder(root) / f"{name}.json"

    def categories(self, root: Path) -> list[str]:
        """Those with a JSON file and a folder of images."""
        found = sorted(name for name in self._named(root) if (self._images(root) / name).is_dir())
        if not found:
            raise DatasetError(f"no category under {self._images(root)}: expected {self.layout}")
        return found

    def remarks(self, root: Path) -> list[Remark]:
        """Categories with a JSON file alone."""
        return lacking_categories(
            self._images(root), self._named(root), self.categories(root), self._folder(root)
        )

    def rows(self, root: Path, name: str) -> Rows:
        """Of the JSON file."""
        path = self.place(root, name)
        images, found = self._images(root) / name, Rows()
        try:
            parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            for split in ("train", "test"):
                for sample in parts[split]:
                    found.rows.append(_row(images, sample, split == "train"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{path} is not as Real-IAD's files are ({type(error).__name__}: {error}); restore it"
            return Rows(problems=Problems([(path, message)]))
        return found

    def _images(self, root: Path) -> Path:
        return root / f"realiad_{self.resolution}"

    def _named(self, root: Path) -> list[str]:
        return [path.stem for path in self._folder(root).glob("*.json") if not path.name.startswith(".")]

    def _folder(self, root: Path) -> Path:
        places = (root / _JSONS / self.split, root / self.split)
        for place in places:
            if any(place.glob("*.json")):
                return place
        raise DatasetError(
            f"no JSON file under {places[0]}: give the folder with {self.layout} as dataset.root"
        )


def _row(images: Path, sample: dict[str, Any], train: bool) -> Row:
    image = Path(sample["image_path"])
    kind = str(sample["anomaly_class"])
    mask = sample.get("mask_path")
    return Row(
        images / image,
        train,
        GOOD if kind == "OK" else kind,
        (images / mask,) if mask else (),
        image.parent.as_posix(),
    )


READER = RealIADReader()
