"""The checker finds everything that is wrong, in one go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_sweep.datasets import FileIndex, check_dataset, count_images, read_category, read_image
from anomaly_sweep.datasets import file_index as manifest
from anomaly_sweep.datasets.masks import read_mask, to_square
from anomaly_sweep.datasets.readers.mvtec_ad import OFFICIAL_COUNTS, TEXTURES
from anomaly_sweep.errors import DatasetError


def image(path: Path, size: tuple[int, int] = (8, 6), seed: int | None = None) -> None:
    """A picture like no other, unless a seed is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()) if seed is None else seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def draw(path: Path, size: tuple[int, int] = (8, 6), value: int = 255) -> None:
    """A mask whose left half is marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = np.zeros((size[1], size[0]), np.uint8)
    marks[:, : size[0] // 2] = value
    Image.fromarray(marks).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "data" / "nut"
    for i in range(3):
        image(base / "train" / "good" / f"{i}.png")
        image(base / "test" / "good" / f"{i}.png")
        image(base / "test" / "crack" / f"{i}.png")
        draw(base / "ground_truth" / "crack" / f"{i}_mask.png")
    return tmp_path / "data"


def test_nothing_wrong(root: Path) -> None:
    assert check_dataset(root) == []


def test_all_problems_at_once(root: Path) -> None:
    base = root / "nut"
    truncated = base / "train" / "good" / "1.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:3000])
    (base / "test" / "good" / "2.png").write_bytes(b"no image")
    (base / "ground_truth" / "crack" / "0_mask.png").write_bytes(b"")
    draw(base / "ground_truth" / "crack" / "1_mask.png", size=(6, 8))
    draw(base / "ground_truth" / "crack" / "2_mask.png", value=0)
    draw(base / "ground_truth" / "crack" / "9_mask.png")
    image(base / "test" / "dent" / "0.png")
    image(root / "bolt" / "train" / "good" / "0.png")
    problems = check_dataset(root)
    expected = {
        ("bolt", "train/good"): "holds 1 image",
        ("bolt", "test"): "no test image",
        ("nut", "train/good/1.png"): "cannot decode",
        ("nut", "test/good/2.png"): "cannot decode",
        ("nut", "ground_truth/crack/0_mask.png"): "cannot decode",
        ("nut", "ground_truth/crack/1_mask.png"): "is 6 x 8, its image",
        ("nut", "ground_truth/crack/2_mask.png"): "marks no pixel",
        ("nut", "ground_truth/crack/9_mask.png"): "has no image",
        ("nut", "test/dent/0.png"): "has no mask",
    }
    found = {(p.category, p.path.relative_to(root / p.category).as_posix()): p for p in problems}
    assert found.keys() == expected.keys()
    assert len(problems) == len(expected)
    for key, text in expected.items():
        assert text in found[key].message
        assert str(found[key].path) in found[key].message


def test_only_the_categories_asked_for(root: Path) -> None:
    image(root / "bolt" / "train" / "good" / "0.png")
    assert check_dataset(root, ["nut"]) == []
    (problem,) = check_dataset(root, ["nut", "gear"])
    assert problem.category == "gear"
    assert "there are bolt, nut" in problem.message


def test_official_counts(root: Path) -> None:
    (root / "nut").rename(root / "bottle")
    problems = check_dataset(root, ["bottle"], reader="mvtec_ad")
    assert [p.message.removeprefix(str(root)) for p in problems] == [
        "/bottle holds 3 anomalous test images, MVTec AD has 63",
        "/bottle holds 3 good test images, MVTec AD has 20",
        "/bottle holds 3 good training images, MVTec AD has 209",
    ]
    everything = check_dataset(root, reader="mvtec_ad")
    assert {p.category for p in everything} == OFFICIAL_COUNTS.keys()


def test_official_counts_of_another_data_set(root: Path) -> None:
    (problem,) = check_dataset(root, ["nut"], reader="mvtec_ad")
    assert "is not a category of MVTec AD" in problem.message


def test_official_table() -> None:
    assert len(OFFICIAL_COUNTS) == 15
    # The totals the data set's paper gives.
    assert sum(c.train_good for c in OFFICIAL_COUNTS.values()) == 3629
    assert sum(c.test_good for c in OFFICIAL_COUNTS.values()) == 467
    assert sum(c.test_defect for c in OFFICIAL_COUNTS.values()) == 1258
    assert OFFICIAL_COUNTS.keys() > TEXTURES
    assert len(TEXTURES) == 5


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent"):
        check_dataset(tmp_path / "absent")


def test_read_image(root: Path) -> None:
    assert read_image(root / "nut" / "train" / "good" / "0.png").size == (8, 6)
    with pytest.raises(DatasetError, match=r"cannot decode .*absent\.png"):
        read_image(root / "absent.png")


def test_palette_mask_of_black_is_empty(root: Path) -> None:
    """What a palette's index says is a colour, not a mark."""
    mask = Image.new("P", (8, 6), 1)
    mask.putpalette([255, 255, 255, 0, 0, 0])
    mask.save(root / "nut" / "ground_truth" / "crack" / "0_mask.png")
    (problem,) = check_dataset(root)
    assert "marks no pixel" in problem.message


def told(root: Path, **options: Any) -> list[tuple[str, bool, str]]:
    """Place, seriousness and message of each problem."""
    problems = check_dataset(root, **options)
    assert all(str(p.path) in p.message for p in problems)
    return [(p.path.relative_to(root / "nut").as_posix(), p.serious, p.message) for p in problems]


def copy(source: str, target: str, **options: Any) -> Callable[[Path], None]:
    """The same picture again: the same file, or encoded anew."""

    def make(base: Path) -> None:
        if options:
            with Image.open(base / source) as picture:
                save = {
                    "convert": lambda: picture.convert(options["mode"]),
                    "turn": lambda: picture.transpose(3),
                }
                changed = save[options.pop("how")]() if "how" in options else picture
                changed.save(base / target, **{k: v for k, v in options.items() if k != "mode"})
        else:
            shutil.copyfile(base / source, base / target)

    return make


HALF_TURN = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"  # orientation 3


COPIES: dict[str, tuple[Callable[[Path], None], str, bool, str]] = {
    "good": (copy("train/good/0.png", "test/good/7.png"), "test/good/7.png", True, "was trained on"),
    "same name": (copy("train/good/0.png", "test/good/0.png"), "test/good/0.png", True, "was trained on"),
    "bmp": (
        copy("train/good/1.png", "test/good/7.bmp", format="bmp"),
        "test/good/7.bmp",
        True,
        "was trained on",
    ),
    "tiff": (
        copy("train/good/1.png", "test/good/7.tif", compression="tiff_lzw"),
        "test/good/7.tif",
        True,
        "was trained on",
    ),
    "webp": (
        copy("train/good/1.png", "test/good/7.webp", lossless=True),
        "test/good/7.webp",
        True,
        "was trained on",
    ),
    "recompressed": (
        copy("train/good/1.png", "test/good/7.png", compress_level=0),
        "test/good/7.png",
        True,
        "was trained on",
    ),
    "with opacity": (
        copy("train/good/1.png", "test/good/7.png", how="convert", mode="RGBA"),
        "test/good/7.png",
        True,
        "was trained on",
    ),
    "turned by EXIF data": (
        copy("train/good/1.png", "test/good/7.png", how="turn", exif=HALF_TURN),
        "test/good/7.png",
        True,
        "was trained on",
    ),
    "defective": (copy("train/good/2.png", "test/crack/1.png"), "test/crack/1.png", True, "was trained on"),
    "link": (
        lambda b: (b / "test/good/7.png").symlink_to(b / "train/good/0.png"),
        "test/good/7.png",
        True,
        "was trained on",
    ),
    "hard link": (
        lambda b: (b / "test/good/7.png").hardlink_to(b / "train/good/0.png"),
        "test/good/7.png",
        True,
        "was trained on",
    ),
    "good and defective": (
        copy("test/good/0.png", "test/crack/1.png"),
        "test/good/0.png",
        True,
        "one is good and the other is not",
    ),
    "twice in train": (
        copy("train/good/0.png", "train/good/7.png"),
        "train/good/7.png",
        False,
        "counts twice",
    ),
    "twice in test": (copy("test/good/0.png", "test/good/7.png"), "test/good/7.png", False, "counts twice"),
}


@pytest.mark.parametrize("case", COPIES)
def test_copies(root: Path, case: str) -> None:
    make, place, serious, message = COPIES[case]
    make(root / "nut")
    ((found, is_serious, text),) = told(root)
    assert (found, is_serious) == (place, serious)
    assert message in text


def test_copies_in_another_category_or_shape_are_none(root: Path) -> None:
    shutil.copytree(root / "nut", root / "bolt")
    assert check_dataset(root) == []
    with Image.open(root / "nut" / "train" / "good" / "0.png") as picture:
        Image.frombytes("RGB", (6, 8), picture.tobytes()).save(root / "nut" / "test" / "good" / "7.png")
    assert check_dataset(root) == []


def test_copies_as_another_defect_type(root: Path) -> None:
    for part in ("test", "ground_truth"):
        shutil.copytree(root / "nut" / part / "crack", root / "nut" / part / "dent")
    found = told(root)
    assert [(place, serious) for place, serious, _ in found] == [
        (f"test/dent/{i}.png", True) for i in range(3)
    ]
    assert "counts as another defect type" in found[0][2]


def pixels(base: Path) -> None:
    """A mark of one pixel in an image of 900."""
    image(base / "test/crack/0.png", (30, 30))
    marks = np.zeros((30, 30), np.uint8)
    marks[1, 1] = 255
    Image.fromarray(marks).save(base / "ground_truth/crack/0_mask.png")


def edge(base: Path) -> None:
    """A mark at the edge, which a central square lacks."""
    image(base / "test/crack/0.png", (40, 40))
    marks = np.zeros((40, 40), np.uint8)
    marks[:, :4] = 255
    Image.fromarray(marks).save(base / "ground_truth/crack/0_mask.png")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (pixels, {"input_size": 10}, ""),  # the pixel is the centre of a square of 3
        (pixels, {"input_size": 15}, ""),
        (pixels, {"input_size": 20}, "marks 1 pixel(s), none of which is left at 20 x 20 pixels"),
        (pixels, {"input_size": 5}, "none of which is left at 5 x 5"),
        (pixels, {"input_size": 224}, ""),
        (pixels, {"input_size": 30, "center_crop": 24}, "of which the central 24 are used"),
        (edge, {"input_size": 40, "center_crop": 32}, "none of which is left"),
        (edge, {"input_size": 40, "center_crop": 34}, ""),
        (edge, {"input_size": 256, "center_crop": 224}, ""),
        (edge, {"input_size": 256, "center_crop": 204}, "of which the central 204 are used"),
    ],
)
def test_marks_lost_on_the_way(
    root: Path, make: Callable[[Path], None], options: dict[str, int], message: str
) -> None:
    make(root / "nut")
    found = told(root, **options)
    mask = read_mask(root / "nut/ground_truth/crack/0_mask.png").marked
    assert to_square(mask, options["input_size"], options.get("center_crop")).any() == (not message)
    if message:
        ((place, serious, text),) = found
        assert (place, serious) == ("ground_truth/crack/0_mask.png", True)
        assert message in text
    else:
        assert found == []


def save(place: str, values: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda base: Image.fromarray(values).save(base / place, **options)


HALF = np.repeat(np.array([[255, 255, 255, 255, 0, 0, 0, 0]], np.uint8), 6, axis=0)
MASK = "ground_truth/crack/0_mask.png"


def jpeg(base: Path) -> None:
    (base / MASK).unlink()
    Image.fromarray(HALF).save(base / "ground_truth/crack/0_mask.jpg")


ODD: dict[str, tuple[Callable[[Path], object], str, bool, str]] = {
    "inverted": (
        save(MASK, np.where(np.indices((6, 8)).sum(0) == 0, 0, 255).astype(np.uint8)),
        MASK,
        True,
        "marks 97.9%",
    ),
    "all": (save(MASK, np.full((6, 8), 255, np.uint8)), MASK, True, "marks 100.0%"),
    "none": (save(MASK, np.zeros((6, 8), np.uint8)), MASK, True, "marks no pixel"),
    "jpeg": (jpeg, "ground_truth/crack/0_mask.jpg", False, "lossy compression"),
    "many levels": (save(MASK, np.arange(48, dtype=np.uint8).reshape(6, 8) * 5), MASK, False, "48 levels"),
    "no zero": (save(MASK, HALF // 5 + 9), MASK, False, "no pixel is 0"),
    "good mask": (
        lambda b: draw(b / "ground_truth/good/0_mask.png"),
        "ground_truth/good/0_mask.png",
        True,
        "in a good image",
    ),
    "good mask, damaged": (
        lambda b: ((b / "ground_truth/good").mkdir(), (b / "ground_truth/good/0.png").write_bytes(b"")),
        "ground_truth/good/0.png",
        False,
        "is not used",
    ),
    "transparent": (
        save("train/good/0.png", np.arange(192, dtype=np.uint8).reshape(6, 8, 4)),
        "train/good/0.png",
        False,
        "transparency is ignored",
    ),
    "12 bits in 16": (
        save("train/good/0.png", (np.arange(48) * 80).astype(np.uint16).reshape(6, 8)),
        "train/good/0.png",
        False,
        "of 256 grey levels remain",
    ),
    "float": (
        lambda b: (
            (b / "train/good/0.png").unlink(),
            Image.fromarray(np.zeros((6, 8), np.float32)).save(b / "train/good/0.tif"),
        ),
        "train/good/0.tif",
        True,
        "floating-point",
    ),
    "animation": (
        lambda b: Image.new("L", (8, 6)).save(
            b / "train/good/9.gif", save_all=True, append_images=[Image.new("L", (8, 6), 9)]
        ),
        "train/good/9.gif",
        True,
        "2 pictures",
    ),
    "sub-folder": (lambda b: image(b / "train/good/more/0.png"), "train/good/more", True, "not read"),
    "dangling link": (
        lambda b: (b / "test/good/9.png").symlink_to("away"),
        "test/good/9.png",
        True,
        "leads nowhere",
    ),
    "test/Good": (lambda b: image(b / "test/Good/0.png"), "test/Good", True, "would count as a defect type"),
    "mask of another name": (
        lambda b: (b / MASK).rename(b / "ground_truth/crack/0_gt.png"),
        "ground_truth/crack/0_gt.png",
        True,
        "rename it to 0_mask.png",
    ),
    "notes": (
        lambda b: (b / "train/good/notes.txt").write_text("x"),
        "train/good/notes.txt",
        False,
        "is not read",
    ),
    "labels": (
        lambda b: (b / "ground_truth/crack/0.json").write_text("x"),
        "ground_truth/crack/0.json",
        True,
        "is not read",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_oddities_are_told(root: Path, case: str) -> None:
    make, place, serious, message = ODD[case]
    make(root / "nut")
    found = {where: (is_serious, text) for where, is_serious, text in told(root)}
    assert found[place][0] == serious
    assert message in found[place][1]
    also = {"mask of another name": {"test/crack/0.png"}, "test/Good": {"test/Good/0.png"}}.get(case, set())
    assert found.keys() == {place} | also


def test_contents_are_compared_with_those_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FileIndex(tmp_path / "files.sqlite")
    changed = [root / "nut/train/good/1.png", root / "nut/ground_truth/crack/2_mask.png"]
    category = read_category(root, "nut", dataset="mine")
    paths = [r.path for r in (*category.train, *category.test)] + [m for r in category.test for m in r.masks]
    monkeypatch.setattr(manifest, "_stat", lambda path: manifest._Stat(1, 1, 1, "1"))
    index.lookup(paths)
    assert check_dataset(root, index=index) == []
    image(changed[0], seed=5)
    draw(changed[1], value=7)
    found = check_dataset(root, index=index)
    assert {p.path for p in found} == set(changed)
    assert all(p.serious and "changed although its size and times did not" in p.message for p in found)
    assert check_dataset(root, index=index) == []


def test_root_is_checked_too(root: Path) -> None:
    image(root / "gear" / "Train" / "good" / "0.png")
    (problem,) = check_dataset(root)
    assert (problem.category, problem.path) == ("", root / "gear")
    assert check_dataset(root, ["nut"]) == []


@pytest.mark.real
def test_real_categories_are_complete() -> None:
    folder = os.environ.get("ANOMALY_SWEEP_REAL")
    if not folder:
        pytest.skip("ANOMALY_SWEEP_REAL does not name the folder that holds data/mvtec_ad_320")
    root = Path(folder) / "data" / "mvtec_ad_320"
    assert check_dataset(root, ["bottle", "transistor"], reader="mvtec_ad") == []
    for name in ("bottle", "transistor"):
        assert count_images(read_category(root, name, dataset="mvtec_ad")) == OFFICIAL_COUNTS[name]
