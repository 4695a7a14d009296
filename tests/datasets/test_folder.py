"""The folder reader: what it lists, and what it says when it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomaly_sweep.datasets import list_categories, read_category
from anomaly_sweep.datasets.readers.folder import READER
from anomaly_sweep.errors import DatasetError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")  # the reader opens no image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "data" / "nut"
    touch(*(base / "train" / "good" / f"{i:03d}.png" for i in range(3)))
    touch(base / "test" / "good" / "000.png")
    touch(*(base / "test" / "crack" / f"{i:03d}.png" for i in range(2)))
    touch(base / "ground_truth" / "crack" / "000_mask.png")
    return tmp_path / "data"


def test_reads_the_layout(root: Path) -> None:
    category = read_category(root, "nut", dataset="mine")
    assert (category.dataset, category.name, category.root) == ("mine", "nut", root)
    assert [r.relative for r in category.train] == [f"nut/train/good/00{i}.png" for i in range(3)]
    assert [r.relative for r in category.test] == [
        "nut/test/crack/000.png",
        "nut/test/crack/001.png",
        "nut/test/good/000.png",
    ]
    assert [r.defect for r in category.test] == ["crack", "crack", "good"]
    assert category.test[0].masks == (root / "nut" / "ground_truth" / "crack" / "000_mask.png",)
    assert category.test[1].masks == ()  # missing masks are fine
    labels = category.test_labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 1, 0]


def test_other_suffixes_plain_masks_and_clutter(root: Path) -> None:
    base = root / "nut"
    touch(
        base / "train" / "good" / "a.JPG",
        base / "train" / "good" / "b.Tiff",
        base / "train" / "good" / "c.bmp",
    )
    touch(base / "ground_truth" / "crack" / "001.png")
    touch(base / "train" / "good" / "Thumbs.db", base / "train" / "good" / ".hidden.png", root / "readme.txt")
    touch(base / "test" / ".cache" / "000.png")
    (base / "train" / "good" / "folder.png").mkdir()
    category = read_category(root, "nut", dataset="mine")
    assert [r.path.name for r in category.train] == [
        "000.png",
        "001.png",
        "002.png",
        "a.JPG",
        "b.Tiff",
        "c.bmp",
    ]
    assert category.test[1].masks == (base / "ground_truth" / "crack" / "001.png",)
    assert {r.defect for r in category.test} == {"good", "crack"}


def test_suffixed_mask_wins_over_plain(root: Path) -> None:
    touch(root / "nut" / "ground_truth" / "crack" / "000.png")
    (mask,) = read_category(root, "nut", dataset="mine").test[0].masks
    assert mask is not None
    assert mask.name == "000_mask.png"


def test_lists_categories_only(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "gear" / "test").mkdir(parents=True)
    assert list_categories(root) == ["gear", "nut"]


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent is not a folder: give the folder that holds"):
        list_categories(tmp_path / "absent")


def test_no_category_says_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError, match=r"expected <category>/train/good.*found pictures"):
        list_categories(tmp_path)


def test_category_given_as_root(root: Path) -> None:
    with pytest.raises(DatasetError, match="is itself a category"):
        list_categories(root / "nut")


@pytest.mark.parametrize("name", ["bolt", "../data/nut", "", "."])
def test_missing_category_lists_those_there_are(root: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="there are nut"):
        read_category(root, name, dataset="mine")


def remove(folder: Path, keep: int = 0) -> None:
    for path in sorted(folder.iterdir())[keep:]:
        path.unlink()


def test_missing_train_good(root: Path) -> None:
    remove(root / "nut" / "train" / "good")
    (root / "nut" / "train" / "good").rmdir()
    with pytest.raises(DatasetError, match=r"train/good is missing"):
        read_category(root, "nut", dataset="mine")


@pytest.mark.parametrize("keep", [0, 1])
def test_too_few_training_images(root: Path, keep: int) -> None:
    remove(root / "nut" / "train" / "good", keep)
    with pytest.raises(DatasetError, match=rf"train/good holds {keep} image.*at least 2"):
        read_category(root, "nut", dataset="mine")


def test_empty_test(root: Path) -> None:
    for part in ("test/good", "test/crack", "ground_truth/crack"):
        remove(root / "nut" / part)
    with pytest.raises(DatasetError, match="no test image under"):
        read_category(root, "nut", dataset="mine")


@pytest.mark.parametrize(("part", "missing"), [("good", "no good image"), ("crack", "no anomalous image")])
def test_one_class_test_set(root: Path, part: str, missing: str) -> None:
    remove(root / "nut" / "test" / part)
    if part == "crack":
        remove(root / "nut" / "ground_truth" / "crack")
    with pytest.raises(DatasetError, match=missing):
        read_category(root, "nut", dataset="mine")


@pytest.mark.parametrize(
    ("mask", "advice"),
    [
        (
            "crack/007_mask.png",
            "expected {test}/crack/007.*; rename it after its image, add the image, or delete",
        ),
        ("dent/000_mask.png", "expected {test}/dent/000.*"),
        ("crack/001_gt.png", "if it is the mask of 001.png, rename it to 001_mask.png"),
        ("crack/001.mask.png", "rename it to 001_mask.png"),
        ("crack/001-mask.PNG", "rename it to 001_mask.PNG"),
        ("crack/001 (1).bmp", "rename it to 001_mask.bmp"),
        ("crack/mask_001.png", "rename it to 001_mask.png"),
        ("crack/gt-001-mask.png", "rename it to 001_mask.png"),
        ("crack/1_mask.png", "rename it after its image"),
        ("crack/1001_mask.png", "rename it after its image"),
        ("crack/000_gt.png", "rename it after its image"),  # 000 has a mask
    ],
)
def test_mask_without_image_is_told_and_stops_nothing(root: Path, mask: str, advice: str) -> None:
    touch(root / "nut" / "ground_truth" / mask)
    category = read_category(root, "nut", dataset="mine")
    assert len(category.test) == 3
    (remark,) = category.remarks
    assert remark.kind == "masks that belong to no image"
    assert remark.path == root / "nut" / "ground_truth" / mask
    assert f"mask {remark.path} has no image" in remark.message
    assert advice.format(test=root / "nut" / "test") in remark.message


@pytest.mark.parametrize(
    "name", ["001_mask.png", "001_MASK.png", "001_Mask.PNG", "001.png", "001_mask.bmp", "001.jpg"]
)
def test_masks_of_every_spelling(root: Path, name: str) -> None:
    touch(root / "nut" / "ground_truth" / "crack" / name)
    category = read_category(root, "nut", dataset="mine")
    (mask,) = category.test[1].masks
    assert mask.name == name
    assert category.remarks == ()


# Every entry is read or told.


def folder(path: Path) -> None:
    touch(path / "inside.png")


def dangle(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere/at/all.png")


def circle(path: Path) -> None:
    path.symlink_to(path)


TOLD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "sub-folder": ("train/good/more", folder, "sub-folders of folders of images"),
    "deep sub-folder": ("train/good/2024/may", folder, "sub-folders of folders of images"),
    "link to a folder": ("train/good/up", lambda p: p.symlink_to(".."), "sub-folders of folders of images"),
    "sub-folder of a test": ("test/crack/deep", folder, "sub-folders of folders of images"),
    "sub-folder of good tests": ("test/good/more", folder, "sub-folders of folders of images"),
    "sub-folder of masks": ("ground_truth/crack/000", folder, "sub-folders of folders of images"),
    "folder called like an image": ("train/good/a.png", folder, "sub-folders of folders of images"),
    "image in train": ("train/a.png", touch, "images outside the folders of images"),
    "image in test": ("test/a.webp", touch, "images outside the folders of images"),
    "image in ground_truth": ("ground_truth/000_mask.png", touch, "images outside the folders of images"),
    "image in the category": ("a.JPEG", touch, "images outside the folders of images"),
    "train/bad": ("train/bad", folder, "folders beside train/good"),
    "train/Good": ("train/Good", folder, "folders beside train/good"),
    "validation": ("validation", folder, "folders beside train, test and ground_truth"),
    "Test": ("Test", folder, "folders beside train, test and ground_truth"),
    "masks": ("masks", folder, "folders beside train, test and ground_truth"),
    "heic": ("train/good/a.heic", touch, "files of other kinds among the images"),
    "avif": ("train/good/a.avif", touch, "files of other kinds among the images"),
    "raw": ("test/crack/a.CR2", touch, "files of other kinds among the images"),
    "array": ("test/good/a.npy", touch, "files of other kinds among the images"),
    "svg mask": ("ground_truth/crack/001.svg", touch, "files of other kinds among the images"),
    "json mask": ("ground_truth/crack/001.json", touch, "files of other kinds among the images"),
    "no suffix": ("train/good/000", touch, "files of other kinds among the images"),
    "half downloaded": ("train/good/a.png.part", touch, "files of other kinds among the images"),
    "backup": ("train/good/a.png~", touch, "files of other kinds among the images"),
    "video": ("test/good/a.mp4", touch, "files of other kinds among the images"),
    "pipe": ("train/good/pipe.png", os.mkfifo, "entries that are no regular files"),
    "second mask": ("ground_truth/crack/000.bmp", touch, "second masks of an image"),
    "mask leads nowhere": ("ground_truth/crack/001_mask.png", dangle, "links to masks that lead nowhere"),
    "masks lead nowhere": ("ground_truth/dent", dangle, "links to masks that lead nowhere"),
    "test/ok": ("test/ok", folder, "defect types that are called as good images are"),
    "test/Normal": ("test/Normal", folder, "defect types that are called as good images are"),
    "test/defect-free": ("test/defect-free", folder, "defect types that are called as good images are"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_what_is_not_read_is_told(root: Path, case: str) -> None:
    where, make, kind = TOLD[case]
    before = read_category(root, "nut", dataset="mine")
    assert before.remarks == ()
    path = root / "nut" / where
    make(path)
    category = read_category(root, "nut", dataset="mine")
    told = root / "nut" / (where.removesuffix("/may"))
    (remark,) = category.remarks
    assert (remark.kind, remark.path) == (kind, told)
    assert str(told) in remark.message
    assert category.train == before.train
    if kind != "defect types that are called as good images are":
        assert category.test == before.test


FATAL: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "training image": ("train/good/x.png", dangle, "leads nowhere (nowhere/at/all.png)"),
    "good test image": ("test/good/x.png", dangle, "leads nowhere"),
    "defective image": ("test/crack/x.jpg", dangle, "leads nowhere"),
    "without suffix": ("train/good/x", dangle, "leads nowhere"),
    "in circles": ("train/good/x.png", circle, "leads nowhere"),
    "defect type": ("test/dent", dangle, "leads nowhere"),
    "part": ("train/x", dangle, "leads nowhere"),
    "beside the parts": ("validation", dangle, "leads nowhere"),
    "Good": ("test/Good", folder, "would count as a defect type"),
    "GOOD": ("test/GOOD", folder, "would count as a defect type"),
    "good and blank": ("test/good ", folder, "would count as a defect type"),
    "good_": ("test/good_", folder, "would count as a defect type"),
}  # fmt: skip


@pytest.mark.parametrize("case", FATAL)
def test_what_would_make_numbers_wrong_is_refused(root: Path, case: str) -> None:
    where, make, message = FATAL[case]
    make(root / "nut" / where)
    with pytest.raises(DatasetError) as raised:
        read_category(root, "nut", dataset="mine")
    assert str(root / "nut" / where) in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "where",
    ["train/good/{}.png", "test/good/{}", "test/crack/{}.bmp", "test/{}", "{}", "ground_truth/crack/{}.png"],
)
def test_names_that_are_no_unicode_are_refused(root: Path, where: str) -> None:
    path = root / "nut" / where.format(os.fsdecode(b"bad\xff"))
    try:
        touch(path)
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    with pytest.raises(DatasetError, match=r"is no valid Unicode.*rename it"):
        read_category(root, "nut", dataset="mine")


def test_several_problems_are_counted(root: Path) -> None:
    for number in range(4):
        dangle(root / "nut" / "train" / "good" / f"x{number}.png")
    with pytest.raises(
        DatasetError, match=r"x0\.png is a link .*and 3 more: anomaly-sweep-data check lists them"
    ):
        read_category(root, "nut", dataset="mine")


@pytest.mark.parametrize("part", ["train/good", "train", "test", "test/good"])
def test_parts_that_are_links_to_nowhere(root: Path, part: str) -> None:
    (root / "nut" / part).rename(root / "elsewhere")
    dangle(root / "nut" / part)
    with pytest.raises(DatasetError, match=rf"{part} is a link that leads nowhere"):
        read_category(root, "nut", dataset="mine")


@pytest.mark.parametrize(
    "name",
    [
        "Thumbs.db",
        "thumbs.DB",
        "desktop.ini",
        ".DS_Store",
        "._000.png",
        ".hidden.png",
        "ehthumbs.db",
        "Icon\r",
    ],
)
@pytest.mark.parametrize("where", ["", "train", "train/good", "test", "test/crack", "ground_truth/crack"])
def test_what_systems_leave_is_no_one_s_business(root: Path, where: str, name: str) -> None:
    touch(root / "nut" / where / name)
    assert read_category(root, "nut", dataset="mine").remarks == ()


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN"])
@pytest.mark.parametrize("where", [".", "train/good", "test"])
def test_system_folders(root: Path, where: str, name: str) -> None:
    folder(root / "nut" / where / name)
    category = read_category(root, "nut", dataset="mine")
    assert category.remarks == ()
    assert {r.defect for r in category.test} == {"good", "crack"}


def test_documents_beside_the_parts_are_fine(root: Path) -> None:
    touch(*(root / "nut" / name for name in ("license.txt", "readme.txt", "defects_config.json")))
    touch(root / "license.txt", root / "readme.md")
    assert read_category(root, "nut", dataset="mine").remarks == ()
    assert READER.remarks(root) == []


def test_root_remarks(root: Path) -> None:
    folder(root / "notes")
    folder(root / "gear" / "Train" / "good")
    touch(root / "bottle.png")
    folder(root / "Nut" / "train" / "good")
    remarks = {r.path.name: r for r in READER.remarks(root)}
    assert {name.lower() for name in remarks} == {"notes", "gear", "bottle.png", "nut"}
    assert "holds neither train nor test" in remarks["notes"].message
    assert "names are in lower case" in remarks["gear"].message
    assert "differ by case alone" in remarks[next(n for n in remarks if n.lower() == "nut")].message


def test_category_that_leads_nowhere_is_not_left_out(root: Path) -> None:
    (root / "gear").symlink_to(root / "away")
    assert list_categories(root) == ["gear", "nut"]
    with pytest.raises(DatasetError, match=r"gear is a link that leads nowhere"):
        read_category(root, "gear", dataset="mine")


@pytest.mark.parametrize("other", ["Good", "GOOD", "good "])
def test_missing_train_good_names_its_twin(root: Path, other: str) -> None:
    (root / "nut" / "train" / "good").rename(root / "nut" / "train" / other)
    with pytest.raises(DatasetError, match=rf"train/good is missing.*{other} is there.*rename it"):
        read_category(root, "nut", dataset="mine")


def test_two_images_of_one_stem_share_a_mask(root: Path) -> None:
    touch(root / "nut" / "test" / "crack" / "000.jpg")
    masks = [
        r.masks for r in read_category(root, "nut", dataset="mine").test if r.path.stem == "000" and r.label
    ]
    assert len(masks) == 2
    assert len(masks[0]) == 1
    assert masks[0] == masks[1]


@pytest.mark.parametrize(
    "name",
    [
        "dätä",
        "a b",
        "it's",
        'quo"te',
        "new\nline",
        "tab\tbed",
        "日本",
        "e\u0301",
        "😀",
        "x" * 200,
        "$HOME",
        "a,b=c",
        "*[?]",
    ],
)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    """Of the root, the category, the defect type and the images."""
    base = tmp_path / name / name
    touch(*(base / "train" / "good" / f"{name}{i}.png" for i in range(2)))
    touch(base / "test" / "good" / f"{name}.png", base / "test" / name / f"{name}.png")
    touch(base / "ground_truth" / name / f"{name}_mask.png")
    category = read_category(tmp_path / name, name, dataset=name)
    assert category.remarks == ()
    assert [r.label for r in category.test] == [int(r.defect == name) for r in category.test]
    assert sorted(r.defect for r in category.test) == sorted([name, "good"])
    assert all(r.path.exists() for r in category.test)
    assert [r.masks for r in category.test if r.label] == [
        (base / "ground_truth" / name / f"{name}_mask.png",)
    ]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list everything")
def test_unlistable_folder(root: Path) -> None:
    folder = root / "nut" / "train" / "good"
    folder.chmod(0)
    try:
        with pytest.raises(DatasetError, match=r"cannot list .*train/good"):
            read_category(root, "nut", dataset="mine")
    finally:
        folder.chmod(0o755)
