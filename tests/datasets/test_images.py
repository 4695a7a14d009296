"""Images as they are meant, or refused by name: orientation, modes, formats, several pictures, damage."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from anomaly_sweep.datasets import read_image
from anomaly_sweep.datasets.images import FORMATS, SUFFIXES
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.features.images import decode, load_square
from tests.support.orientation import UPRIGHT, exif

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def noise(height: int = 12, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def raw_profile(orientation: int) -> PngImagePlugin.PngInfo:
    """As ImageMagick writes EXIF data into a PNG's text."""
    data = exif(orientation)
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8d}\n{data.hex()}\n")
    return info


def xmp_text(orientation: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.format(orientation))
    return info


def late_exif(path: Path, image: Image.Image, orientation: int) -> None:
    """A PNG whose EXIF chunk stands behind the picture."""
    stream = io.BytesIO()
    image.save(stream, "png")
    body, end = stream.getvalue()[:-12], stream.getvalue()[-12:]
    data = exif(orientation).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    path.write_bytes(body + chunk + end)


def jpeg_xmp(path: Path, image: Image.Image, orientation: int) -> None:
    """A JPEG with an XMP segment (APP1) behind the start of the image."""
    stream = io.BytesIO()
    image.save(stream, "jpeg")
    segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP.format(orientation).encode()
    start, rest = stream.getvalue()[:2], stream.getvalue()[2:]
    path.write_bytes(start + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + rest)


def tiff(compression: str | None) -> Callable[[Path, Image.Image, int], None]:
    return lambda path, image, turn: image.save(path, tiffinfo={274: turn}, compression=compression)


ORIENTED: dict[str, tuple[str, Callable[[Path, Image.Image, int], None]]] = {
    "png": ("png", lambda path, image, turn: image.save(path, exif=exif(turn))),
    "png, late": ("png", late_exif),
    "png, XMP": ("png", lambda path, image, turn: image.save(path, pnginfo=xmp_text(turn))),
    "png, raw profile": ("png", lambda path, image, turn: image.save(path, pnginfo=raw_profile(turn))),
    "webp": ("webp", lambda path, image, turn: image.save(path, lossless=True, exif=exif(turn))),
    "tiff": ("tif", tiff(None)),
    "tiff, lzw": ("tif", tiff("tiff_lzw")),
    "tiff, deflate": ("tif", tiff("tiff_adobe_deflate")),
    "jpeg": ("jpg", lambda path, image, turn: image.save(path, exif=exif(turn))),
    "jpeg, XMP": ("jpg", jpeg_xmp),
    "jpeg named png": ("png", lambda path, image, turn: image.save(path, "jpeg", exif=exif(turn))),
}


@pytest.mark.parametrize("turn", UPRIGHT)
@pytest.mark.parametrize("kind", ORIENTED)
def test_orientation(tmp_path: Path, kind: str, turn: int) -> None:
    suffix, save = ORIENTED[kind]
    path, plain = tmp_path / f"a.{suffix}", tmp_path / f"plain.{suffix}"
    save(path, Image.fromarray(noise()), turn)
    save(plain, Image.fromarray(noise()), 1)
    lying = np.asarray(Image.open(plain).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_image(path)), UPRIGHT[turn](lying))
    np.testing.assert_array_equal(np.asarray(decode(path)), UPRIGHT[turn](lying))
    if "tiff" not in kind:  # which Pillow turns when it loads it
        np.testing.assert_array_equal(
            np.asarray(ImageOps.exif_transpose(Image.open(path))), UPRIGHT[turn](lying)
        )
    resized = Image.fromarray(UPRIGHT[turn](lying)).resize((5, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(load_square(path, 5), np.asarray(resized))


@pytest.mark.parametrize("turn", [0, 9, 65535])
def test_orientations_that_are_none(tmp_path: Path, turn: int) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif(turn))
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "a.png")), noise())


@pytest.mark.parametrize(
    "data", [b"", b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x" * 99]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_damaged_exif_data_leave_the_picture_as_it_lies(tmp_path: Path, suffix: str, data: bytes) -> None:
    Image.fromarray(noise()).save(tmp_path / f"plain.{suffix}", lossless=True)
    Image.fromarray(noise()).save(tmp_path / f"a.{suffix}", exif=data, lossless=True)
    expected = np.asarray(Image.open(tmp_path / f"plain.{suffix}").convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / f"a.{suffix}")), expected)


# Modes and formats.

LOSSLESS = {
    "png": ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"],
    "bmp": ["1", "L", "P", "RGB"],
    "tif": ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "I;16B", "CMYK", "YCbCr"],
    "webp": ["L", "P", "RGB", "RGBA"],
    "gif": ["1", "L", "P"],
    "ppm": ["RGB"],
    "pgm": ["L", "I;16"],
    "pbm": ["1"],
    "jp2": ["L", "RGB", "LA", "RGBA"],
}


def picture(mode: str, height: int, width: int, seed: int) -> tuple[Image.Image, np.ndarray]:
    """An image of a mode, and what it shows as 8-bit RGB, from the definition of the mode."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    grey, alpha = colours[..., 0], rng.integers(0, 256, (height, width), dtype=np.uint8)
    as_grey = np.repeat(grey[..., None], 3, axis=2)
    if mode == "1":
        return Image.fromarray(grey > 99), np.where(as_grey > 99, 255, 0).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(grey), as_grey
    if mode == "P":
        palette = rng.permuted(np.arange(768) % 256).astype(np.uint8)
        image = Image.fromarray(grey, "L")
        image = Image.frombytes("P", (width, height), grey.tobytes())
        image.putpalette(palette.tolist())
        return image, palette.reshape(256, 3)[grey]
    if mode == "LA":
        return Image.fromarray(np.dstack([grey, alpha])), as_grey
    if mode == "RGBA":
        return Image.fromarray(np.dstack([colours, alpha])), colours
    if mode in ("I;16", "I;16B"):
        deep = rng.integers(0, 65536, (height, width)).astype(np.uint16)
        shown = np.round(deep / 257).astype(np.uint8)
        native = deep.astype(">u2") if mode == "I;16B" else deep
        image = Image.frombytes(mode, (width, height), native.tobytes())
        return image, np.repeat(shown[..., None], 3, axis=2)
    if mode == "CMYK":
        inks = np.dstack([colours, alpha])
        image = Image.frombytes("CMYK", (width, height), inks.tobytes())
        light = (255 - colours.astype(float)) * (255 - alpha[..., None].astype(float)) / 255
        return image, light.round().astype(np.uint8)
    if mode == "YCbCr":
        image = Image.frombytes("YCbCr", (width, height), colours.tobytes())
        y, cb, cr = np.moveaxis(colours.astype(float), -1, 0)
        light = [
            y + 1.402 * (cr - 128),
            y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
            y + 1.772 * (cb - 128),
        ]
        return image, np.dstack(light).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(colours), colours


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_mode_in_every_format(tmp_path: Path, data: st.DataObject, h: int, w: int, seed: int) -> None:
    suffix = data.draw(st.sampled_from(sorted(LOSSLESS)))
    mode = data.draw(st.sampled_from(LOSSLESS[suffix]))
    image, shown = picture(mode, h, w, seed)
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True, "exact": True}, "jp2": {"irreversible": False}}
    image.save(path, **options.get(suffix, {}))
    found = np.asarray(read_image(path))
    assert found.shape == (h, w, 3)
    assert found.dtype == np.uint8
    # Pillow's CMYK and YCbCr are fixed-point: one step of rounding.
    tolerance = 1 if mode in ("CMYK", "YCbCr") else 0
    assert np.abs(found.astype(int) - shown).max() <= tolerance
    np.testing.assert_array_equal(np.asarray(decode(path)), found)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_a_format_s(tmp_path: Path, suffix: str) -> None:
    assert Image.registered_extensions()[suffix] in FORMATS
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    picture(mode, 16, 16, 0)[0].save(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").size == (16, 16)


def tiff_by_hand(path: Path, tags: dict[int, tuple[int, int, int]], body: bytes) -> None:
    """A little-endian TIFF of one strip: tag -> (type, count, value)."""
    tags = {**tags, 273: (4, 1, 8 + 2 + 12 * (len(tags) + 2) + 4), 279: (4, 1, len(body))}
    entries = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + struct.pack("<I" if kind == 4 else "<HH", *([value] if kind == 4 else [value, 0]))
        for tag, (kind, count, value) in sorted(tags.items())
    )
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + body)


def grey_tiff(bits: int, photometric: int, sample_format: int = 1) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, 4), 257: (4, 1, 2), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, photometric),
        277: (3, 1, 1), 278: (4, 1, 2), 339: (3, 1, sample_format),
    }  # fmt: skip


def test_12_bit_tiff_keeps_its_whole_range(tmp_path: Path) -> None:
    values = [0, 4095, 2048, 16, 1, 4094, 1000, 3000]
    body = b"".join(
        bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
        for a, b in zip(values[::2], values[1::2], strict=True)
    )
    tiff_by_hand(tmp_path / "a.tif", grey_tiff(12, 1), body)
    found = np.asarray(read_image(tmp_path / "a.tif"))[..., 0].ravel()
    assert np.abs(found - np.array(values) * 255 / 4095).max() <= 0.5 + 255 / 65535


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_white_is_zero(tmp_path: Path, bits: int, dtype: type) -> None:
    peak = np.iinfo(dtype).max
    values = (np.arange(8) * (peak // 8)).astype(dtype)
    tiff_by_hand(tmp_path / "a.tif", grey_tiff(bits, 0), values.tobytes())
    found = np.asarray(read_image(tmp_path / "a.tif"))[..., 0].ravel()
    np.testing.assert_array_equal(found, np.round((peak - values.astype(float)) * (255 / peak)))


def save_array(values: np.ndarray) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(values).save(path)


NO_FORMAT = "no image of a format that is read"
FLOAT = "floating-point"


def animation(kind: str) -> Callable[[Path], None]:
    frames = [Image.fromarray(noise(seed=i)) for i in range(3)]
    return lambda path: frames[0].save(path, kind, save_all=True, append_images=frames[1:])


REFUSED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "float": ("a.tif", save_array(np.full((8, 8), 0.5, np.float32)), "floating-point"),
    "float NaN": ("a.tif", save_array(np.full((8, 8), np.nan, np.float32)), "floating-point"),
    "portable float map": ("a.ppm", lambda p: p.write_bytes(b"Pf\n2 2\n-1.0\n" + bytes(16)), FLOAT),
    "32 bits": ("a.tif", save_array(np.full((8, 8), 200, np.int32)), "32-bit integer"),
    "signed 8 bits": ("a.tif", lambda p: tiff_by_hand(p, grey_tiff(8, 1, 2), bytes(8)), "signed"),
    "signed 16 bits": ("a.tif", lambda p: tiff_by_hand(p, grey_tiff(16, 1, 2), bytes(16)), "signed"),
    "gif animation": ("a.gif", animation("gif"), "GIF file holds 3 pictures"),
    "png animation": ("a.png", animation("png"), "PNG file holds 3 pictures"),
    "webp animation": ("a.webp", animation("webp"), "WEBP file holds 3 pictures"),
    "tiff pages": ("a.tif", animation("tiff"), "TIFF file holds 3 pictures"),
    "empty": ("a.png", lambda p: p.write_bytes(b""), "the file is empty"),
    "text": ("a.png", lambda p: p.write_bytes(b"no image"), NO_FORMAT),
    "html": ("a.jpg", lambda p: p.write_bytes(b"<!DOCTYPE html><title>404</title>"), NO_FORMAT),
    "git-lfs pointer": ("a.png", lambda p: p.write_bytes(b"version https://git-lfs.github.com"), NO_FORMAT),
    "postscript": ("a.png", lambda p: Image.new("L", (8, 8)).save(p, "eps"), NO_FORMAT),
    "pdf": ("a.png", lambda p: Image.new("L", (8, 8)).save(p, "pdf"), NO_FORMAT),
    "icon": ("a.png", lambda p: Image.new("L", (16, 16)).save(p, "ico"), NO_FORMAT),
    "tga": ("a.png", lambda p: Image.new("L", (16, 16)).save(p, "tga"), NO_FORMAT),
    "svg": ("a.png", lambda p: p.write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), NO_FORMAT),
    "array": ("a.png", lambda p: p.write_bytes(b"\x93NUMPY" + bytes(99)), NO_FORMAT),
    "folder": ("a.png", lambda p: p.mkdir(), "cannot decode"),
    "absent": ("a.png", lambda p: None, "there is no such file"),
    "bomb": ("a.png", lambda p: bomb(p), "decompression bomb"),
    "no width": ("a.png", lambda p: bomb(p, 0, 5), "cannot decode"),
}  # fmt: skip


def bomb(path: Path, width: int = 60_000, height: int = 60_000) -> None:
    """A PNG of a few bytes that unpacks to gigabytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    name, write, message = REFUSED[case]
    path = tmp_path / name
    write(path)
    for reader in (read_image, decode):
        with pytest.raises(DatasetError) as raised:
            reader(path)
        assert message in str(raised.value)
        assert str(path) in str(raised.value)


def test_reduced_pages_belong_to_the_first(tmp_path: Path) -> None:
    """Pyramids and thumbnails."""
    first, small = Image.fromarray(noise()), Image.fromarray(noise(6, 3))
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "a.tif", new=True) as file:
        first.save(file, "tiff")
        file.newFrame()
        small.save(file, "tiff", tiffinfo={254: 1})
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 2
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif")), noise())


def test_camera_pictures_come_first(tmp_path: Path) -> None:
    first = Image.fromarray(noise(16, 16))
    first.save(tmp_path / "a.jpg", "mpo", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    first.save(tmp_path / "b.jpg")
    expected = np.asarray(Image.open(tmp_path / "b.jpg"))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.jpg")), expected)


def test_one_frame_is_no_animation(tmp_path: Path) -> None:
    image = Image.fromarray(noise()).quantize(200)
    image.save(tmp_path / "a.gif", save_all=True)
    image.save(tmp_path / "a.png", save_all=True)
    for name in ("a.gif", "a.png"):
        np.testing.assert_array_equal(
            np.asarray(read_image(tmp_path / name)), np.asarray(image.convert("RGB"))
        )


def test_content_tells_the_format_not_the_name(tmp_path: Path) -> None:
    for kind in ("png", "bmp", "tiff", "gif"):
        Image.new("RGB", (5, 4), (9, 9, 9)).save(tmp_path / "a.jpg", kind)
        assert read_image(tmp_path / "a.jpg").size == (5, 4)


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff", "webp", "gif", "ppm", "jpeg2000"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
@example(share=0.5)
def test_truncated_files_are_refused_or_whole(tmp_path: Path, kind: str, share: float) -> None:
    """What is cut off may be a trailer; a picture that lacks anything is refused."""
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(stream, kind)
    whole = stream.getvalue()
    path, cut = tmp_path / "whole", tmp_path / "cut"
    path.write_bytes(whole)
    cut.write_bytes(whole[: int(len(whole) * share)])
    refusal = None
    try:
        found = np.asarray(read_image(cut))
    except DatasetError as error:
        refusal = str(error)
    if refusal is None:
        np.testing.assert_array_equal(found, np.asarray(read_image(path)))
    else:
        assert str(cut) in refusal


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


CHUNKS = [
    chunk(b"gAMA", struct.pack(">I", 45455)),
    chunk(b"gAMA", b"abc"),
    chunk(b"sRGB", b""),
    chunk(b"sRGB", b"\0"),
    chunk(b"tRNS", bytes(6)),
    chunk(b"tRNS", bytes(5)),
    chunk(b"pHYs", bytes(9)),
    chunk(b"pHYs", bytes(3)),
    chunk(b"cHRM", bytes(32)),
    chunk(b"cHRM", bytes(31)),
    chunk(b"sBIT", bytes(3)),
    chunk(b"bKGD", bytes(1)),
    chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile")),
    chunk(b"iCCP", b"x\0\7nothing"),
    chunk(b"tEXt", b"Comment\0hello"),
    chunk(b"zTXt", b"Comment\0\0nothing"),
    chunk(b"iTXt", b"Comment\0\0\0\0\0hello"),
    chunk(b"acTL", struct.pack(">II", 1, 0)),
    chunk(b"abCd", b"private"),
    chunk(b"ABCD", b"critical and unknown"),
    chunk(b"PLTE", bytes(9)),
    chunk(b"IEND", b""),
    chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10**6),
    st.integers(0, 255),
    st.lists(st.sampled_from(CHUNKS), max_size=3),
    st.booleans(),
)
@example(41, 1, [CHUNKS[0]], False)
def test_both_decoders_say_the_same_of_whatever_a_file_holds(
    tmp_path: Path, place: int, flip: int, extra: list[bytes], at_the_end: bool
) -> None:
    """With the fast decoder and without it: the same pixels, or both refuse."""
    pytest.importorskip("kornia_rs")
    stream = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(stream, "png")
    plain_file = stream.getvalue()
    cut = len(plain_file) - 12 if at_the_end else 33
    content = bytearray(plain_file[:cut] + b"".join(extra) + plain_file[cut:])
    content[place % len(content)] ^= flip
    path = tmp_path / "a.png"
    path.write_bytes(content)
    try:
        plain = np.asarray(read_image(path))
    except DatasetError:
        with pytest.raises(DatasetError):
            decode(path)
    else:
        np.testing.assert_array_equal(np.asarray(decode(path)), plain)
