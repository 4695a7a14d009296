"""The runner: images of one split through one network, every level and pool from one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_sweep.config import AugmentationConf
from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.augmentation import versions
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.pooling import pool

T = TypeVar("T")

#: Pool name -> (n, c) float32.
Pooled = dict[str, NDArray[np.float32]]


def extract(
    network: Network,
    records: Sequence[ImageRecord],
    levels: Sequence[str],
    *,
    input_size: int,
    augmentation: AugmentationConf | None,
    category: str,
    batch_size: int,
    center_crop: int | None = None,
    decoders: int = 1,
    on_image: Callable[[int], None] = lambda _count: None,
) -> dict[str, Pooled]:
    """Pooled features of a list of images.

    Parameters
    ----------
    network : Network
    records : sequence of ImageRecord
    levels : sequence of str
        Levels to read; the forward pass ends after the last of them.
    input_size : int
        Side of the square that images are resized to, pixels.
    augmentation : AugmentationConf or None
        None for test images. Versions of one image stand next to each other.
    batch_size : int
        Images of a forward pass, see :meth:`Network.images_a_pass`. Halved, down to 1, whenever the device
        runs out of memory.
    center_crop : int or None
        Side of the central square that is cut out of it.
    decoders : int
        Threads that decode and resize.
    on_image : callable
        Told how many images (versions) each batch had.

    Returns
    -------
    dict
        level -> pool -> ndarray of shape (n, channels), float32, rows in the records' order.

    Raises
    ------
    DatasetError
        If an image cannot be read.
    AnomalySweepError
        If the device has not enough memory for one image.
    """
    rows: dict[str, dict[str, list[NDArray[np.float32]]]] = {level: {} for level in levels}

    def load(record: ImageRecord) -> list[NDArray[np.uint8]]:
        image = load_square(record.path, input_size, center_crop)
        if augmentation is None:
            return [image]
        return list(versions(image, augmentation, category, record.relative))

    def forward(images: list[NDArray[np.uint8]], size: int) -> None:
        found: dict[str, Pooled] = {}

        def keep(level: str, m: torch.Tensor) -> None:
            found[level] = {name: rows[: len(images)] for name, rows in _to_numpy(pool(m)).items()}

        network.read(normalised(network, images, size), levels, keep)
        for level, pools in found.items():  # only once the whole batch is through
            for name, values in pools.items():
                rows[level].setdefault(name, []).append(values)
        on_image(len(images))

    batch_size = network.images_a_pass(batch_size)
    waiting: list[NDArray[np.uint8]] = []
    for loaded in in_order(load, records, decoders):
        waiting.extend(loaded)
        while len(waiting) >= batch_size:
            batch_size = forward_or_halve(forward, waiting, batch_size)
    while waiting:
        batch_size = forward_or_halve(forward, waiting, batch_size)
    return {
        level: {name: np.concatenate(parts) for name, parts in pools.items()} for level, pools in rows.items()
    }


def forward_or_halve(
    forward: Callable[[list[NDArray[np.uint8]], int], None], waiting: list[NDArray[np.uint8]], batch_size: int
) -> int:
    """Take one batch off the queue; on out-of-memory leave it there and return half the size.

    ``forward`` is given at most ``batch_size`` images, and that number.
    """
    try:
        forward(waiting[:batch_size], batch_size)
    except torch.OutOfMemoryError as error:
        if batch_size == 1:
            raise AnomalySweepError(
                "the device has not enough memory for one image; use a smaller dataset.input_size, free "
                "memory, or use runtime.device=cpu"
            ) from error
    else:
        del waiting[:batch_size]
        return batch_size
    # Only here, outside the handler: the error's traceback held the batch's tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return batch_size // 2


def normalised(network: Network, images: Sequence[NDArray[np.uint8]], size: int) -> torch.Tensor:
    """uint8 images (h, w, 3) as the network's input (size, 3, h, w) on its device, channels last.

    Rows after the images are filled up with the last one.
    """
    mean = torch.tensor(network.backbone.mean, device=network.device).view(1, 3, 1, 1)
    std = torch.tensor(network.backbone.std, device=network.device).view(1, 3, 1, 1)
    filled = np.stack([*images, *[images[-1]] * (size - len(images))])
    batch = torch.from_numpy(filled).to(network.device).permute(0, 3, 1, 2)
    return (batch.float().div_(255) - mean) / std


def in_order(load: Callable[[ImageRecord], T], records: Sequence[ImageRecord], threads: int) -> Iterator[T]:
    """Load in threads, a bounded number ahead, in the order of the records."""
    if threads <= 1:
        yield from map(load, records)
        return
    with ThreadPoolExecutor(threads) as pool_:
        ahead: deque[Future[T]] = deque()
        for record in records:
            ahead.append(pool_.submit(load, record))
            if len(ahead) > 4 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _to_numpy(pools: dict[str, torch.Tensor]) -> Pooled:
    return {name: values.cpu().numpy() for name, values in pools.items()}
