"""Nearest bank vectors of an image's patch vectors, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomaly_sweep.localization.patchcore.patches import Patches

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
            torch.linalg.vector_norm(self.vectors.index_select(0, nearest).sub_(own), dim=1)
            for own, nearest in zip(
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
        upsampling = [patches.upsampling(part, own) for part, own in zip(patches.parts, parts, strict=True)]
        least = queries[0].new_full((patches.places,), torch.inf)
        indices = torch.zeros(patches.places, dtype=torch.int64, device=least.device)
        for i, norms in enumerate(torch.split(self._norms, self._block)):
            vectors = self.vectors[i * self._block : i * self._block + len(norms)]
            total = norms.expand(patches.places, -1)
            coarser = []
            for part, query, matrices in zip(patches.parts, queries, upsampling, strict=True):
                own = vectors[:, part.low : part.high].T
                if matrices is None:
                    total = torch.addmm(total, query, own, alpha=-2)
                else:
                    coarser.append((part, query @ own, *matrices))
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
