"""A small localizer and configurations for the tests of localization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anomaly_sweep.config import LocalizationConf, LocalizationConfiguration
from anomaly_sweep.localization.base import Maps, Scored, Shapes
from tests.support.sweeps import configuration


class DistanceToMean:
    """The distance of each place's vector to the mean of the training vectors there, at one level."""

    state_bytes = 123

    def __init__(
        self, *, level: str = "level3", power: float = 1.0, breaks: str = "", bytes: int = 1000
    ) -> None:
        self.level = level
        self.power = power
        self.breaks = breaks
        self.bytes = bytes
        self.levels = (level,)
        self._sum = torch.zeros(())
        self._n = 0

    def partial_fit(self, maps: Maps) -> None:
        self._may_break("partial_fit")
        self._sum = self._sum + maps[self.level].double().sum(dim=0)
        self._n += len(maps[self.level])

    def finish(self) -> None:
        self._may_break("finish")
        self._mean = self._sum / self._n

    def score(self, maps: Maps) -> Scored:
        self._may_break("score")
        return Scored((maps[self.level] - self._mean).norm(dim=1).pow(self.power).float())

    def fit_bytes(self, shapes: Shapes, n_images: int) -> int:
        self._may_break("fit_bytes")
        assert set(shapes) == {self.level}
        assert n_images > 0
        return self.bytes

    def operations(self, shapes: Shapes, n_train: int, n_test: int) -> float:
        channels, height, width = shapes[self.level]
        return 3.0 * channels * height * width * (n_train + n_test)

    def _may_break(self, where: str) -> None:
        if self.breaks == where:
            raise RuntimeError(f"broken in {where}")


def localizer(**arguments: Any) -> dict[str, Any]:
    name = "_".join(["distance", *(f"{key}{value}" for key, value in arguments.items())])
    return {"name": name, "_target_": "tests.support.localizers.DistanceToMean", **arguments}


def localization(
    root: Path, localizer_: dict[str, Any], *, center_crop: int | None = None, **task: Any
) -> LocalizationConfiguration:
    """One configuration on two tiny categories with random weights."""
    plain = configuration(root)
    dataset = plain.dataset
    if center_crop is not None:
        dataset = type(dataset)(**{**vars(dataset), "center_crop": center_crop})
    settings = {"name": "localization", "sigma": 2.0, "figure": False, **task}
    return LocalizationConfiguration(dataset, plain.backbone, LocalizationConf(**settings), localizer_)
