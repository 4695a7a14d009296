"""The checker finds everything that is wrong, in one go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_sweep.datasets import check_dataset, count_images, read_category, read_image
from anomaly_sweep.datasets.mvtec_ad import OFFICIAL_COUNTS, TEXTURES
from anomaly_sweep.errors import DatasetError


def image(path: Path, size: tuple[int, int] = (8, 6), value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "data" / "nut"
    for i in range(3):
        image(base / "train" / "good" / f"{i}.png")
        image(base / "test" / "good" / f"{i}.png")
        image(base / "test" / "crack" / f"{i}.png")
        image(base / "ground_truth" / "crack" / f"{i}_mask.png")
    return tmp_path / "data"


def test_nothing_wrong(root: Path) -> None:
    assert check_dataset(root, official_counts=False) == []


def test_all_problems_at_once(root: Path) -> None:
    base = root / "nut"
    truncated = base / "train" / "good" / "1.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:3000])
    (base / "test" / "good" / "2.png").write_bytes(b"no image")
    (base / "ground_truth" / "crack" / "0_mask.png").write_bytes(b"")
    image(base / "ground_truth" / "crack" / "1_mask.png", size=(6, 8))
    image(base / "ground_truth" / "crack" / "2_mask.png", value=0)
    image(base / "ground_truth" / "crack" / "9_mask.png")
    image(base / "test" / "dent" / "0.png")
    image(root / "bolt" / "train" / "good" / "0.png")
    problems = check_dataset(root, official_counts=False)
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
    assert check_dataset(root, ["nut"], official_counts=False) == []
    (problem,) = check_dataset(root, ["nut", "gear"], official_counts=False)
    assert problem.category == "gear"
    assert "there are bolt, nut" in problem.message


def test_official_counts(root: Path) -> None:
    (root / "nut").rename(root / "bottle")
    problems = check_dataset(root, ["bottle"], official_counts=True)
    assert [p.message.removeprefix(str(root)) for p in problems] == [
        "/bottle/test/<defect> holds 3 images, MVTec AD has 63 there",
        "/bottle/test/good holds 3 images, MVTec AD has 20 there",
        "/bottle/train/good holds 3 images, MVTec AD has 209 there",
    ]
    everything = check_dataset(root, official_counts=True)
    assert {p.category for p in everything} == OFFICIAL_COUNTS.keys()


def test_official_counts_of_another_data_set(root: Path) -> None:
    (problem,) = check_dataset(root, ["nut"], official_counts=True)
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
        check_dataset(tmp_path / "absent", official_counts=False)


def test_read_image(root: Path) -> None:
    assert read_image(root / "nut" / "train" / "good" / "0.png").size == (8, 6)
    with pytest.raises(DatasetError, match=r"cannot decode .*absent\.png"):
        read_image(root / "absent.png")


def test_palette_mask_of_black_is_empty(root: Path) -> None:
    """What a palette's index says is a colour, not a mark."""
    mask = Image.new("P", (8, 6), 1)
    mask.putpalette([255, 255, 255, 0, 0, 0])
    mask.save(root / "nut" / "ground_truth" / "crack" / "0_mask.png")
    (problem,) = check_dataset(root, official_counts=False)
    assert "marks no pixel" in problem.message


@pytest.mark.real
def test_real_categories_are_complete() -> None:
    folder = os.environ.get("ANOMALY_SWEEP_REAL")
    if not folder:
        pytest.skip("ANOMALY_SWEEP_REAL does not name the folder that holds data/mvtec_ad_320")
    root = Path(folder) / "data" / "mvtec_ad_320"
    assert check_dataset(root, ["bottle", "transistor"], official_counts=True) == []
    for name in ("bottle", "transistor"):
        assert count_images(read_category(root, name, dataset="mvtec_ad")) == OFFICIAL_COUNTS[name]
