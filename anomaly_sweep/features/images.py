"""Image files to square uint8 arrays."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.datasets.images import read_image
from anomaly_sweep.datasets.masks import read_mask

#: Part of the cache key: another way of resizing is another feature.
RESIZE = "pillow-bilinear-antialias-square"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# None of these changes a pixel; those left out tell an orientation (eXIf, text) or are animations.
_PLAIN_CHUNKS = frozenset(
    (
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"sBIT",
        b"bKGD",
        b"tRNS",
        b"pHYs",
        b"tIME",
    )
)


@cache
def _fast_png() -> Any:
    """kornia_rs's reader where it is installed (extra ``fast-decode``), else None."""
    if importlib.util.find_spec("kornia_rs") is None:
        return None
    from kornia_rs import io

    return io


def _plain_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a whole PNG that holds one upright picture and nothing else; else None."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        return None  # Pillow's to judge
    at, kind = len(_PNG_MAGIC), b""
    while kind != b"IEND":
        kind = data[at + 4 : at + 8]
        if kind not in _PLAIN_CHUNKS:  # nor is the end of a truncated file
            return None
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return height, width


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
            head = stream.read(26)
            if head[:8] != _PNG_MAGIC or head[24:26] != bytes((8, 2)):  # 8 bits, RGB
                return None
            data = head + stream.read()
        size = _plain_size(data)
        return None if size is None else Image.fromarray(fast.decode_image_png_u8(data, size, "rgb"))
    except Exception:  # stricter than Pillow, whose word is final: what is readable is the same everywhere
        return None


def load_square(path: Path, size: int, crop: int | None = None) -> NDArray[np.uint8]:
    """An image resized directly to (size, size, 3) uint8 with Pillow's antialiased bilinear filter.

    With ``crop``, its central square of that side.
    """
    image = decode(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return _central(np.asarray(image), crop)


def load_mask(path: Path, size: int, crop: int | None = None) -> NDArray[np.bool_]:
    """A pixel mask as :func:`load_square` takes the image: (size, size), True where anything is marked.

    Each pixel takes its nearest neighbour in the file: nothing is marked half, and what is smaller than a
    pixel of the square may vanish.

    Raises
    ------
    DatasetError
        If the file cannot be read.
    """
    image = Image.fromarray(read_mask(path).marked).resize((size, size), Image.Resampling.NEAREST)
    return _central(np.asarray(image, dtype=np.bool_), crop)


def _central(square: NDArray[Any], crop: int | None) -> NDArray[Any]:
    if crop is None:
        return square
    first = (len(square) - crop) // 2
    return square[first : first + crop, first : first + crop]
