"""The folder reader: what it lists, and what it says when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from anomaly_sweep.datasets import list_categories, read_category
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
    assert category.test[0].mask == root / "nut" / "ground_truth" / "crack" / "000_mask.png"
    assert category.test[1].mask is None  # missing masks are fine
    labels = category.test_labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 1, 0]


def test_relative_root_gives_absolute_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    category = read_category(Path("data"), "nut", dataset="mine")
    assert all(r.path.is_absolute() and r.path.is_file() for r in category.train + category.test)


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
    assert category.test[1].mask == base / "ground_truth" / "crack" / "001.png"
    assert {r.defect for r in category.test} == {"good", "crack"}


def test_suffixed_mask_wins_over_plain(root: Path) -> None:
    touch(root / "nut" / "ground_truth" / "crack" / "000.png")
    mask = read_category(root, "nut", dataset="mine").test[0].mask
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


@pytest.mark.parametrize("mask", ["crack/007_mask.png", "dent/000_mask.png"])
def test_mask_without_image(root: Path, mask: str) -> None:
    touch(root / "nut" / "ground_truth" / mask)
    with pytest.raises(DatasetError, match=rf"mask .*{mask} has no image"):
        read_category(root, "nut", dataset="mine")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list everything")
def test_unlistable_folder(root: Path) -> None:
    folder = root / "nut" / "train" / "good"
    folder.chmod(0)
    try:
        with pytest.raises(DatasetError, match=r"cannot list .*train/good"):
            read_category(root, "nut", dataset="mine")
    finally:
        folder.chmod(0o755)
