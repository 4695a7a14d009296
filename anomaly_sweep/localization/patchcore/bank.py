"""PatchCore's memory bank: selected from the training images' patch vectors, and searched exactly."""

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
            generator = torch.Generator().manual_seed(self.selection.seed)
            self._matrix = torch.randn(width, numbers, generator=generator).to(parts[0])
        return self.patches.project(parts, self._matrix)


def centered(parts: Sequence[Tensor], means: Sequence[Tensor]) -> list[Tensor]:
    """Parts less their means: the joined vectors' distances stay, their norms and so rounding shrink."""
    return [part - mean[:, None, None] for part, mean in zip(parts, means, strict=True)]


#: Numbers of a block of products: what stays in a processor's cache, or fills a GPU.
_CPU_BLOCK, _GPU_BLOCK = 1 << 19, 1 << 26


class Bank:
    """Vectors to search, with what searching them needs.

    The nearest vector is found by |b|^2 - 2 q.b. The inner products with a coarser level's part are taken on
    its own grid and then upsampled (which is linear): a quarter of the products for half the side. Its
    distance is then taken from the difference of the two vectors, which loses no digits, however large the
    norms: it is right to about (width / 2 + 2) u of itself, u = 2^-24, and 0 for equal vectors.

    So only which vector is taken can be wrong, where two are nearly equally far. The sums that are compared
    are off by at most (2 width + 16) u r^2 (r: the largest norm of a bank vector plus that of a vector of the
    image), whatever the processor and its order of summation, so a squared distance is never below the least
    and exceeds it by at most twice that; as errors of both signs add up, usually by less than u r^2.

    Parameters
    ----------
    patches : Patches
        Of the vectors.
    vectors : Tensor of shape (m, width), float32
        Best centred near 0: rounding goes with the norms.
    """

    def __init__(self, patches: Patches, vectors: Tensor) -> None:
        self.patches, self.vectors = patches, vectors
        self._norms: Tensor = torch.linalg.vector_norm(vectors, dim=1).square_()
        numbers = _CPU_BLOCK if vectors.device.type == "cpu" else _GPU_BLOCK
        #: Vectors of the bank, and places, that are worked on at once.
        self._block = max(numbers // patches.places, 1)
        self._portion = max(numbers // (4 * patches.width), 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors and their norms."""
        return 4 * (self.vectors.numel() + self._norms.numel())

    def search(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest vectors of an image's.

        Parameters
        ----------
        parts : list of Tensor
            The image's parts, see :meth:`anomaly_sweep.localization.patchcore.patches.Patches.of`.

        Returns
        -------
        squares : Tensor of shape (places,)
            Squared distances to the nearest.
        indices : Tensor of shape (places,), int64
            Which it is.
        joined : Tensor of shape (width, places)
            The image's vectors.
        """
        joined = self.patches.join(parts)
        indices = self._nearest(parts)
        # In portions that stay in a processor's cache: memory for all at once costs more than the arithmetic.
        distances = [
            torch.linalg.vector_norm(self.vectors.index_select(0, nearest).sub_(queries), dim=1)
            for queries, nearest in zip(
                torch.split(joined.T.contiguous(), self._portion),
                torch.split(indices, self._portion),
                strict=True,
            )
        ]
        return torch.cat(distances).square_(), indices, joined

    def neighbors(self, index: Tensor, count: int) -> Tensor:
        """Indices of the vectors nearest to one of the bank, nearest (so itself, or its like) first."""
        squares = torch.addmv(self._norms, self.vectors, self.vectors[index], alpha=-2)
        return squares.topk(min(count, len(squares)), largest=False).indices

    def _nearest(self, parts: Sequence[Tensor]) -> Tensor:
        """The index of the least |b|^2 - 2 q.b of each place."""
        patches = self.patches
        rows, columns = patches.grid
        queries = [part.flatten(1).T for part in parts]
        upsampling = [
            patches.upsampling(part, values) for part, values in zip(patches.parts, parts, strict=True)
        ]
        least = queries[0].new_full((patches.places,), torch.inf)
        indices = torch.zeros(patches.places, dtype=torch.int64, device=least.device)
        for i, norms in enumerate(torch.split(self._norms, self._block)):
            vectors = self.vectors[i * self._block : i * self._block + len(norms)]
            total = norms.expand(patches.places, -1)
            coarser = []
            for part, query, matrices in zip(patches.parts, queries, upsampling, strict=True):
                components = vectors[:, part.low : part.high].T
                if matrices is None:
                    total = torch.addmm(total, query, components, alpha=-2)
                else:
                    coarser.append((part, query @ components, *matrices))
            total = total.view(rows, columns, -1)
            for part, products, row_matrix, column_matrix in coarser:
                height, width = part.grid
                half = (row_matrix @ products.view(height, -1)).view(rows, width, -1)
                total.baddbmm_(column_matrix.expand(rows, -1, -1), half, alpha=-2)
            smallest, here = _least(total.view(patches.places, -1))
            better = smallest < least
            least = torch.where(better, smallest, least)
            indices = torch.where(better, here + i * self._block, indices)
        return indices


def _least(values: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest of each row and where it is."""
    if values.device.type == "cpu":  # NumPy's search is about four times faster than PyTorch's
        where = torch.from_numpy(values.numpy().argmin(1))
        return values.gather(1, where[:, None])[:, 0], where
    smallest, where = values.min(1)
    return smallest, where
