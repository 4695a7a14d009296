"""PatchCore (Roth et al. 2022): the distance of a patch vector to the nearest of a coreset of good ones.

``variant=paper`` follows the paper: 3x3 means of two levels, joined on the finer grid; Euclidean distances.
``variant=official`` follows the authors' code: neighbourhoods averaged to 1024 numbers (see
:func:`~anomaly_sweep.localization.patchcore.patches.neighborhood_kernel`), squared distances, and a
selection that starts from the mean distances to random rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from anomaly_sweep.checks import in_range, one_of, whole
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.localization.base import Maps, Scored, Shapes, shapes_of
from anomaly_sweep.localization.patchcore.bank import Bank, Selection, TrainingPatches, centered, fit_bytes
from anomaly_sweep.localization.patchcore.coreset import AVERAGED, FARTHEST, STARTS
from anomaly_sweep.localization.patchcore.patches import OFFICIAL, PAPER, VARIANTS, Patches
from anomaly_sweep.memory import refuse_too_much
from anomaly_sweep.metrics.ties import ScoreScale

AUTO = "auto"
NONE = "none"


class PatchCore:
    """Distance to the nearest patch vector of a coreset of the training images'.

    Parameters
    ----------
    levels : list of str
        Levels that are joined, on the finest one's grid.
    variant : {"paper", "official"}
        paper: means of neighbourhoods, Euclidean distances. official: the authors' code, whose vectors have
        1024 numbers and whose distances are squared.
    neighborhood : int
        Side of the neighbourhoods in places, odd.
    coreset : float
        Share of the training images' vectors to keep, in (0, 1]; 1 keeps all.
    projection : int or None
        Dimensions of the random projection in which the coreset is selected; None: in the vectors themselves.
    start : {"auto", "farthest", "random", "averaged"}
        Where the selection starts, see :func:`~anomaly_sweep.localization.patchcore.coreset.select`. auto:
        averaged for the official variant, else farthest.
    reweight : {"none", "paper"}
        Image score: none, the maximum of the finished anomaly map. paper, the largest score of the grid times
        1 - softmax of its distance among those to the nearest vector's neighbours in the bank.
    reweight_neighbors : int
        How many neighbours, the nearest vector itself counted; at least 2.
    seed : int
        Of the projection and of random starts.
    max_bytes : int or None
        Refuse a fit that would hold more; None: more than there is.

    Raises
    ------
    ConfigError
        For a value that is not allowed.

    Notes
    -----
    The order of the training images and how they are cut into batches change nothing beyond rounding.
    """

    score_scale: ClassVar[ScoreScale] = "ratio"

    def __init__(
        self,
        *,
        levels: Sequence[str] = ("level3", "level4"),
        variant: str = PAPER,
        neighborhood: int = 3,
        coreset: float = 0.01,
        projection: int | None = 128,
        start: str = AUTO,
        reweight: str = NONE,
        reweight_neighbors: int = 9,
        seed: int = 0,
        max_bytes: int | None = None,
    ) -> None:
        if isinstance(levels, str) or not levels or len(set(levels)) < len(levels):
            raise ConfigError(f"localizer.levels={levels} is not allowed; name at least one level, each once")
        one_of("localizer.variant", variant, VARIANTS)
        whole("localizer.neighborhood", neighborhood, 1)
        if neighborhood % 2 != 1:
            raise ConfigError(f"localizer.neighborhood={neighborhood} is not allowed; use an odd number")
        in_range("localizer.coreset", coreset, 0, 1, open_low=True)
        if projection is not None:
            whole("localizer.projection", projection, 1)
        one_of("localizer.start", start, (AUTO, *STARTS))
        one_of("localizer.reweight", reweight, (NONE, "paper"))
        whole("localizer.reweight_neighbors", reweight_neighbors, 2)
        whole("localizer.seed", seed, 0)
        if max_bytes is not None:
            whole("localizer.max_bytes", max_bytes, 1)
        if start == AUTO:
            start = AVERAGED if variant == OFFICIAL else FARTHEST
        self._levels = tuple(levels)
        self._variant, self._neighborhood = variant, neighborhood
        self._selection = Selection(coreset, projection, start, seed)
        self._neighbors = reweight_neighbors if reweight != NONE else None
        self._max_bytes = max_bytes
        self._patches: Patches | None = None
        self._training: TrainingPatches | None = None
        self._means: list[Tensor] = []
        self._bank: Bank | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of the backbone that it reads."""
        return self._levels

    @property
    def state_bytes(self) -> int:
        """Bytes of the bank, the mean and the neighbourhoods' weights; 0 before ``finish``."""
        if self._bank is None:
            return 0
        return self._bank.nbytes + 4 * sum(map(len, self._means)) + self._bank.patches.kernel_bytes

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        """The most bytes held while fitting: parts of all images, and selection or bank."""
        return fit_bytes(self._patches_of(shapes), self._selection, n_images)

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        """Of the distances from every vector to each selected one, and from an image's to the bank's."""
        patches = self._patches_of(shapes)
        n = n_train * patches.places
        kept = self._selection.kept(n)
        select = 2.0 * kept * n * self._selection.numbers(patches.width) if kept < n else 0.0
        # Products are taken on each level's own grid.
        search = sum(2.0 * (p.high - p.low) * p.grid[0] * p.grid[1] for p in patches.parts)
        return select + n_test * kept * search

    @torch.no_grad()
    def partial_fit(self, maps: Maps) -> None:
        """Keep the parts of a batch of good images, and their projected vectors.

        Raises
        ------
        EstimatorError
            If a level is missing, the maps are of other shapes than those before or not finite, or fitting
            the images so far would take more memory than allowed.
        """
        shapes = shapes_of(maps, self._levels, self._known)
        if self._training is None:
            self._patches = self._patches_of(shapes)
            self._training = TrainingPatches(self._patches, self._selection)
        first = maps[self._levels[0]]
        n_images = len(self._training) + len(first)
        refuse_too_much(
            f"PatchCore with localizer.coreset={self._selection.share} of {n_images} training images",
            fit_bytes(self._training.patches, self._selection, n_images),
            held=self._training.nbytes,
            device=first.device,
            limit=self._max_bytes,
            setting="localizer.max_bytes",
            advice="use a smaller localizer.coreset or dataset.input_size",
        )
        for level in self._levels:
            if not maps[level].isfinite().all():
                raise EstimatorError(f"PatchCore: feature maps of {level} hold NaN or infinity")
        self._training.add(maps)

    @torch.no_grad()
    def finish(self) -> None:
        """Select the coreset, put the bank together and drop the training images' parts.

        Raises
        ------
        EstimatorError
            If there was no image, or too small a bank to re-weight.
        """
        if self._training is None or not len(self._training):
            raise EstimatorError("PatchCore needs at least one training image, there is none")
        patches = self._training.patches
        n = len(self._training) * patches.places
        if self._neighbors is not None and self._selection.kept(n) < 2:
            raise EstimatorError(
                "localizer.reweight=paper needs a bank of 2 vectors, "
                f"localizer.coreset={self._selection.share} of {n} gives 1; use a larger coreset or "
                "localizer.reweight=none"
            )
        self._means = self._training.means()
        self._bank = Bank(patches, self._training.bank(self._means))
        self._training = None

    @torch.no_grad()
    def score(self, maps: Maps) -> Scored:
        """Nearest distances on the finest level's grid; image scores with ``reweight=paper``.

        Raises
        ------
        EstimatorError
            If nothing was fitted, the maps are of other shapes than the training images', or a distance is
            not finite.
        """
        if self._bank is None:
            raise EstimatorError("PatchCore scores after partial_fit and finish")
        shapes_of(maps, self._levels, self._known)
        grids, images = [], []
        for image in range(len(maps[self._levels[0]])):
            parts = centered(self._bank.patches.of(maps, image), self._means)
            squares, indices, joined = self._bank.search(parts)
            grid = squares if self._variant == OFFICIAL else squares.sqrt()
            grids.append(grid)
            if self._neighbors is not None:
                images.append(grid.max() * self._weight(self._bank, joined, grid, indices, self._neighbors))
        scores = torch.stack(grids).view(-1, *self._bank.patches.grid)
        if not scores.isfinite().all():
            raise EstimatorError(
                "PatchCore's distances are not finite: the feature maps hold NaN or infinity"
            )
        return Scored(scores, torch.stack(images) if self._neighbors is not None else None)

    @staticmethod
    def _weight(bank: Bank, joined: Tensor, grid: Tensor, indices: Tensor, count: int) -> Tensor:
        """1 - softmax of the distance to the nearest vector among those to its neighbours in the bank."""
        place = grid.argmax(0, keepdim=True)
        vector = joined[:, place].T
        around = bank.neighbors(indices[place][0], count)
        return 1 - (vector - bank.vectors[around]).square().sum(1).sqrt().softmax(0)[0]

    def _patches_of(self, shapes: Shapes) -> Patches:
        return Patches(shapes, self._levels, self._variant, self._neighborhood)

    @property
    def _known(self) -> Shapes | None:
        return None if self._patches is None else self._patches.shapes
