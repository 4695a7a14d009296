"""Decoding and resizing: every kind of file, and the fast decoder against Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly_sweep.datasets import read_image
from anomaly_sweep.datasets.masks import read_mask, to_square
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.features import images
from anomaly_sweep.features.images import decode, load_square
from tests.support.features import pixels, write_png


@pytest.mark.parametrize("shape", [(64, 64), (100, 37), (31, 200), (32, 32)])
def test_square_resize_is_pillows(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = pixels(1, *shape)
    path = write_png(tmp_path / "a.png", image)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    loaded = load_square(path, 32)
    assert loaded.shape == (32, 32, 3)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, expected)


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = pixels(2)[..., 0]
    path = write_png(tmp_path / "a.png", grey)
    np.testing.assert_array_equal(load_square(path, 64), np.repeat(grey[..., None], 3, axis=2))


def test_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(3)).quantize(17)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_square(tmp_path / "a.png", 64), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_its_whole_range(tmp_path: Path, name: str) -> None:
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).round().astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    loaded = load_square(tmp_path / name, 64)
    np.testing.assert_array_equal(loaded[..., 0], np.round(deep / 257))
    assert loaded.min() == 0
    assert loaded.max() == 255


def test_transparency_is_dropped(tmp_path: Path) -> None:
    image = np.dstack([pixels(4), np.full((64, 64), 10, np.uint8)])
    path = write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(load_square(path, 64), image[..., :3])


@pytest.mark.parametrize(("name", "tolerance"), [("a.bmp", 0), ("a.tif", 0), ("a.tiff", 0), ("a.jpg", 30)])
def test_other_formats(tmp_path: Path, name: str, tolerance: int) -> None:
    image = np.asarray(Image.fromarray(pixels(5, 8, 8)).resize((64, 64), Image.Resampling.BICUBIC))
    Image.fromarray(image).save(tmp_path / name)
    difference = np.abs(load_square(tmp_path / name, 64).astype(int) - image)
    assert difference.max() <= tolerance
    assert difference.mean() < 3


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.full((8, 8), 0.5, np.float32), "floating-point"),
        (np.full((8, 8), 70000, np.int32), "32-bit"),
        (np.full((8, 8), -1, np.int32), "32-bit"),
    ],
)
def test_intensities_without_a_range_are_refused(tmp_path: Path, values: np.ndarray, word: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DatasetError, match=word) as raised:
        load_square(path, 8)
    assert str(path) in str(raised.value)


def damaged_files() -> dict[str, bytes]:
    stream = io.BytesIO()
    Image.fromarray(pixels(6)).save(stream, "png")
    whole = stream.getvalue()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    return {
        "truncated": whole[: len(whole) // 2],
        "flipped byte": bytes(flipped),
        "header only": whole[:33],
        "text": b"no image",
        "empty": b"",
    }


@pytest.mark.parametrize("kind", damaged_files())
@pytest.mark.parametrize("fast", [True, False])
def test_damaged_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fast: bool
) -> None:
    if not fast:
        monkeypatch.setattr(images, "_fast_png", lambda: None)
    path = tmp_path / "broken.png"
    path.write_bytes(damaged_files()[kind])
    with pytest.raises(DatasetError) as raised:
        load_square(path, 32)
    assert str(path) in str(raised.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.png"):
        load_square(tmp_path / "absent.png", 32)


# The fast decoder.


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(image: np.ndarray, filters: list[int], *, interlaced: bool, extra: list[bytes]) -> bytes:
    """An 8-bit RGB PNG written by hand: any filter a line, Adam7, further chunks."""
    height, width = image.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]
    body = b""
    for x, y, dx, dy in passes:
        part = image[y::dy, x::dx].astype(np.int64)
        if part.size == 0:
            continue
        above = np.zeros_like(part[0])
        for number, line in enumerate(part):
            left = np.vstack([np.zeros((1, 3), np.int64), line[:-1]])
            corner = np.vstack([np.zeros((1, 3), np.int64), above[:-1]])
            guess = left + above - corner
            nearest = np.argmin([abs(guess - left), abs(guess - above), abs(guess - corner)], axis=0)
            paeth = np.choose(nearest, [left, above, corner])
            kind = filters[number % len(filters)]
            predicted = [0, left, above, (left + above) // 2, paeth][kind]
            body += bytes([kind]) + ((line - predicted) % 256).astype(np.uint8).tobytes()
            above = line
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, int(interlaced))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(body)),
            chunk(b"IEND", b""),
        ]
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.booleans(),
    st.sets(st.sampled_from(["gamma", "transparent colour", "resolution"])),
)
def test_fast_decoder_is_pixel_equal(
    tmp_path: Path, height: int, width: int, seed: int, filters: list[int], interlaced: bool, extra: set[str]
) -> None:
    pytest.importorskip("kornia_rs")
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    chunks = {
        "gamma": chunk(b"gAMA", struct.pack(">I", 90000)),
        "transparent colour": chunk(b"tRNS", struct.pack(">HHH", *map(int, image[0, 0]))),
        "resolution": chunk(b"pHYs", struct.pack(">IIB", 2835, 1000, 1)),
    }
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(image, filters, interlaced=interlaced, extra=[chunks[e] for e in sorted(extra)]))
    fast = images._decode_fast(path)
    assert fast is not None
    np.testing.assert_array_equal(np.asarray(fast), image)
    np.testing.assert_array_equal(np.asarray(read_image(path)), image)


def test_fast_decoder_only_reads_8_bit_rgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Recorder:
        @staticmethod
        def read_image(path: str) -> np.ndarray:
            asked.append(Path(path).name)
            return np.asarray(Image.open(path))

    monkeypatch.setattr(images, "_fast_png", lambda: Recorder)
    rgb = pixels(7, 8, 8)
    kinds = {
        "rgb.png": rgb,
        "rgba.png": np.dstack([rgb, rgb[..., 0]]),
        "grey.png": rgb[..., 0],
        "deep.png": rgb[..., 0].astype(np.uint16) * 257,
        "rgb.bmp": rgb,
        "rgb.jpg": rgb,
    }
    for name, image in kinds.items():
        decode(write_png(tmp_path / name, image))
    Image.fromarray(rgb).quantize(4).save(tmp_path / "palette.png")
    decode(tmp_path / "palette.png")
    assert asked == ["rgb.png"]


def test_what_is_readable_does_not_depend_on_the_fast_decoder(tmp_path: Path) -> None:
    """Pillow reads a PNG whose end marker is missing; the fast decoder does not."""
    image = pixels(8)
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(image, [0], interlaced=False, extra=[])[:-12])
    np.testing.assert_array_equal(np.asarray(decode(path)), image)


def test_mask_takes_the_nearest_pixel(tmp_path: Path) -> None:
    marked = np.zeros((40, 40), np.uint8)
    marked[10:20, 4:9] = 1  # any value marks
    Image.fromarray(marked).save(tmp_path / "m.png")
    np.testing.assert_array_equal(to_square(read_mask(tmp_path / "m.png").marked, 40), marked > 0)
    small = to_square(read_mask(tmp_path / "m.png").marked, 20)
    assert small.dtype == np.bool_
    assert small[5:10, 2:4].all()
    assert abs(int(small.sum()) - (marked > 0).sum() / 4) <= 5
    doubled = to_square(read_mask(tmp_path / "m.png").marked, 80)
    np.testing.assert_array_equal(doubled, np.kron(marked > 0, np.ones((2, 2), bool)))


@pytest.mark.parametrize(("size", "crop", "first"), [(64, 48, 8), (64, 33, 15), (40, 40, 0)])
def test_crop_is_the_centre(tmp_path: Path, size: int, crop: int, first: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "i.png")
    Image.fromarray(image[..., 0] > 99).save(tmp_path / "m.png")
    place = slice(first, first + crop)
    np.testing.assert_array_equal(load_square(tmp_path / "i.png", size, crop), image[place, place])
    np.testing.assert_array_equal(
        to_square(read_mask(tmp_path / "m.png").marked, size, crop), image[place, place, 0] > 99
    )
