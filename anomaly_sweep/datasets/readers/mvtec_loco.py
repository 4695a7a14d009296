"""MVTec LOCO AD: logical and structural anomalies, several masks an image, saturation of defects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anomaly_sweep.datasets.listing import Listing, list_folder
from anomaly_sweep.datasets.readers.base import Counts, Problems
from anomaly_sweep.datasets.readers.tree import Scan, TreeReader, lost_masks, unread_inside
from anomaly_sweep.datasets.records import ORPHAN_MASKS, Category, Remark, Saturation
from anomaly_sweep.errors import DatasetError

CONFIG = "defects_config.json"
#: Its defect types.
LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"

#: Bergmann et al., Beyond Dents and Scratches, IJCV 2022, table 1: 1772 + 1568 images (+ 304 validation).
OFFICIAL_COUNTS = {
    "breakfast_box": Counts(351, 102, 90 + 83),
    "juice_bottle": Counts(335, 94, 94 + 142),
    "pushpins": Counts(372, 138, 81 + 91),
    "screw_bag": Counts(360, 122, 82 + 137),
    "splicing_connectors": Counts(354, 119, 85 + 108),
}


class MVTecLOCOReader(TreeReader):
    """``test/logical_anomalies/000.png`` has the masks ``ground_truth/logical_anomalies/000/*.png``.

    A mask marks one defect; the intensity of its pixels is its kind, of which ``defects_config.json`` says
    how much is to be found. The validation images are not read.
    """

    title = "MVTec LOCO AD"
    unused = ("validation",)
    counts = OFFICIAL_COUNTS

    def list_images(self, root: Path, name: str, dataset: str) -> tuple[Category, Problems]:
        """As of any tree, with the saturations."""
        category, problems = super().list_images(root, name, dataset)
        path = root / name / CONFIG
        try:
            return replace(category, saturations=read_saturations(path)), problems
        except DatasetError as error:
            return category, [*problems, (path, str(error))]

    def match_masks(self, defect: str, images: Sequence[Path], scan: Scan) -> dict[Path, tuple[Path, ...]]:
        """A folder of masks for each image."""
        folder = self.mask_folder(scan.base, defect)
        found = list_folder(folder)
        scan.broken(Listing(unnamed=found.unnamed))
        scan.remarks += lost_masks(found)
        scan.remarks += unread_inside(Listing(others=found.others, special=found.special), masks=True)
        by_stem = {image.stem: image for image in images}
        matched: dict[Path, tuple[Path, ...]] = {}
        for inner in found.folders:
            masks = list_folder(inner)
            scan.remarks += unread_inside(masks, masks=True)
            scan.remarks += lost_masks(masks)
            if inner.name not in by_stem:
                message = f"masks {inner} have no image: expected {scan.test_folder(defect) / inner.name}.*"
                scan.remarks.append(Remark(ORPHAN_MASKS, inner, f"{message}; add it, or delete them"))
            elif masks.images:
                matched[by_stem[inner.name]] = tuple(masks.images)
        for mask in found.images:
            message = f"mask {mask} is not read: masks lie in a folder called as their image"
            scan.remarks.append(Remark(ORPHAN_MASKS, mask, f"{message}, here {folder / mask.stem}"))
        return matched


def read_saturations(path: Path) -> tuple[Saturation, ...]:
    """What ``defects_config.json`` says; nothing if there is none.

    Raises
    ------
    DatasetError
        If it cannot be read, or says something else.
    """
    if not path.exists():
        return ()
    try:
        found = tuple(
            Saturation(
                str(entry["defect_name"]),
                int(entry["pixel_value"]),
                float(entry["saturation_threshold"]),
                bool(entry["relative_saturation"]),
            )
            for entry in json.loads(path.read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is no list of defects with defect_name, pixel_value, saturation_threshold and "
            f"relative_saturation ({type(error).__name__}: {error}); restore it, or delete it "
            "to go without sPRO"
        ) from error
    for one in found:
        if not one.threshold > 0 or (one.relative and one.threshold > 1):
            raise DatasetError(
                f"{path}: saturation_threshold of {one.defect} is {one.threshold}; restore the file"
            )
    if len({one.value for one in found}) < len(found):
        raise DatasetError(f"{path} has two defects of one pixel_value; restore the file")
    return found


READER = MVTecLOCOReader()
