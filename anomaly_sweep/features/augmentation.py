"""Random changes of training images, drawn from each image's own stream so that no order matters.

The ``standard`` changes are of the kind in Rippel et al., "Modeling the distribution of normal data in
pre-trained deep features for anomaly detection" (2020), each with a probability and with exclusions by
category where a change would make a good part look defective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.config import AugmentationConf
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.fingerprint import fingerprint, seed_of

Array = NDArray[np.uint8]


def versions(image: Array, augmentation: AugmentationConf, category: str, name: str) -> Iterator[Array]:
    """The versions of one training image that enter the training set.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8
    category : str
        Selects the exclusions.
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
            yield _standard(image, rng, augmentation, category)


def passes_of(augmentation: AugmentationConf) -> int:
    """Versions per training image."""
    return 1 if augmentation.kind == "none" else augmentation.passes + augmentation.keep_original


def excluded(augmentation: AugmentationConf, category: str) -> list[str]:
    """Changes left out for a category.

    Raises
    ------
    ConfigError
        For a name that is not a change.
    """
    left_out = {*augmentation.exclude.get("*", ()), *augmentation.exclude.get(category, ())}
    unknown = sorted(left_out - set(_CHANGES))
    if unknown:
        raise ConfigError(
            f"augmentation.exclude names {', '.join(unknown)}; the changes are {', '.join(_CHANGES)}"
        )
    return sorted(left_out)


def _standard(image: Array, rng: np.random.Generator, augmentation: AugmentationConf, category: str) -> Array:
    left_out = excluded(augmentation, category)
    for name, change in _CHANGES.items():
        # Draw whether or not it is left out: an exclusion does not shift the other changes' draws.
        apply, stream = rng.random() < augmentation.probability, rng.spawn(1)[0]
        if apply and name not in left_out:
            image = change(image, stream)
    return np.ascontiguousarray(image)


def _noise(image: Array, rng: np.random.Generator, std: float = 0.03) -> Array:
    noisy = image + rng.normal(0.0, 255.0 * std, image.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _blur_or_sharpen(image: Array, rng: np.random.Generator) -> Array:
    from PIL import Image, ImageEnhance, ImageFilter

    picture = Image.fromarray(image)
    if rng.random() < 0.5:
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5))))
    return np.asarray(ImageEnhance.Sharpness(picture).enhance(rng.uniform(1.2, 3.0)))


def _brightness(image: Array, rng: np.random.Generator) -> Array:
    gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-25.5, 25.5)
    changed = (image.astype(np.float64) - 128) * gain + 128 + shift
    return changed.round().clip(0, 255).astype(np.uint8)


def _colour(image: Array, rng: np.random.Generator) -> Array:
    from PIL import Image

    hsv = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + rng.integers(-14, 15)) % 256
    hsv[..., 1:] += rng.integers(-20, 21, size=2).astype(np.int16)
    planes = [Image.fromarray(hsv[..., c].clip(0, 255).astype(np.uint8)) for c in range(3)]
    return np.asarray(Image.merge("HSV", planes).convert("RGB"))


def _flip(image: Array, rng: np.random.Generator) -> Array:
    return np.flip(image, axis=int(rng.integers(0, 2)))


def _rot90(image: Array, rng: np.random.Generator) -> Array:
    return np.rot90(image, int(rng.integers(1, 4)))


def _rotate45(image: Array, rng: np.random.Generator) -> Array:
    return _affine(image, degrees=rng.uniform(-45, 45), scale=1.0, shift=(0.0, 0.0))


def _shift_scale_rotate(image: Array, rng: np.random.Generator) -> Array:
    shift = rng.uniform(-0.03, 0.03, size=2)
    return _affine(image, rng.uniform(-5, 5), rng.uniform(0.95, 1.05), (float(shift[0]), float(shift[1])))


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
    return np.stack(planes, axis=-1).round().clip(0, 255).astype(np.uint8)


_CHANGES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "blur": _blur_or_sharpen,
    "brightness": _brightness,
    "colour": _colour,
    "noise": _noise,
    "flip": _flip,
    "rot90": _rot90,
    "rotate45": _rotate45,
    "affine": _shift_scale_rotate,
}
