"""Odd images and masks in every layout: read as they are meant, told, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_sweep.datasets import Category, check_dataset, read_category, read_image
from anomaly_sweep.datasets.masks import read_mask
from anomaly_sweep.errors import DatasetError
from tests.support.layouts import WRITERS

#: Layouts whose masks decide what is defective are listed anew; all others open nothing.
LAYOUTS = sorted(WRITERS)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, str]:
    """Reader, root, first category."""
    written = WRITERS[request.param](tmp_path / "a set of ümläuts")
    return request.param, tmp_path / "a set of ümläuts", min(written)


def read(layout: tuple[str, Path, str]) -> Category:
    reader, root, name = layout
    return read_category(root, name, dataset="set", reader=reader)


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def turned(image: Image.Image) -> Image.Image:
    """On its side, with a note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = image.transpose(Image.Transpose.ROTATE_90)
    lying.info["exif"] = exif.tobytes()
    return lying


IMAGES: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "16-bit TIFF": ("TIFF", deep),
    "16-bit PNG": ("PNG", deep),
    "palette": ("PNG", lambda image: image.convert("P")),
    "grey": ("PNG", lambda image: image.convert("L")),
    "alpha": ("PNG", lambda image: image.convert("RGBA")),
    "CMYK": ("TIFF", lambda image: image.convert("CMYK")),
    "turned": ("PNG", turned),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_odd_images_are_read(layout: tuple[str, Path, str], kind: str) -> None:
    """Whatever the file is called: a suffix promises no format."""
    form, change = IMAGES[kind]
    category = read(layout)
    path = category.train[0].path
    before = read_image(path)
    odd = change(before)
    odd.save(path, format=form, **({"exif": odd.info["exif"]} if kind == "turned" else {}))
    assert read(layout) == category
    image = read_image(path)
    assert image.mode == "RGB"
    assert image.size == before.size
    grey = kind.startswith("16") or kind == "grey"
    expected = np.asarray(before.convert("L").convert("RGB") if grey else before, dtype=float)
    # A palette has 256 colours, CMYK rounds twice: the picture is the same, but for that.
    tolerance = {"palette": 60.0, "CMYK": 2.0}.get(kind, 0.0)
    assert np.abs(np.asarray(image, dtype=float) - expected).mean() <= tolerance


def test_a_float_image_is_refused_by_name(layout: tuple[str, Path, str]) -> None:
    path = read(layout).test[0].path
    Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)).save(path, format="TIFF")
    with pytest.raises(DatasetError, match=f"{path}.*floating-point intensities"):
        read_image(path)
    reader, root, name = layout
    told = [p.message for p in check_dataset(root, [name], reader=reader) if p.path == path]
    assert any("floating-point" in message for message in told)


MASKS: dict[str, Callable[[np.ndarray], Image.Image]] = {  # type: ignore[type-arg]
    "0 and 1": lambda marked: Image.fromarray(marked.astype(np.uint8)),
    "0 and 255": lambda marked: Image.fromarray(marked.astype(np.uint8) * np.uint8(255)),
    "colour": lambda marked: Image.fromarray(np.stack([marked * np.uint8(200)] * 3, axis=-1)),
    "classes": lambda marked: Image.fromarray(marked * (1 + np.arange(marked.size) % 2).astype(np.uint8)
                                              .reshape(marked.shape)),
    "16 bits": lambda marked: Image.fromarray(marked.astype(np.uint16) * np.uint16(65535)),
    "two levels": lambda marked: Image.fromarray(marked),
}  # fmt: skip


def first_mask(category: Category) -> Path:
    return next(record.masks[0] for record in category.test if record.masks)


@pytest.mark.parametrize("kind", MASKS)
def test_odd_masks_mark_the_same(layout: tuple[str, Path, str], kind: str) -> None:
    category = read(layout)
    path = first_mask(category)
    marked = read_mask(path).marked
    MASKS[kind](marked).save(path, format="PNG")
    assert read(layout) == category
    np.testing.assert_array_equal(read_mask(path).marked, marked)


def test_an_inverted_mask_is_told(layout: tuple[str, Path, str]) -> None:
    path = first_mask(read(layout))
    marked = read_mask(path).marked
    Image.fromarray((~marked).astype(np.uint8) * np.uint8(255)).save(path, format="PNG")
    reader, root, name = layout
    messages = [p.message for p in check_dataset(root, [name], reader=reader, input_size=32)]
    assert any(f"mask {path} marks " in text and "invert it" in text for text in messages)


def test_a_lossy_mask_is_read_and_told(layout: tuple[str, Path, str]) -> None:
    path = first_mask(read(layout))
    marked = read_mask(path).marked
    Image.fromarray(marked.astype(np.uint8) * np.uint8(255)).save(path, format="JPEG", quality=95)
    mask = read_mask(path)
    assert "lossy compression" in mask.remark
    np.testing.assert_array_equal(mask.marked, marked)


def test_a_mask_of_another_shape_is_told(layout: tuple[str, Path, str]) -> None:
    path = first_mask(read(layout))
    marked = read_mask(path).marked
    Image.fromarray(marked.T.copy().astype(np.uint8)).save(path, format="PNG")
    reader, root, name = layout
    messages = [p.message for p in check_dataset(root, [name], reader=reader, input_size=32)]
    assert any(f"mask {path} is " in text and "replace the mask" in text for text in messages)


@pytest.mark.parametrize("clutter", [".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", ".hidden.png"])
def test_hidden_and_system_files_are_no_one_s_business(layout: tuple[str, Path, str], clutter: str) -> None:
    category = read(layout)
    folders = {record.path.parent for record in category.images} | {layout[1]}
    folders |= {mask.parent for record in category.images for mask in record.masks}
    for folder in folders:
        (folder / clutter).write_bytes(b"")
    again = read(layout)
    assert again == category
    assert again.remarks == category.remarks == ()
