"""Random changes of training images, drawn from each image's own stream so that no order matters.

``kind: rippel`` is the augmentation of Rippel et al., "Modeling the distribution of normal data in
pre-trained deep features for anomaly detection" (2020), as their published code has it: a composite that is
applied to half of the copies, the others staying as they are; in it one part after another, each with a
probability of its own; with limits by category where a change would make a good part look defective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import AugmentationConf, in_range
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.fingerprint import fingerprint, seed_of

Array = NDArray[np.uint8]
Part = Callable[[Array, np.random.Generator], Array]

#: Which categories' settings hold for every category.
EVERY = "*"


@dataclass(frozen=True)
class Geometry:
    """What shift, scale and rotation draw from, uniformly.

    Attributes
    ----------
    shift
        At most this share of the side, along each axis.
    smaller, larger
        At most this share smaller, and larger.
    rotate
        At most this many degrees, either way.
    """

    shift: float = 0.05
    smaller: float = 0.05
    larger: float = 0.1
    rotate: float = 45.0

    def __post_init__(self) -> None:
        for name, most in (("shift", 1), ("smaller", 0.9), ("larger", 10), ("rotate", 180)):
            in_range(f"augmentation.geometry {name}", getattr(self, name), 0, most)


def versions(image: Array, augmentation: AugmentationConf, category: str, name: str) -> Iterator[Array]:
    """The versions of one training image that enter the training set.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8
    category : str
        Selects what is left out or limited.
    name : str
        The image's path in its data set: with the seed and the pass it fixes what is drawn.

    Yields
    ------
    ndarray of shape (h, w, 3), uint8
    """
    if augmentation.kind == "none":
        yield image
        return
    if augmentation.keep_original:
        yield image
    for number in range(augmentation.passes):
        rng = np.random.default_rng(seed_of(fingerprint(augmentation.seed, name, number)))
        if augmentation.kind == "noise":
            yield _noise(image, rng, augmentation.noise_std)
        else:
            yield _composite(image, rng, augmentation, category)


def passes_of(augmentation: AugmentationConf) -> int:
    """Versions per training image."""
    return 1 if augmentation.kind == "none" else augmentation.passes + augmentation.keep_original


def describe(augmentation: AugmentationConf, category: str) -> dict[str, Any]:
    """Everything that decides the versions of a category's images, but the images."""
    drawn = {f: getattr(augmentation, f) for f in ("kind", "passes", "seed", "keep_original")}
    if augmentation.kind == "noise":
        return drawn | {"noise_std": augmentation.noise_std}
    return drawn | {
        "probability": augmentation.probability,
        "exclude": left_out(augmentation, category),
        "geometry": asdict(geometry(augmentation, category)),
    }


def check(augmentation: AugmentationConf) -> None:
    """Raise ConfigError for a name or a value that no category can have."""
    for category in {EVERY, *augmentation.exclude, *augmentation.geometry}:
        left_out(augmentation, category)
        geometry(augmentation, category)


def left_out(augmentation: AugmentationConf, category: str) -> list[str]:
    """Parts of the composite left out for a category.

    Raises
    ------
    ConfigError
        For a name that is not a part.
    """
    names = {*augmentation.exclude.get(EVERY, ()), *augmentation.exclude.get(category, ())}
    unknown = sorted(names - set(PROBABILITIES))
    if unknown:
        raise ConfigError(
            f"augmentation.exclude names {', '.join(unknown)}; the parts are {', '.join(PROBABILITIES)}"
        )
    return sorted(names)


def geometry(augmentation: AugmentationConf, category: str) -> Geometry:
    """What shift, scale and rotation draw from for a category.

    Raises
    ------
    ConfigError
        For a key that there is not, or a value out of range.
    """
    settings: dict[str, Any] = {}
    for name in (EVERY, category):
        given = augmentation.geometry.get(name, {})
        known = Geometry.__dataclass_fields__
        unknown = sorted(set(map(str, given)) - set(known))
        if unknown:
            raise ConfigError(
                f"augmentation.geometry.{name} names {', '.join(unknown)}; there are {', '.join(known)}"
            )
        try:
            settings |= {key: float(value) for key, value in given.items()}
        except (TypeError, ValueError) as error:
            raise ConfigError(f"augmentation.geometry.{name}: {error}") from error
    return Geometry(**settings)


def _composite(
    image: Array, rng: np.random.Generator, augmentation: AugmentationConf, category: str
) -> Array:
    if rng.random() >= augmentation.probability:
        return image
    without = left_out(augmentation, category)
    for name, part in _parts(geometry(augmentation, category)).items():
        # Draw whether or not it is left out: an exclusion does not shift the other parts' draws.
        apply, stream = rng.random() < PROBABILITIES[name], rng.spawn(1)[0]
        if apply and name not in without:
            image = part(image, stream)
    return np.ascontiguousarray(image)


def _noise(image: Array, rng: np.random.Generator, std: float) -> Array:
    return _rounded(image + rng.normal(0.0, 255.0 * std, image.shape))


def _blur(image: Array, rng: np.random.Generator) -> Array:
    """One of motion blur, a median and a mean of 3 by 3."""
    from PIL import Image, ImageFilter

    choice = int(rng.integers(3))
    if choice == 0:
        return _motion_blur(image, rng)
    kernel = ImageFilter.MedianFilter(3) if choice == 1 else ImageFilter.BoxBlur(1)
    return np.asarray(Image.fromarray(image).filter(kernel))


def _motion_blur(image: Array, rng: np.random.Generator) -> Array:
    """The mean along a line of 3, 5 or 7 pixels in any direction."""
    from PIL import Image, ImageDraw

    side = int(rng.choice([3, 5, 7]))
    angle = rng.uniform(0, np.pi)
    reach = (side - 1) / 2 * np.array([np.cos(angle), np.sin(angle)])
    line = Image.new("L", (side, side))
    ends = [tuple(np.rint((side - 1) / 2 + sign * reach).astype(int).tolist()) for sign in (-1, 1)]
    ImageDraw.Draw(line).line(ends, fill=1)
    kernel = np.asarray(line, dtype=np.float64)
    return _filtered(image, kernel / kernel.sum())


def _contrast(image: Array, rng: np.random.Generator) -> Array:
    """One of CLAHE, sharpening, embossing and brightness with contrast."""
    return (_clahe, _sharpen, _emboss, _brightness)[int(rng.integers(4))](image, rng)


def _clahe(image: Array, rng: np.random.Generator, tiles: int = 8) -> Array:
    """Contrast limited adaptive histogram equalization of the luma, 8 by 8 tiles, clip limit 1 to 4.

    Each tile's histogram is cut at the limit (times the mean count), what is cut is spread evenly, and a
    pixel takes the equalizations of the four tiles around it, interpolated (Zuiderveld 1994).
    """
    from PIL import Image

    limit = rng.uniform(1, 4)
    planes = np.array(Image.fromarray(image).convert("YCbCr"))
    luma = planes[..., 0]
    height, width = luma.shape
    rows, columns = (np.linspace(0, n, min(tiles, n) + 1).round().astype(int) for n in (height, width))
    tables = np.empty((len(rows) - 1, len(columns) - 1, 256))
    for i, j in np.ndindex(*tables.shape[:2]):
        tile = luma[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        counts = np.bincount(tile.ravel(), minlength=256).astype(np.float64)
        clipped = np.minimum(counts, max(1.0, limit * tile.size / 256))
        clipped += (tile.size - clipped.sum()) / 256
        tables[i, j] = np.cumsum(clipped) * (255 / tile.size)
    (top, bottom, down), (left, right, across) = (_between(edges) for edges in (rows, columns))
    near = (top[:, None], bottom[:, None], left[None], right[None])
    mixed = [tables[near[a], near[b], luma] for a in (0, 1) for b in (2, 3)]
    upper = mixed[0] * (1 - across) + mixed[1] * across
    lower = mixed[2] * (1 - across) + mixed[3] * across
    planes[..., 0] = _rounded(upper * (1 - down[:, None]) + lower * down[:, None])
    return np.asarray(Image.fromarray(planes, "YCbCr").convert("RGB"))


def _between(edges: NDArray[np.int_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each pixel the tiles before and after it, by their centres, and how far it is between them."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    place = np.interp(np.arange(edges[-1]), centres, np.arange(len(centres)))
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, len(centres) - 1), place - before


def _sharpen(image: Array, rng: np.random.Generator) -> Array:
    alpha, lightness = rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.0)
    edges = np.full((3, 3), -1.0)
    edges[1, 1] = 8.0 + lightness
    return _blended(image, edges, alpha)


def _emboss(image: Array, rng: np.random.Generator) -> Array:
    alpha, strength = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.7)
    relief = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    relief += strength * np.array([[-1.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    return _blended(image, relief, alpha)


def _blended(image: Array, kernel: NDArray[np.float64], alpha: float) -> Array:
    """The image by a share of ``alpha`` as the kernel makes it."""
    kernel = alpha * kernel
    kernel[1, 1] += 1 - alpha
    return _filtered(image, kernel)


def _filtered(image: Array, kernel: NDArray[np.float64]) -> Array:
    from scipy import ndimage

    return _rounded(ndimage.correlate(image.astype(np.float64), kernel[..., None], mode="mirror"))


def _brightness(image: Array, rng: np.random.Generator) -> Array:
    gain, shift = rng.uniform(0.8, 1.2), 255 * rng.uniform(-0.1, 0.2)
    return _rounded(gain * image.astype(np.float64) + shift)


def _colour(image: Array, rng: np.random.Generator) -> Array:
    """Hue by up to 20 degrees, saturation and value by -10 to 20 of 255."""
    from PIL import Image

    hsv = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.float64)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-20, 20) * 256 / 360) % 256
    hsv[..., 1:] += rng.uniform(-10, 20, size=2)
    turned = np.concatenate([hsv[..., :1].round().astype(np.int64) % 256, hsv[..., 1:].round()], axis=-1)
    return np.asarray(Image.fromarray(_rounded(turned), "HSV").convert("RGB"))


def _gaussian_noise(image: Array, rng: np.random.Generator) -> Array:
    """Of a standard deviation of 0.01 to 0.03, grey or in each channel."""
    std = 255 * rng.uniform(0.01, 0.03)
    channels = image.shape[2] if rng.random() < 0.5 else 1
    return _rounded(image + rng.normal(0.0, std, (*image.shape[:2], channels)))


def _flip(image: Array, _: np.random.Generator) -> Array:
    return np.flip(image, axis=1)


def _rot90(image: Array, rng: np.random.Generator) -> Array:
    """By 0 to 3 quarter turns: one in four is none."""
    return np.rot90(image, int(rng.integers(4)))


def _shift_scale_rotate(image: Array, rng: np.random.Generator, drawn: Geometry) -> Array:
    degrees = rng.uniform(-drawn.rotate, drawn.rotate)
    scale = 1 + rng.uniform(-drawn.smaller, drawn.larger)
    down, across = rng.uniform(-drawn.shift, drawn.shift, size=2)
    return _affine(image, degrees, scale, (float(down), float(across)))


def _affine(image: Array, degrees: float, scale: float, shift: tuple[float, float]) -> Array:
    """Rotate and scale about the centre and shift (fractions of the side); borders are mirrored."""
    from scipy import ndimage

    height, width = image.shape[:2]
    turn = np.deg2rad(degrees)
    inverse = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = centre - inverse @ (centre + np.array([shift[0] * height, shift[1] * width]))
    planes = [
        ndimage.affine_transform(image[..., c].astype(np.float64), inverse, offset, order=1, mode="mirror")
        for c in range(3)
    ]
    return _rounded(np.stack(planes, axis=-1))


def _rounded(image: NDArray[np.float64]) -> Array:
    return image.round().clip(0, 255).astype(np.uint8)


#: Parts of the composite, in the order in which they are applied, and how often each is.
PROBABILITIES = {
    "blur": 0.2,
    "contrast": 0.3,
    "colour": 0.3,
    "noise": 0.2,
    "flip": 0.5,
    "rot90": 0.5,
    "shift_scale_rotate": 0.2,
}


def _parts(drawn: Geometry) -> dict[str, Part]:
    return {
        "blur": _blur,
        "contrast": _contrast,
        "colour": _colour,
        "noise": _gaussian_noise,
        "flip": _flip,
        "rot90": _rot90,
        "shift_scale_rotate": partial(_shift_scale_rotate, drawn=drawn),
    }
