"""Nearest bank vectors of an image's patch vectors, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomaly_sweep.localization.patchcore.patches import Patches

#: Numbers of a block of products: what stays in a processor's cache, or fills a GPU.
_CPU_BLOCK, _GPU_BLOCK = 1 << 19, 1 << 26
#: Below this share of a vector's squared norm, a squared distance is taken anew from the difference.
_CANCELLED = 1e-3


class Bank:
    """Vectors to search, with what searching them needs.

    Squared distances are |q|^2 + |b|^2 - 2 q.b. The inner products with a coarser level's part are taken on
    its own grid and then upsampled (which is linear): a quarter of the products for half the side. Where that
    loses digits, since the distance is small, it is taken again from the difference of the two vectors, so
    that the distance of equal vectors is 0. A distance found this way is that of a vector of the bank, whose
    square is within rounding (about 1e-6 of the squared norms) of the least.

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
        self._block = max(numbers // patches.places, 1)

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
        blocks : Tensor of shape (places,), int64
            In which block of the bank it is.
        joined : Tensor of shape (width, places)
            The image's vectors.
        """
        joined = self.patches.join(parts)
        norms = joined.square().sum(0)
        least, blocks = self._least(parts)
        squares = norms + least
        close = (squares < _CANCELLED * norms).nonzero()[:, 0]
        if len(close):
            own = joined[:, close].T
            squares[close] = (own - self.vectors[self.nearest(own, blocks[close])]).square().sum(1)
        return squares, blocks, joined

    def nearest(self, own: Tensor, blocks: Tensor) -> Tensor:
        """Indices (n,) of the nearest vectors of (n, width), whose blocks are known."""
        found = torch.empty_like(blocks)
        for block in sorted(set(blocks.tolist())):
            here = blocks == block
            some = slice(block * self._block, (block + 1) * self._block)
            products = torch.addmm(self._norms[some], own[here], self.vectors[some].T, alpha=-2)
            found[here] = products.argmin(1) + block * self._block
        return found

    def neighbors(self, index: Tensor, count: int) -> Tensor:
        """Indices of the vectors nearest to one of the bank, nearest (so itself, or its like) first."""
        squares = torch.addmv(self._norms, self.vectors, self.vectors[index], alpha=-2)
        return squares.topk(min(count, len(squares)), largest=False).indices

    def _least(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The least |b|^2 - 2 q.b of each place, and the block it is in."""
        patches = self.patches
        rows, columns = patches.grid
        queries = [part.flatten(1).T for part in parts]
        upsampling = [patches.upsampling(part, own) for part, own in zip(patches.parts, parts, strict=True)]
        least = queries[0].new_full((patches.places,), torch.inf)
        blocks = torch.zeros(patches.places, dtype=torch.int64, device=least.device)
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
            smallest = total.view(patches.places, -1).amin(1)
            better = smallest < least
            least = torch.where(better, smallest, least)
            blocks[better] = i
        return least, blocks
