"""Image files as they are meant: one picture, upright, in RGB, or refused by name.

What is read is listed, not left to what happens to be installed. Formats that run programs (EPS, PDF),
are drawn rather than sampled (WMF, SVG), have no signature by which a damaged file could be told (TGA), or
need a library that not every machine has (AVIF, HEIC) are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from anomaly_sweep.errors import DatasetError

T = TypeVar("T")

#: Formats that are read, by content whatever the file is called; the commonest first. JPEG includes MPO.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")
#: Suffixes, in lower case, of the files that are taken for images.
SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k",
})  # fmt: skip
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[turn] for turn in (5, 6, 7, 8)}
_SUBFILE, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 258, 262, 339  # TIFF tags
_REDUCED, _MASK = 1, 4  # bits of a TIFF page's sub-file type
_FEW_GREYS = 64
_WHITE_IS_ZERO, _SIGNED = 0, 2


def read_image(path: Path) -> Image.Image:
    """Decode an image completely, turn it upright (EXIF orientation), and make it 8-bit RGB.

    Grey is repeated, a palette gives its colours, 16-bit intensities keep their whole range, transparency
    is dropped.

    Parameters
    ----------
    path
        Image file of one of `FORMATS`.

    Returns
    -------
    Image
        Mode RGB.

    Raises
    ------
    DatasetError
        If the file is missing, of another format, damaged or truncated, holds several pictures, is larger
        than Pillow's limit, or its intensities have no fixed range.
    """
    return decoded(path, _as_rgb)


def examine(path: Path) -> tuple[Image.Image, list[str]]:
    """`read_image`, and what is unusual about the file: what of it is not used, or hardly.

    Returns
    -------
    image
        Mode RGB.
    remarks
        Each a sentence that begins with the path.

    Raises
    ------
    DatasetError
        As `read_image`.
    """
    return decoded(path, lambda image, path: (_as_rgb(image, path), list(_remarks(image, path))))


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as `read_image` gives it, from the head of its file.

    Raises
    ------
    DatasetError
        If the head cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            # A TIFF's size is that of the turned picture; a PNG would be decoded to look for EXIF data.
            in_header = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
            turn = _turn(image) if in_header else None
            return image.size[::-1] if turn in _SIDEWAYS else image.size
    except Exception as error:  # as in `decoded`
        raise DatasetError(f"cannot decode {path}: {_reason(path, error)}") from error


def decoded(path: Path, convert: Callable[[Image.Image, Path], T]) -> T:
    """What ``convert`` makes of the upright picture in a file; what is wrong with it is a DatasetError."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_single(image, path)
            image.load()
            return convert(_upright(image), path)
    except DatasetError:
        raise
    except Exception as error:  # decoders raise what they like on damaged bytes
        raise DatasetError(f"cannot decode {path}: {_reason(path, error)}") from error


def intensities(image: Image.Image, path: Path) -> NDArray[np.uint16]:
    """A grey image of more than 8 bits as 16-bit intensities, 0 black and 65535 white.

    Raises
    ------
    DatasetError
        If they are signed or of 32 bits.
    """
    tags: Any = getattr(image, "tag_v2", {})
    deep = np.asarray(image)
    if image.mode == "I":
        if image.format == "TIFF" or deep.min() < 0 or deep.max() > 65535:
            raise _no_range(path, "signed or 32-bit integer")
        return deep.astype(np.uint16)  # 16 bits, as older Pillow reads PNG, and any reads PGM
    values: NDArray[np.uint16] = deep.astype(np.uint16)
    if tuple(np.atleast_1d(tags.get(_BITS, 16))) == (12,):
        values = (values.astype(np.float64) * (65535 / 4095)).round().astype(np.uint16)
    if tags.get(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO:  # Pillow inverts up to 8 bits only
        values = 65535 - values
    return values


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion would clip
        grey = (intensities(image, path) / 257).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise _no_range(path, "floating-point")
    if _SIGNED in np.atleast_1d(getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, 1)):
        raise _no_range(path, "signed")
    if image.mode == "La":
        image = image.convert("LA")
    image.info.pop("transparency", None)  # Pillow would warn that it is lost
    return image if image.mode == "RGB" else image.convert("RGB")


def _remarks(image: Image.Image, path: Path) -> Iterator[str]:
    if image.mode in ("LA", "La", "PA", "RGBA"):
        low, high = image.getchannel(image.getbands()[-1]).getextrema()
        if low != high:
            yield f"{path} is transparent in places: transparency is ignored, the colours below it are used"
    if image.mode.startswith("I"):
        low, high = image.getextrema()
        levels = round(int(high) / 257) - round(int(low) / 257) + 1  # type: ignore[arg-type]
        if levels < _FEW_GREYS:
            yield (
                f"{path} uses intensities from {low} to {high} of 65535: {levels} of 256 grey levels remain; "
                "stretch all images alike"
            )


def _check_single(image: Image.Image, path: Path) -> None:
    """Raise DatasetError if a file holds several pictures, none of which is the one that is meant.

    A camera's MPO begins with its picture; a TIFF's reduced pages and masks belong to its first.
    """
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":
        return
    if image.format == "TIFF":
        kinds = []
        for page in range(1, count):
            image.seek(page)
            kinds.append(int(image.tag_v2.get(_SUBFILE, 0)))  # type: ignore[attr-defined]
        image.seek(0)
        if all(kind & (_REDUCED | _MASK) for kind in kinds):
            return
    raise DatasetError(
        f"{path}: this {image.format} file holds {count} pictures; save the one that is meant as a file of "
        "its own"
    )


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says; to be called when it is loaded (Pillow turns TIFF by itself then)."""
    turn = _turn(image)
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format
    return turned


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data: every viewer shows the picture as it lies
        return None


def _reason(path: Path, error: Exception) -> str:
    try:
        if not path.exists():
            return "there is no such file; restore it or remove it from the data set"
        if path.stat().st_size == 0:
            return "the file is empty; restore it or remove it"
    except OSError:
        pass
    if isinstance(error, UnidentifiedImageError):
        return f"no image of a format that is read ({', '.join(FORMATS)}); convert it or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return f"{error}; make it smaller or remove it"
    return f"{error or type(error).__name__}; restore the file or remove it"


def _no_range(path: Path, kind: str) -> DatasetError:
    return DatasetError(f"{path}: its {kind} intensities have no fixed range; convert it to 8 or 16 bits")
