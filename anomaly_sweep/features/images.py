"""Image files to square uint8 arrays."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.errors import DatasetError

#: Part of the cache key: another way of resizing is another feature.
RESIZE = "pillow-bilinear-antialias-square"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@cache
def _fast_png() -> Any:
    """kornia_rs's reader where it is installed (extra ``fast-decode``), else None."""
    if importlib.util.find_spec("kornia_rs") is None:
        return None
    from kornia_rs import io

    return io


def _is_plain_rgb_png(path: Path) -> bool:
    """8-bit RGB without transparency: the kind both decoders turn into the same pixels."""
    with path.open("rb") as stream:
        head = stream.read(33)
    return head[:8] == _PNG_MAGIC and len(head) > 25 and head[24] == 8 and head[25] == 2


def decode(path: Path) -> Image.Image:
    """An image file as RGB; grey, palette and 16-bit images are converted.

    Raises
    ------
    DatasetError
        If the file is missing or is not a readable image.
    """
    try:
        fast = _fast_png()
        if fast is not None and _is_plain_rgb_png(path):
            return Image.fromarray(np.asarray(fast.read_image(str(path))))
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it
                deep = np.asarray(image).astype(np.float64)
                return Image.fromarray((deep / 257).round().clip(0, 255).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except Exception as error:  # decoders raise what they like on damaged bytes
        raise DatasetError(f"{path}: cannot be read as an image ({error}); replace or remove it") from error


def load_square(path: Path, size: int) -> NDArray[np.uint8]:
    """An image resized directly to (size, size, 3) uint8 with Pillow's antialiased bilinear filter."""
    image = decode(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
