"""The runner: images through a network in batches of one shape, whatever is kept of what they give."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_sweep.config import CLASS_TOKEN, AugmentationConf
from anomaly_sweep.datasets import ImageRecord
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.augmentation import versions
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.pooling import pool

T = TypeVar("T")

#: Pool name -> features (n, c) of one level.
Pooled: TypeAlias = dict[str, NDArray[np.float32]]
#: uint8 (h, w, 3).
Pixels: TypeAlias = NDArray[np.uint8]


@dataclass
class ImageRunner:
    """Images of files through a network, batch by batch.

    Parameters
    ----------
    network : Network
    input_size : int
        Side of the square that images are resized to, pixels.
    center_crop : int or None
        Side of the central square that is cut out of it.
    batch_size : int
        Images of a forward pass, see :meth:`Network.images_a_pass`. Halved, down to 1, whenever the device
        runs out of memory.
    decoders : int
        Threads that decode and resize.
    on_image : callable
        Told how many images (versions) each batch had.
    """

    network: Network
    input_size: int
    center_crop: int | None = None
    batch_size: int = 16
    decoders: int = 1
    on_image: Callable[[int], None] = lambda _count: None

    def __post_init__(self) -> None:
        self.batch_size = self.network.images_a_pass(self.batch_size)

    def run(
        self,
        records: Iterable[ImageRecord],
        forward: Callable[[Tensor, int], T],
        augment: Callable[[Pixels, ImageRecord], Iterable[Pixels]] | None = None,
    ) -> Iterator[T]:
        """What a forward pass gives for each batch, in the records' order.

        Parameters
        ----------
        records : iterable of ImageRecord
        forward : callable
            Given the network's input, ``batch_size`` images, and how many of them count: the last batch is
            filled up.
        augment : callable, optional
            The versions of an image, which stand next to each other; None: the image itself.

        Raises
        ------
        DatasetError
            If an image cannot be read.
        AnomalySweepError
            If the device has not enough memory for one image.
        """

        def load(record: ImageRecord) -> list[Pixels]:
            image = load_square(record.path, self.input_size, self.center_crop)
            return [image] if augment is None else list(augment(image, record))

        waiting: list[Pixels] = []
        for loaded in _in_order(load, records, self.decoders):
            waiting.extend(loaded)
            while len(waiting) >= self.batch_size:
                yield from self._pass(waiting, forward)
        while waiting:
            yield from self._pass(waiting, forward)

    def _pass(self, waiting: list[Pixels], forward: Callable[[Tensor, int], T]) -> Iterator[T]:
        """One batch off the queue; on out-of-memory it stays there and the batch size is halved."""
        images = waiting[: self.batch_size]
        try:
            found = forward(normalised(self.network, images, self.batch_size), len(images))
        except torch.OutOfMemoryError as error:
            if self.batch_size == 1:
                raise AnomalySweepError(
                    "the device has not enough memory for one image; use a smaller dataset.input_size, free "
                    "memory, or use runtime.device=cpu"
                ) from error
        else:
            del waiting[: len(images)]
            self.on_image(len(images))
            yield found
            return
        # Only here, outside the handler: the error's traceback held the batch's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.batch_size //= 2


def extract(
    runner: ImageRunner,
    records: Sequence[ImageRecord],
    levels: Sequence[str],
    *,
    augmentation: AugmentationConf | None = None,
    category: str = "",
) -> dict[str, Pooled]:
    """Pooled features of a list of images, every level and pool from one pass; class tokens as a pool.

    Parameters
    ----------
    runner : ImageRunner
    records : sequence of ImageRecord
    levels : sequence of str
        Levels to read; the forward pass ends after the last of them.
    augmentation : AugmentationConf or None
        None for test images. Versions of one image stand next to each other.
    category : str
        Of the images; decides which augmentations suit them.

    Returns
    -------
    dict
        level -> pool -> ndarray of shape (n, channels), float32, rows in the records' order.

    Raises
    ------
    DatasetError, AnomalySweepError
        As :meth:`ImageRunner.run`.
    """

    def augment(image: Pixels, record: ImageRecord) -> Iterable[Pixels]:
        assert augmentation is not None
        return versions(image, augmentation, category, record.relative)

    def forward(batch: Tensor, count: int) -> dict[str, Pooled]:
        found: dict[str, Pooled] = {level: {} for level in levels}

        def keep(level: str, maps: Tensor) -> None:
            found[level] |= {name: rows.cpu().numpy()[:count] for name, rows in pool(maps).items()}

        def keep_token(level: str, token: Tensor) -> None:
            found[level][CLASS_TOKEN] = token.float().cpu().numpy()[:count].copy()

        runner.network.read(batch, levels, keep, keep_token)
        return found

    rows: dict[str, dict[str, list[NDArray[np.float32]]]] = {level: {} for level in levels}
    for found in runner.run(records, forward, None if augmentation is None else augment):
        for level, pools in found.items():
            for name, values in pools.items():
                rows[level].setdefault(name, []).append(values)
    return {
        level: {name: np.concatenate(parts) for name, parts in pools.items()} for level, pools in rows.items()
    }


def normalised(network: Network, images: Sequence[Pixels], size: int | None = None) -> Tensor:
    """Images as the network's input (size, 3, h, w) on its device, channels last.

    Rows after the images are filled up with the last one; None: no more rows than images.
    """
    mean = torch.tensor(network.backbone.mean, device=network.device).view(1, 3, 1, 1)
    std = torch.tensor(network.backbone.std, device=network.device).view(1, 3, 1, 1)
    filled = np.stack([*images, *[images[-1]] * ((size or len(images)) - len(images))])
    batch = torch.from_numpy(filled).to(network.device).permute(0, 3, 1, 2)
    return (batch.float().div_(255) - mean) / std


def _in_order(load: Callable[[ImageRecord], T], records: Iterable[ImageRecord], threads: int) -> Iterator[T]:
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
