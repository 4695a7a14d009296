"""Image files to square uint8 arrays."""

from __future__ import annotations

import importlib.util
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.datasets.images import read_image
from anomaly_sweep.datasets.masks import central

#: Part of the cache key: another way of resizing is another feature.
RESIZE = "pillow-bilinear-antialias-square"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset((b"IHDR", b"IDAT", b"IEND"))
# Kinds that change no pixel, with their lengths. Others tell an orientation (eXIf, text), are animations, or
# may be damaged in ways that one decoder minds and the other does not.
_PLAIN_CHUNKS = {
    b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"sBIT": 3, b"bKGD": 6, b"tRNS": 6, b"pHYs": 9, b"tIME": 7,
}  # fmt: skip


@cache
def _fast_png() -> Any:
    """kornia_rs's reader where it is installed (extra ``fast-decode``), else None."""
    if importlib.util.find_spec("kornia_rs") is None:
        return None
    from kornia_rs import io

    return io


def _is_plain_png(stream: BinaryIO) -> bool:
    """Whether a PNG is one upright 8-bit RGB picture and nothing else: both decoders read it alike."""
    head = stream.read(26)
    if head[:8] != _PNG_MAGIC or head[24:26] != bytes((8, 2)):  # 8 bits, RGB
        return False
    width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        return False  # Pillow's to judge
    stream.seek(len(_PNG_MAGIC))
    kind = b""
    while kind != b"IEND":
        start = stream.read(8)
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if kind in _PIXEL_CHUNKS:
            stream.seek(length + 4, os.SEEK_CUR)
        else:
            if length != _PLAIN_CHUNKS.get(kind):  # so is the end of a truncated file
                return False
            if zlib.crc32(kind + stream.read(length)) != int.from_bytes(stream.read(4), "big"):
                return False
    return True


def decode(path: Path) -> Image.Image:
    """An image file as RGB; what `read_image` gives, by a faster decoder where that gives the same.

    Raises
    ------
    DatasetError
        As `read_image`.
    """
    fast = _decode_fast(path)
    return read_image(path) if fast is None else fast


def _decode_fast(path: Path) -> Image.Image | None:
    fast = _fast_png()
    if fast is None:
        return None
    try:
        with path.open("rb") as stream:
            is_png = _is_plain_png(stream)
        # By its path: the file's bytes in Python's memory would make what follows a quarter slower.
        return Image.fromarray(np.asarray(fast.read_image(str(path)))) if is_png else None
    except Exception:  # stricter than Pillow, whose word is final: what is readable is the same everywhere
        return None


def load_square(path: Path, size: int, crop: int | None = None) -> NDArray[np.uint8]:
    """An image resized directly to (size, size, 3) uint8 with Pillow's antialiased bilinear filter.

    With ``crop``, its central square of that side.
    """
    image = decode(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return central(np.asarray(image), crop)
