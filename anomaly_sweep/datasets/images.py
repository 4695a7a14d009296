"""Decoding to see whether an image can be decoded; decoding for use is the features room's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_sweep.errors import DatasetError


def probe_image(path: Path) -> tuple[int, int]:
    """Decode an image completely.

    Parameters
    ----------
    path
        Image file.

    Returns
    -------
    (int, int)
        Width and height in pixels.

    Raises
    ------
    DatasetError
        If the file is missing, not an image, corrupt or truncated.
    """
    return _decode(path).size


def probe_mask(path: Path) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Decode a mask completely.

    Parameters
    ----------
    path
        Mask file; any non-zero value of any channel marks a defective pixel.

    Returns
    -------
    size
        Width and height in pixels.
    marked
        Shape ``(height, width)``.

    Raises
    ------
    DatasetError
        As for `probe_image`.
    """
    image = _decode(path)
    if image.mode in ("P", "RGBA", "LA"):  # neither a palette's index nor opacity says "defective"
        image = image.convert("RGB")
    values = np.asarray(image)
    return image.size, np.asarray(values.reshape(*values.shape[:2], -1).any(axis=-1))


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    # Pillow's plug-ins raise these on damaged files, beside OSError.
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DatasetError(f"cannot decode {path}: {error}; restore the file or remove it") from error
