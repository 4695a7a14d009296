"""Pixel masks, read by what they are: which pixels of an image are marked as defective.

Masks come as 0/1, 0/255 or 0/N, as label images with a value a defect type, as colours of a palette, as
opacity, in CMYK, in 16 or 32 bits, and smoothed by lossy compression or resizing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.datasets.images import decoded, intensities, upright_size
from anomaly_sweep.errors import DatasetError

S = TypeVar("S", bound=np.generic)

#: Levels, the background's included, up to which a mask's values are taken for labels.
FEW_LEVELS = 16
_LOSSY = ("JPEG", "MPO")


@dataclass(frozen=True, slots=True)
class Mask:
    """A decoded mask.

    Parameters
    ----------
    marked
        Shape ``(height, width)``: True where the mask marks a defect.
    remark
        What is unusual about the file and how it was read; empty for a plain mask.
    value
        Its largest value: of what is marked, where that has one value.
    """

    marked: NDArray[np.bool_]
    remark: str = ""
    value: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.marked.shape[1], self.marked.shape[0]


def read_mask(path: Path) -> Mask:
    """Decode a mask, upright as images are.

    A pixel's value is its intensity, the largest of its colour channels, or what is left of that on black
    where opacity varies (opacity itself, where all of the colour is black). Where there are no more than
    `FEW_LEVELS` values, all but the background are marked: 0, or the least value if no pixel is 0. More
    values than that, or a lossy format, are a two-level mask that was smoothed: what is above half of the
    largest value is marked.

    Parameters
    ----------
    path
        Mask file of one of `anomaly_sweep.datasets.images.FORMATS`.

    Returns
    -------
    Mask

    Raises
    ------
    DatasetError
        As `anomaly_sweep.datasets.images.read_image`, or if values are negative or not finite.
    """
    return decoded(path, _as_mask)


def check_shape(mask: Path, size: tuple[int, int], image: Path) -> None:
    """Raise DatasetError if a mask of this size has another shape than its image.

    A smaller or larger copy of the right shape serves; one of another shape lies on its side or belongs to
    another image.
    """
    width, height = size
    image_width, image_height = upright_size(image)
    # Rounding a copy's sides to whole pixels moves this by no more.
    if abs(width * image_height - height * image_width) > image_width + image_height:
        raise DatasetError(
            f"mask {mask} is {width} x {height}, its image {image} is {image_width} x {image_height} "
            "(turned as its EXIF data say): replace the mask"
        )


def to_square(marked: NDArray[np.bool_], size: int, crop: int | None = None) -> NDArray[np.bool_]:
    """Marks as they are evaluated: the nearest pixel's, so that nothing is marked half.

    Parameters
    ----------
    marked
        Shape ``(height, width)``.
    size
        Side in pixels of the square that images are resized to.
    crop
        Side of its central part, if that is cut out.

    Returns
    -------
    ndarray of bool
        Shape ``(size, size)`` or ``(crop, crop)``. What is smaller than one of its pixels may vanish.
    """
    square = np.asarray(
        Image.fromarray(marked).resize((size, size), Image.Resampling.NEAREST), dtype=np.bool_
    )
    return central(square, crop)


def central(square: NDArray[S], crop: int | None) -> NDArray[S]:
    """The central square of side ``crop``; all of it if that is None."""
    if crop is None:
        return square
    first = (len(square) - crop) // 2
    return square[first : first + crop, first : first + crop]


def _as_mask(image: Image.Image, path: Path) -> Mask:
    values = _values(image, path)
    least, largest = values.min(), values.max()
    if least == largest:
        return Mask(np.broadcast_to(largest > 0, values.shape).copy(), value=float(largest))
    lossy = image.format in _LOSSY
    n_levels = _count_levels(values, least, largest)
    if lossy or n_levels > FEW_LEVELS:
        what = "lossy compression" if lossy else f"{n_levels} levels, neither two nor few labels"
        remark = f"{what}: what is above half of its largest value, {largest / 2:g}, is read as marked"
        return Mask(values > largest / 2, f"{remark}; save it as a two-level PNG", float(largest))
    remark = "" if least == 0 else f"no pixel is 0: the least value, {least:g}, is read as the background"
    return Mask(values > least, remark, float(largest))


def _values(image: Image.Image, path: Path) -> NDArray[Any]:
    """One number a pixel, 0 or more, shape (height, width)."""
    mode = image.mode
    if mode in ("1", "L"):
        return np.asarray(image, dtype=np.uint8)
    if mode.startswith("I;16"):
        return intensities(image, path)
    if mode in ("I", "F"):
        numbers: NDArray[Any] = np.asarray(image)
        if not np.isfinite(numbers).all() or numbers.min() < 0:
            raise DatasetError(
                f"mask {path} holds values that are negative or not finite; save it as 0 and 255"
            )
        return numbers
    if mode in ("LA", "La", "RGBA", "PA", "P"):
        *channels, alpha = np.moveaxis(np.asarray(image.convert("LA" if mode == "La" else "RGBA")), -1, 0)
        return _over_black(np.max(channels, axis=0), alpha)
    colours: NDArray[np.uint8] = np.asarray(image if mode == "RGB" else image.convert("RGB"))
    brightest: NDArray[np.uint8] = np.max(colours, axis=-1)
    return brightest


def _over_black(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if alpha.min() == alpha.max():
        return colour
    seen = -(-colour.astype(np.int32) * alpha // 255)  # rounded up: a faint mark stays one
    return seen.astype(np.uint8) if seen.any() else alpha


def _count_levels(values: NDArray[Any], least: Any, largest: Any) -> int:
    if np.all((values == least) | (values == largest)):  # nearly always, and fast
        return 2
    return len(np.unique(values))
