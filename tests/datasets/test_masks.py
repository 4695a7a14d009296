"""Masks read by what they are: every way to write the same marks gives the same marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from anomaly_sweep.datasets.masks import FEW_LEVELS, read_mask, to_square
from anomaly_sweep.errors import DatasetError
from tests.support.orientation import UPRIGHT, exif

MARKED = np.zeros((40, 56), bool)
MARKED[5:17, 8:21] = MARKED[30:33, 40:56] = MARKED[22, 3:30] = MARKED[39, 55] = True
BYTE = MARKED.astype(np.uint8)
WHITE = (255, 255, 255)


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values)


def colours(background: tuple[int, ...], mark: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.where(MARKED[..., None], mark, background).astype(np.uint8))


def palette(background: tuple[int, int, int], mark: tuple[int, int, int], **info: object) -> Image.Image:
    image = Image.frombytes("P", (56, 40), BYTE.tobytes())
    image.putpalette([*background, *mark])
    image.info.update(info)
    return image


def opacity(colour: np.ndarray | int, alpha: np.ndarray | int) -> Image.Image:
    planes = [np.broadcast_to(np.asarray(plane, np.uint8), MARKED.shape) for plane in (colour, alpha)]
    return Image.fromarray(np.dstack([planes[0], planes[0], planes[0], planes[1]]))


def cmyk() -> Image.Image:
    return grey(BYTE * 255).convert("RGB").convert("CMYK")


def black_ink() -> Image.Image:
    """As print software writes grey: the black plate alone."""
    inks = np.zeros((*MARKED.shape, 4), np.uint8)
    inks[..., 3] = np.where(MARKED, 0, 255)
    return Image.frombytes("CMYK", (56, 40), inks.tobytes())


def labels() -> np.ndarray:
    """Three types of defect, as label tools number them."""
    values = BYTE.copy()
    values[30:33] *= 2
    values[22] *= 3
    return values


PLAIN: dict[str, tuple[str, Callable[[], Image.Image]]] = {
    "1 bit": ("png", lambda: grey(MARKED)),
    "1 bit, bmp": ("bmp", lambda: grey(MARKED)),
    "1 bit, fax": ("tif", lambda: grey(MARKED)),
    "0/1": ("png", lambda: grey(BYTE)),
    "0/255": ("png", lambda: grey(BYTE * 255)),
    "0/234": ("png", lambda: grey(BYTE * 234)),
    "0/255, bmp": ("bmp", lambda: grey(BYTE * 255)),
    "0/255, tiff": ("tif", lambda: grey(BYTE * 255)),
    "0/255, pgm": ("pgm", lambda: grey(BYTE * 255)),
    "labels": ("png", lambda: grey(labels())),
    "labels of colours": ("png", lambda: grey(np.dstack([labels() == i for i in (1, 2, 3)]) * np.uint8(99))),
    "rgb": ("png", lambda: colours((0, 0, 0), (255, 255, 255))),
    "red": ("png", lambda: colours((0, 0, 0), (255, 0, 0))),
    "dark blue": ("png", lambda: colours((0, 0, 0), (0, 0, 1))),
    "opaque": ("png", lambda: opacity(BYTE * 255, 255)),
    "wholly transparent": ("png", lambda: opacity(BYTE * 255, 0)),
    "white of opacity": ("png", lambda: opacity(255, BYTE * 255)),
    "black of opacity": ("png", lambda: opacity(0, BYTE * 255)),
    "opacity 0/1": ("png", lambda: opacity(255, BYTE)),
    "marks on transparent white": ("png", lambda: opacity(255, BYTE * 128)),
    "opacity, webp": ("webp", lambda: opacity(255, BYTE * 255)),
    "opacity, tiff": ("tif", lambda: opacity(255, BYTE * 255)),
    "grey of opacity": ("png", lambda: opacity(255, BYTE * 255).convert("LA")),
    "palette": ("png", lambda: palette((0, 0, 0), (255, 255, 255))),
    "palette of labels": ("png", lambda: palette((0, 0, 0), (128, 0, 0))),
    "palette, gif": ("gif", lambda: palette((0, 0, 0), (255, 255, 255))),
    "palette, transparent white": ("png", lambda: palette(WHITE, (255, 0, 0), transparency=b"\0\xff")),
    "palette, transparent index": ("gif", lambda: palette(WHITE, (255, 0, 0), transparency=0)),
    "16 bits, 0/1": ("png", lambda: grey(MARKED.astype(np.uint16))),
    "16 bits, 0/65535": ("png", lambda: grey(MARKED.astype(np.uint16) * 65535)),
    "16 bits, 0/256": ("tif", lambda: grey(MARKED.astype(np.uint16) * 256)),
    "32 bits": ("tif", lambda: grey(MARKED.astype(np.int32) * 100_000)),
    "float 0/1": ("tif", lambda: grey(MARKED.astype(np.float32))),
    "float 0/255": ("tif", lambda: grey(MARKED.astype(np.float32) * 255)),
    "cmyk": ("tif", cmyk),
    "black ink": ("tif", black_ink),
    "lossless webp": ("webp", lambda: grey(BYTE * 255)),
    "lossless jpeg 2000": ("jp2", lambda: grey(BYTE * 255)),
}  # fmt: skip


@pytest.mark.parametrize("case", PLAIN)
def test_plain_masks(tmp_path: Path, case: str) -> None:
    suffix, make = PLAIN[case]
    path = tmp_path / f"m.{suffix}"
    make().save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    mask = read_mask(path)
    assert mask.marked.dtype == np.bool_
    assert mask.size == (56, 40)
    np.testing.assert_array_equal(mask.marked, MARKED)
    assert mask.remark == ""
    np.testing.assert_array_equal(
        to_square(read_mask(path).marked, 40), Image.fromarray(MARKED).resize((40, 40), 0)
    )


SMOOTHED: dict[str, tuple[str, Callable[[], Image.Image], dict[str, object]]] = {
    # Half of 255 is more than a pixel's error, a quarter of half the sum of the quantisation table (46 at
    # quality 95, 93 at 90): the marks are exact.
    "jpeg 100": ("jpg", lambda: grey(BYTE * 255), {"quality": 100}),
    "jpeg 95": ("jpg", lambda: grey(BYTE * 255), {"quality": 95}),
    "jpeg 90": ("jpg", lambda: grey(BYTE * 255), {"quality": 90}),
    "jpeg 95 of colours": ("jpg", lambda: colours((0, 0, 0), (255, 255, 255)), {"quality": 95}),
    "jpeg 95, cmyk": ("jpg", cmyk, {"quality": 95}),
    "jpeg 95, black ink": ("jpg", black_ink, {"quality": 95}),
    "jpeg named png": ("png", lambda: grey(BYTE * 255), {"format": "jpeg", "quality": 95}),
    "blurred edges": ("png", lambda: ramp(MARKED), {}),
    "blurred opacity": ("png", lambda: opacity(255, np.asarray(ramp(MARKED))), {}),
    "16 bits, many levels": ("png", lambda: grey(np.asarray(ramp(MARKED)).astype(np.uint16) * 257), {}),
}


def ramp(marked: np.ndarray) -> Image.Image:
    """Marks and background as two bands of many values, as a smoothed mask has."""
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 127, marked.shape), rng.integers(129, 256, marked.shape)
    values = np.where(marked, high, low).astype(np.uint8)
    values[0, 0], values[10, 10] = 0, 255
    return Image.fromarray(values)


@pytest.mark.parametrize("case", SMOOTHED)
def test_smoothed_masks(tmp_path: Path, case: str) -> None:
    suffix, make, options = SMOOTHED[case]
    path = tmp_path / f"m.{suffix}"
    make().save(path, **options)
    mask = read_mask(path)
    np.testing.assert_array_equal(mask.marked, MARKED)
    assert "above half of its largest value" in mask.remark
    assert "two-level PNG" in mask.remark


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: grey(np.where(MARKED, 2, 1).astype(np.uint8)), "1"),
        (lambda: grey(np.where(MARKED, 255, 64).astype(np.uint8)), "64"),
        (lambda: palette((68, 1, 84), (253, 231, 37)), "84"),
        (lambda: colours((10, 20, 30), (255, 255, 255)), "30"),
    ],
)
def test_background_that_is_not_zero(tmp_path: Path, make: Callable[[], Image.Image], least: str) -> None:
    make().save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    np.testing.assert_array_equal(mask.marked, MARKED)
    assert f"the least value, {least}, is read as the background" in mask.remark


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif"])
@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_one_value(tmp_path: Path, suffix: str, value: int) -> None:
    """Nothing is marked, or the whole image."""
    Image.new("L", (16, 24), value).save(tmp_path / f"m.{suffix}", quality=100)
    mask = read_mask(tmp_path / f"m.{suffix}")
    assert mask.size == (16, 24)
    assert mask.marked.all() if value else not mask.marked.any()


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(tmp_path: Path, turn: int) -> None:
    """A mask turns as its image does."""
    grey(BYTE * 255).save(tmp_path / "m.png", exif=exif(turn))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").marked, UPRIGHT[turn](MARKED))


@pytest.mark.parametrize("values", [np.nan, np.inf, -1.0])
def test_numbers_that_mark_nothing_are_refused(tmp_path: Path, values: float) -> None:
    grey(np.where(MARKED, values, 0).astype(np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(DatasetError, match=r"m\.tif holds values that are negative or not finite"):
        read_mask(tmp_path / "m.tif")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    st.lists(st.integers(1, 255), min_size=1, max_size=FEW_LEVELS - 1),
    st.integers(0, 2**32 - 1),
)
def test_labels_mark_whatever_their_values(
    tmp_path: Path, marked: np.ndarray, values: list[int], seed: int
) -> None:
    marked[0, 0] = False  # some background
    drawn = np.random.default_rng(seed).choice(values, marked.shape).astype(np.uint8)
    grey(np.where(marked, drawn, 0).astype(np.uint8)).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    np.testing.assert_array_equal(mask.marked, marked)
    assert mask.remark == ""
