"""Image files to square uint8 arrays."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.datasets.images import probe_mask
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


def _is_rgb_png(path: Path) -> bool:
    """8-bit RGB: the kind both decoders turn into the same pixels."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return head[:8] == _PNG_MAGIC and head[24:26] == bytes((8, 2))


def decode(path: Path) -> Image.Image:
    """An image file as RGB; grey, palette and 16-bit images are converted, transparency is dropped.

    Raises
    ------
    DatasetError
        If the file is missing, is not a readable image, or its intensities have no fixed range.
    """
    try:
        fast = _decode_fast(path)
        return _decode(path) if fast is None else fast
    except DatasetError:
        raise
    except Exception as error:  # decoders raise what they like on damaged bytes
        raise DatasetError(f"{path}: cannot be read as an image ({error}); replace or remove it") from error


def _decode_fast(path: Path) -> Image.Image | None:
    fast = _fast_png()
    if fast is None or not _is_rgb_png(path):
        return None
    try:
        return Image.fromarray(np.asarray(fast.read_image(str(path))))
    except (
        Exception
    ):  # stricter than Pillow, whose word is final: what is readable is the same on every machine
        return None


def _decode(path: Path) -> Image.Image:
    with Image.open(path) as image:
        if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it
            deep = np.asarray(image).astype(np.float64)
            if deep.min() < 0 or deep.max() > 65535:
                raise _no_range(path, "32-bit integer")
            return Image.fromarray((deep / 257).round().astype(np.uint8)).convert("RGB")
        if image.mode == "F":
            raise _no_range(path, "floating-point")
        return image.convert("RGB")


def _no_range(path: Path, kind: str) -> DatasetError:
    return DatasetError(f"{path}: its {kind} intensities have no fixed range; convert it to 8 or 16 bits")


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

    Each pixel takes its nearest neighbour in the file: nothing is marked half.

    Raises
    ------
    DatasetError
        If the file cannot be read.
    """
    _, marked = probe_mask(path)
    image = Image.fromarray(marked).resize((size, size), Image.Resampling.NEAREST)
    return _central(np.asarray(image, dtype=np.bool_), crop)


def _central(square: NDArray[Any], crop: int | None) -> NDArray[Any]:
    if crop is None:
        return square
    first = (len(square) - crop) // 2
    return square[first : first + crop, first : first + crop]
