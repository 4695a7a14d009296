"""The synthetic data set: complete, reproducible, with masks that tell the truth."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from anomaly_sweep.datasets import check_dataset, count_images, list_categories, read_category
from anomaly_sweep.datasets.readers.mvtec_ad import OFFICIAL_COUNTS
from anomaly_sweep.datasets.synthetic import CATEGORIES, PRODUCTS, generate, render
from anomaly_sweep.datasets.synthetic.catalogue import Product
from anomaly_sweep.datasets.synthetic.render import Pair, render_defective, render_good
from anomaly_sweep.errors import DatasetError

Picture = NDArray[np.uint8]
SMALL = {"size": 32, "n_train": 2, "n_test_good": 1, "n_per_defect": 1}


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {p.relative_to(root).as_posix(): hashlib.blake2b(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    generate(root, **SMALL)
    return root


def test_layout(small: Path) -> None:
    assert list_categories(small) == sorted(CATEGORIES)
    assert len(CATEGORIES) == 15
    assert not set(CATEGORIES) & OFFICIAL_COUNTS.keys()
    for name in CATEGORIES:
        category = read_category(small, name, dataset="synthetic")
        assert count_images(category) == (2, 1, 3)
        assert all(r.masks for r in category.test if r.label)
    assert check_dataset(small) == []
    assert [path.name for path in small.parent.iterdir()] == ["data"]  # nothing temporary is left


def test_same_seed_same_bytes_other_seed_other_bytes(small: Path, tmp_path: Path) -> None:
    generate(tmp_path / "same", **SMALL)
    first = contents(small)
    assert contents(tmp_path / "same") == first
    generate(tmp_path / "other", seed=1, **SMALL)
    other = contents(tmp_path / "other")
    assert other.keys() == first.keys()
    images = [name for name in first if name.endswith(".png") and "ground_truth" not in name]
    assert all(other[name] != first[name] for name in images)
    assert len({first[name] for name in images}) == len(images)


def test_images_do_not_depend_on_each_other(small: Path, tmp_path: Path) -> None:
    generate(tmp_path / "more", **{**SMALL, "n_train": 3, "n_test_good": 2})
    more = contents(tmp_path / "more")
    for name, digest in contents(small).items():
        if name.endswith(".png"):
            assert more[name] == digest, name


CASES = [(p, i, d) for i, p in enumerate(PRODUCTS) for d in p.defects]


@pytest.mark.parametrize(("product", "number", "defect"), CASES, ids=[f"{p.name}-{d}" for p, _, d in CASES])
def test_masks_are_exact(product: Product, number: int, defect: str) -> None:
    key = (0, number, 2, 5)
    pair = render_defective(product, defect, 64, key)
    # The clean picture of the pair is the one that a normal picture of the same streams would be.
    np.testing.assert_array_equal(pair.clean, render_good(product, 64, key))
    differs = (pair.clean != pair.defective).any(axis=-1)
    assert not differs[~pair.mask].any()
    # Inside, pixels that happen to agree are enclosed by others that do not.
    enclosed = pair.mask & ~differs
    assert enclosed.sum() <= 0.5 * pair.mask.sum()
    assert (ndimage.binary_dilation(differs, iterations=2) | ~pair.mask).all()
    share = pair.mask.mean()
    assert 4 / 64**2 <= share < 0.25  # there, and not everywhere


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda p: p.name)
def test_every_kind_of_defect_is_drawn(product: Product) -> None:
    """A misspelt defect of shape would draw nothing, and rendering refuses that."""
    assert len(product.defects) == 3
    assert all(0.0 <= low < high <= 1.0 for low, high in product.defects.values())
    with pytest.raises(RuntimeError, match="invisible"):
        render_defective(_with_defect(product, "no_such_fault"), "no_such_fault", 32, (0, 0, 2, 0))


def _with_defect(product: Product, defect: str) -> Product:
    return Product(product.name, product.draw, {defect: (0.0, 1.0)})


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[list[Picture], dict[str, list[Pair]]]]:
    """Good pictures of every product and some of each of its defects, at 48 pixels."""
    return {
        product.name: (
            [render_good(product, 48, (0, number, 0, i)) for i in range(30)],
            {
                defect: [render_defective(product, defect, 48, (0, number, 2 + place, i)) for i in range(5)]
                for place, defect in enumerate(product.defects)
            },
        )
        for number, product in enumerate(PRODUCTS)
    }


def _histogram(picture: Picture) -> NDArray[np.float64]:
    """Of each colour, together 1."""
    counts = [np.histogram(picture[..., c], 32, (0, 256))[0] for c in range(3)]
    return np.concatenate(counts) / picture.size


@pytest.mark.parametrize("name", CATEGORIES)
def test_normal_pictures_vary_more_than_defects_change(
    name: str, drawn: dict[str, tuple[list[Picture], dict[str, list[Pair]]]]
) -> None:
    """In pixels and in the colours' shares: neither how different a picture is nor its colours tell."""
    good, defects = drawn[name]
    pairs = list(itertools.combinations(good[:10], 2))
    between = np.mean([np.linalg.norm(a.astype(float) - b) for a, b in pairs])
    colours = np.median([np.abs(_histogram(a) - _histogram(b)).sum() for a, b in pairs])
    for defect, some in defects.items():
        change = [np.linalg.norm(pair.clean.astype(float) - pair.defective) for pair in some]
        recoloured = [np.abs(_histogram(pair.clean) - _histogram(pair.defective)).sum() for pair in some]
        assert np.mean(change) < between, defect
        assert np.mean(recoloured) < colours, defect


@pytest.mark.parametrize("name", CATEGORIES)
def test_defects_lie_off_the_leading_directions(
    name: str, drawn: dict[str, tuple[list[Picture], dict[str, list[Pair]]]]
) -> None:
    """What the reductions are about: light and pose own the leading tenth of the directions, defects do not.

    The share of a change's energy that lies in them, against that of normal pictures not seen before.
    """
    good, defects = drawn[name]
    seen = np.stack([picture.astype(float).ravel() for picture in good[:20]])
    mean = seen.mean(0)
    leading = np.linalg.svd(seen - mean, full_matrices=False)[2][:2]

    def share(changes: NDArray[np.float64]) -> float:
        return float((np.square(changes @ leading.T).sum(1) / np.square(changes).sum(1)).mean())

    normal = share(np.stack([picture.astype(float).ravel() for picture in good[20:]]) - mean)
    wrong = np.concatenate(
        [[(pair.defective.astype(float) - pair.clean).ravel() for pair in some] for some in defects.values()]
    )
    assert share(wrong) < 0.75 * normal


def test_defects_are_of_several_scales(
    drawn: dict[str, tuple[list[Picture], dict[str, list[Pair]]]],
) -> None:
    """From a pin to an arm: medians of the masks' shares of the picture by defect."""
    areas = {
        (name, defect): float(np.median([pair.mask.mean() for pair in some]))
        for name, (_, defects) in drawn.items()
        for defect, some in defects.items()
    }
    assert max(areas.values()) > 10 * min(areas.values())
    assert sum(area < 0.01 for area in areas.values()) >= 5  # about 5 pixels wide and less
    assert sum(area > 0.03 for area in areas.values()) >= 5


def test_finished_set_is_left_alone(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr("anomaly_sweep.datasets.synthetic.render.shot", never)
    generate(small, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_other_parameters_are_refused(small: Path) -> None:
    with pytest.raises(DatasetError, match=r"other parameters .*'seed': 0.*'seed': 7.*delete this one first"):
        generate(small, **SMALL, seed=7)
    assert json.loads((small / "synthetic.json").read_text())["seed"] == 0


@pytest.mark.parametrize("name", ["holiday.png", "synthetic.json"])
def test_foreign_folder_is_refused_and_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("not ours")
    with pytest.raises(DatasetError, match="is not a synthetic data set"):
        generate(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "not ours"


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatasetError, match="choose another folder"):
        generate(tmp_path / "data", **SMALL)


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    generate(tmp_path / "data", **SMALL)
    assert list_categories(tmp_path / "data") == sorted(CATEGORIES)


def test_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = render.shot, itertools.count()

    def interrupted(*arguments: object) -> object:
        if next(calls) == 9:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(render, "shot", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "data", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_killed_generation_does_not_look_complete(tmp_path: Path) -> None:
    """What a killed process leaves is a hidden folder beside; the next call ignores it."""
    (tmp_path / ".data.abc.part" / "linen").mkdir(parents=True)
    generate(tmp_path / "data", **SMALL)
    assert check_dataset(tmp_path / "data") == []


@pytest.mark.parametrize(
    ("name", "value"), [("size", 31), ("n_train", 1), ("n_test_good", 0), ("n_per_defect", 0), ("seed", -1)]
)
def test_numbers_out_of_range(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(DatasetError, match=f"{name}={value} is too small"):
        generate(tmp_path / "data", **{**SMALL, name: value})
    assert not (tmp_path / "data").exists()


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot write the synthetic data set to .*data"):
        generate(tmp_path / "file" / "data", **SMALL)
