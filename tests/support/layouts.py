"""Small data sets in the layouts of the field's, with the truth of every image."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.datasets.records import GOOD

Marks = NDArray[np.bool_]
SIZE = 32
SHAPE = (SIZE, SIZE + 8)


@dataclass(frozen=True)
class Expected:
    """What was written of one image, under its path relative to the root."""

    train: bool
    defect: str
    marks: Marks | None = None  # where it differs from a good image; None: there is no mask
    group: str = ""


#: Category -> image -> what it is.
Written = dict[str, dict[str, Expected]]


def picture(path: Path, marks: Marks | None = None) -> None:
    """Noise like no other's, saturated where it is marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = list("/".join(path.parts[-5:]).encode())
    pixels = np.random.default_rng(seed).integers(0, 200, (*SHAPE, 3), dtype=np.uint8)
    if marks is not None:
        pixels[marks] = 255
    Image.fromarray(pixels).save(path)


def save_mask(path: Path, marks: Marks, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(marks.astype(np.uint8) * np.uint8(value)).save(path)


@dataclass
class Layout:
    """Writes images of a category under names made of the number, and keeps the truth."""

    root: Path
    written: Written = field(default_factory=dict)

    def add(
        self, category: str, relative: str, train: bool, defect: str = GOOD, marks: Marks | None = None,
        group: str = "",
    ) -> Path:  # fmt: skip
        path = self.root / relative
        picture(path, marks)
        self.written.setdefault(category, {})[relative] = Expected(train, defect, marks, group)
        return path


@dataclass(frozen=True)
class Sample:
    """One of the images that every layout has: three of training, two good ones and two a defect type."""

    category: str
    split: str
    kind: int | None  # of defect; None: good
    number: int

    @property
    def train(self) -> bool:
        return self.split == "train"

    @property
    def marks(self) -> Marks | None:
        if self.kind is None:
            return None
        marks = np.zeros(SHAPE, bool)
        marks[4 * self.number : 4 * self.number + 6, 9 * self.kind : 9 * self.kind + 5] = True
        return marks


def samples(categories: Sequence[str], kinds: int = 2) -> list[Sample]:
    return [
        Sample(category, split, kind, number)
        for category in categories
        for split, kind, count in (
            ("train", None, 3),
            ("test", None, 2),
            *(("test", kind, 2) for kind in range(kinds)),
        )
        for number in range(count)
    ]


def write_tree(
    root: Path,
    names: Sequence[str],
    image: str,
    mask: str | None,
    *,
    defects: Sequence[str] = ("crack", "bent wire"),
    good: str = GOOD,
    test: str = "test",
    masks: str = "{category}/ground_truth/{defect}",
    within: str = "",
) -> Written:
    """MVTec AD's layout, or one with other names; names of files by their patterns."""
    layout = Layout(root)
    for one in samples(names, len(defects)):
        defect = GOOD if one.kind is None else defects[one.kind]
        folder = good if one.kind is None else defect
        split = "train" if one.train else test
        parts = [one.category, split, folder, *([within] if within else []), image.format(one.number)]
        marks = one.marks
        path = layout.add(one.category, "/".join(parts), one.train, defect, marks if mask else None)
        if marks is not None:
            picture(path, marks)
            if mask:
                place = masks.format(category=one.category, defect=defect)
                save_mask(root / place / mask.format(one.number), marks)
    return layout.written


def write_mvtec_ad(root: Path) -> Written:
    return write_tree(root, ("bottle", "wood"), "{:03d}.png", "{:03d}_mask.png")


def write_folder(root: Path) -> Written:
    return write_tree(root, ("gear", "nut"), "part {}.BMP", "part {}.png")


def write_folder_without_masks(root: Path) -> Written:
    return write_tree(root, ("gear", "nut"), "{}.tif", None)


def write_btad(root: Path) -> Written:
    return write_tree(root, ("01", "03"), "{:04d}.bmp", "{:04d}.png", defects=("ko",), good="ok")


def write_mpdd(root: Path) -> Written:
    return write_tree(root, ("connector", "tubes"), "{:03d}.png", "{:03d}_mask.png")


def write_mvtec_ad_2(root: Path) -> Written:
    written = write_tree(
        root, ("can", "rice"), "{:03d}_regular.png", "{:03d}_regular_mask.png",
        defects=("bad",), test="test_public", masks="{category}/test_public/ground_truth/{defect}",
    )  # fmt: skip
    for name in written:
        for part in ("validation/good", "test_private", "test_private_mixed"):
            picture(root / name / part / "000_mixed.png")
    return written


def write_mvtec_3d(root: Path) -> Written:
    written = write_tree(
        root, ("bagel", "tire"), "{:03d}.png", "{:03d}.png",
        within="rgb", masks="{category}/test/{defect}/gt",
    )  # fmt: skip
    for name, images in written.items():
        picture(root / name / "validation/good/rgb/000.png")
        (root / name / "calibration").mkdir()
        for relative, one in images.items():
            scan = root / relative.replace("/rgb/", "/xyz/").replace(".png", ".tiff")
            scan.parent.mkdir(parents=True, exist_ok=True)
            scan.write_bytes(b"three floats a pixel")
            if not one.train and one.defect == GOOD:
                save_mask(root / relative.replace("/rgb/", "/gt/"), np.zeros(SHAPE, bool))
    return written


def write_mvtec_loco(root: Path) -> Written:
    """Images of a logical anomaly have two masks, of two kinds that overlap."""
    types = ("logical_anomalies", "structural_anomalies")
    written = write_tree(root, ("pushpins", "screw_bag"), "{:03d}.png", None, defects=types)
    for name, images in written.items():
        picture(root / name / "validation/good/000.png")
        for one in samples([name]):
            if one.marks is None or one.kind is None:
                continue
            relative = f"{name}/test/{types[one.kind]}/{one.number:03d}.png"
            folder = root / name / "ground_truth" / types[one.kind] / f"{one.number:03d}"
            save_mask(folder / "000.png", one.marks, 255 - one.kind)
            marks = one.marks
            if types[one.kind] == "logical_anomalies":
                second = np.roll(one.marks, (10, 2), (0, 1)) | one.marks
                save_mask(folder / "001.png", second, 253)
                marks = marks | second
            images[relative] = Expected(False, types[one.kind], marks)
        keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
        kinds = (("missing", 255, 6, False), ("broken", 254, 1.0, True), ("twice", 253, 0.5, True))
        config = [dict(zip(keys, kind, strict=True)) for kind in kinds]
        (root / name / "defects_config.json").write_text(json.dumps(config))
    return written


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_visa(root: Path) -> Written:
    layout, kinds = Layout(root), ("bent", "melt,hole")
    rows = [["object", "split", "label", "image", "mask"]]
    notes: dict[str, list[list[str]]] = {}
    for one in samples(("candle", "pcb1")):
        kind = "Normal" if one.kind is None else "Anomaly"
        number = 10 * (one.kind or 0) + one.number + (100 if one.split == "train" else 0)
        relative = f"{one.category}/Data/Images/{kind}/{number:04d}.JPG"
        defect = GOOD if one.kind is None else kinds[one.kind]
        layout.add(one.category, relative, one.train, defect, one.marks)
        mask = ""
        if one.marks is not None:
            mask = f"{one.category}/Data/Masks/Anomaly/{number:04d}.png"
            save_mask(root / mask, one.marks, 1)
        rows.append([one.category, one.split, "normal" if one.kind is None else "anomaly", relative, mask])
        notes.setdefault(one.category, [["image", "label", "mask"]])
        notes[one.category].append([relative, "normal" if one.kind is None else defect, mask])
    write_table(root / "split_csv" / "1cls.csv", rows)
    for name, table in notes.items():
        write_table(root / name / "image_anno.csv", table)
    return layout.written


def write_csv(root: Path) -> Written:
    layout = Layout(root)
    rows = [["path", "label", "mask", "category", "split", "group"]]
    for one in samples(("gear", "nut")):
        defect = GOOD if one.kind is None else ("crack", "anomaly")[one.kind]
        relative = f"shots/{one.category} {one.split} {one.kind} {one.number}.jpg"
        group = f"batch {one.number}"
        layout.add(one.category, relative, one.train, defect, one.marks, group)
        mask = "" if one.marks is None else f"marks/{one.category}{one.kind}{one.number}.png"
        if one.marks is not None:
            save_mask(root / mask, one.marks)
        label = {"anomaly": "1", GOOD: "0"}.get(defect, defect)
        rows.append([relative, label, mask, one.category, one.split, group])
    write_table(root / "images.csv", rows)
    return layout.written


def write_real_iad(root: Path) -> Written:
    layout = Layout(root)
    for name in ("audiojack", "usb"):
        parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
        for one in samples((name,)):
            kind = "OK" if one.kind is None else ("QS", "HS")[one.kind]
            number = one.number + (1 if one.split == "test" else 5)
            folder = f"OK/S{number:04d}" if one.kind is None else f"NG/{kind}/S{number:04d}"
            stem = f"{name}_{number:04d}_{kind}_C1_2023"
            image = f"{folder}/{stem}.jpg"
            defect = GOOD if one.kind is None else kind
            layout.add(name, f"realiad_1024/{name}/{image}", one.train, defect, one.marks, folder)
            mask = None
            if one.marks is not None:
                mask = f"{folder}/{stem}_mask.png"
                save_mask(root / "realiad_1024" / name / mask, one.marks)
            parts[one.split].append(
                {"category": name, "anomaly_class": kind, "image_path": image, "mask_path": mask}
            )
        path = root / "realiad_jsons" / "realiad_jsons" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = {"prefix": f"{name}/", "normal_class": "OK", "pre_transform": []}
        path.write_text(json.dumps({"meta": meta, **parts}))
    return layout.written


def write_kolektor(root: Path) -> Written:
    layout = Layout(root)
    for one in samples(("kolektorsdd2",), kinds=1):
        number = 10000 + one.number + 10 * (one.split == "test") + 20 * (one.kind is not None)
        defect = GOOD if one.kind is None else "defect"
        path = layout.add(one.category, f"{one.split}/{number}.png", one.train, defect, one.marks)
        marks = np.zeros(SHAPE, bool) if one.marks is None else one.marks
        save_mask(path.with_name(f"{number}_GT.png"), marks)
    picture(root / "train" / "10999.png", np.eye(*SHAPE, dtype=bool))  # a defective one of training
    save_mask(root / "train" / "10999_GT.png", np.eye(*SHAPE, dtype=bool))
    return layout.written


def write_dagm(root: Path) -> Written:
    layout = Layout(root)
    for one in samples(("Class1", "Class10"), kinds=1):
        number = 1 + one.number + 10 * (one.kind is not None)
        defect = GOOD if one.kind is None else "defect"
        folder = f"{one.category}/{one.split.capitalize()}"
        layout.add(one.category, f"{folder}/{number:04d}.PNG", one.train, defect, one.marks)
        if one.marks is not None:
            save_mask(root / folder / "Label" / f"{number:04d}_label.PNG", one.marks)
    for name in layout.written:
        (root / name / "Test" / "Label" / "Labels.txt").write_text("1\n")
        picture(root / name / "Train" / "0999.PNG", np.eye(*SHAPE, dtype=bool))
        save_mask(root / name / "Train" / "Label" / "0999_label.PNG", np.eye(*SHAPE, dtype=bool))
    return layout.written


#: Reader -> what writes its layout.
WRITERS: dict[str, Callable[[Path], Written]] = {
    "btad": write_btad,
    "csv": write_csv,
    "dagm": write_dagm,
    "folder": write_folder,
    "kolektor": write_kolektor,
    "mpdd": write_mpdd,
    "mvtec_3d": write_mvtec_3d,
    "mvtec_ad": write_mvtec_ad,
    "mvtec_ad_2": write_mvtec_ad_2,
    "mvtec_loco": write_mvtec_loco,
    "real_iad": write_real_iad,
    "visa": write_visa,
}
