"""From the training images' maps to PatchCore's bank, with what that takes in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly_sweep.localization.base import Maps
from anomaly_sweep.localization.patchcore.coreset import select
from anomaly_sweep.localization.patchcore.patches import Patches


@dataclass(frozen=True)
class Selection:
    """How the bank is selected from the training images' vectors.

    Attributes
    ----------
    share : float
        Of the vectors, in (0, 1].
    projection : int or None
        Dimensions of the random projection to select in; None for the vectors themselves.
    start : str
        See :func:`anomaly_sweep.localization.patchcore.coreset.select`.
    seed : int
        Of the projection and of random starts.
    """

    share: float
    projection: int | None
    start: str
    seed: int

    def kept(self, n: int) -> int:
        """Vectors of the bank, of n; the tiny number is for products such as 0.29 * 100 that lie below 29."""
        return max(1, math.floor(n * self.share + 1e-6))

    def numbers(self, width: int) -> int:
        """Dimensions to select in, of vectors of a width; projecting on no fewer would only blur."""
        return width if self.projection is None else min(self.projection, width)


def fit_bytes(patches: Patches, selection: Selection, n_images: int) -> int:
    """The most bytes held while fitting: parts of all images, and selection or bank."""
    n = n_images * patches.places
    kept, numbers = selection.kept(n), selection.numbers(patches.width)
    selecting = 0
    if kept < n:
        # Rows twice, while they are put together and put in order; bounds and theirs; the selected rows and
        # the blocks that are worked on.
        selecting = 4 * (2 * n * numbers + 16 * n + (kept + min(n, 8192)) * numbers)
    bank = 4 * kept * (patches.width + 1)
    one_image = 4 * 4 * patches.width * patches.places
    return 4 * n_images * patches.numbers + max(selecting, bank) + one_image


class TrainingPatches:
    """The parts of the training images, on their own grids, and the rows that the bank is selected by."""

    def __init__(self, patches: Patches, selection: Selection) -> None:
        self.patches, self.selection = patches, selection
        self._parts: list[list[Tensor]] = []
        self._rows: list[Tensor] = []
        self._matrix: Tensor | None = None

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = [part for parts in self._parts for part in parts] + self._rows
        return 4 * sum(tensor.numel() for tensor in tensors)

    def add(self, maps: Maps) -> None:
        """Take in a batch of images, one by one, so that how it was cut does not show."""
        for image in range(len(maps[self.patches.parts[0].level])):
            parts = self.patches.of(maps, image)
            self._parts.append(parts)
            if self.selection.share < 1:
                self._rows.append(self._project(parts))

    def means(self) -> list[Tensor]:
        """The mean vector of each part, by float64, so that the order of the images does not show."""
        return [
            torch.stack([part.mean((1, 2)).cpu().double() for part in level]).mean(0).to(level[0])
            for level in zip(*self._parts, strict=True)
        ]

    def bank(self, means: Sequence[Tensor]) -> Tensor:
        """The selected vectors (kept, width), centred; the rows they are selected by are dropped."""
        patches, n = self.patches, len(self) * self.patches.places
        kept = self.selection.kept(n)
        chosen = torch.arange(n)
        if kept < n:
            rows, self._rows = torch.cat(self._rows), []
            chosen = select(rows, kept, self.selection.start, self.selection.seed).sort().values.cpu()
            del rows
        vectors = self._parts[0][0].new_empty(kept, patches.width)
        per_image = torch.bincount(chosen // patches.places, minlength=len(self)).tolist()
        for parts, target, which in zip(
            self._parts, torch.split(vectors, per_image), torch.split(chosen, per_image), strict=True
        ):
            if len(which):
                joined = patches.join(centered(parts, means))
                target.copy_(joined[:, (which % patches.places).to(joined.device)].T)
        return vectors

    def _project(self, parts: Sequence[Tensor]) -> Tensor:
        """The vectors of an image (places, numbers) as they are selected by."""
        width = self.patches.width
        numbers = self.selection.numbers(width)
        if numbers == width:
            return self.patches.join(parts).T.contiguous()
        if self._matrix is None:
            made = torch.Generator().manual_seed(self.selection.seed)
            self._matrix = torch.randn(width, numbers, generator=made).to(parts[0])
        return self.patches.project(parts, self._matrix)


def centered(parts: Sequence[Tensor], means: Sequence[Tensor]) -> list[Tensor]:
    """Parts less their means: the joined vectors' distances stay, their norms and so rounding shrink."""
    return [part - mean[:, None, None] for part, mean in zip(parts, means, strict=True)]
