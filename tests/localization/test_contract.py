"""What every localizer keeps to. A new one is a line in ``LOCALIZERS``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.localization.base import Localizer, Maps, Scored, Shapes
from anomaly_sweep.localization.create import build
from tests.support.memory import peak_of

OURS = "anomaly_sweep.localization"
SHAPES = {"level2": (8, 16, 16), "level3": (16, 8, 8), "level4": (24, 4, 4)}
torch.set_num_threads(1)  # the maps are small: threads would only wait for each other


def line(name: str, target: str, **arguments: Any) -> Any:
    return pytest.param({"name": name, "_target_": f"{OURS}.{target}", **arguments}, id=name)


LOCALIZERS = [
    line("ridge", "ridge.RidgeLocalizer"),
    line("ridge_shared", "ridge.RidgeLocalizer", intercept="shared", alpha="gcv"),
    line(
        "ridge_source", "ridge.RidgeLocalizer", grid="source", neighborhood=3, norm="standardized", alpha=0.1
    ),
    line("ridge_average", "ridge.RidgeLocalizer", neighborhood=1, neighbors="average"),
    line("ridge_plus", "ridge_plus.RidgePlus"),
    line("ridge_plus_small", "ridge_plus.RidgePlus", neighborhood=3, hole=1, projection=8, rank=4),
    line("padim", "padim.Padim", channels=20),
    line("padim_bilinear", "padim.Padim", channels=20, upsample="bilinear"),
    line("patchcore", "patchcore.PatchCore", coreset=0.1),
    line("patchcore_all", "patchcore.PatchCore", coreset=1.0, projection=None),
    line("patchcore_official", "patchcore.PatchCore", coreset=0.1, variant="official"),
    line("patchcore_reweight", "patchcore.PatchCore", coreset=0.1, reweight="paper"),
]
every = pytest.mark.parametrize("config", LOCALIZERS)
devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")),
    ],
)


def maps(n: int, seed: int = 0, shapes: Shapes = SHAPES) -> dict[str, Tensor]:
    """Smooth maps that differ from place to place more than from image to image."""
    places = torch.Generator().manual_seed(99)
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for level, shape in shapes.items():
        mean = torch.randn(shape, generator=places).abs() + 1
        found[level] = (mean + 0.3 * torch.randn((n, *shape), generator=generator)).abs()
    return found


def some(of: Maps, rows: slice | Tensor) -> dict[str, Tensor]:
    return {level: values[rows] for level, values in of.items()}


def take(config: dict[str, Any], train: Maps, *cuts: int) -> Localizer:
    """A localizer that has taken in training images in batches that end at the cuts; not finished."""
    localizer = build(config)
    n = len(next(iter(train.values())))
    ends = (*cuts, n)
    for start, end in zip((0, *cuts), ends, strict=True):
        localizer.partial_fit(some(train, slice(start, end)))
    return localizer


def fitted(config: dict[str, Any], train: Maps, *cuts: int) -> Localizer:
    localizer = take(config, train, *cuts)
    localizer.finish()
    return localizer


def images(scored: Scored) -> Tensor:
    """A number an image: the localizer's own, or the maximum of its grid."""
    return scored.grid.flatten(1).amax(1) if scored.image is None else scored.image


def assert_close(found: Scored, expected: Scored) -> None:
    torch.testing.assert_close(found.grid, expected.grid, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(images(found), images(expected), rtol=1e-3, atol=1e-4)


@every
def test_scores_are_finite_on_a_grid_for_each_image(config: dict[str, Any]) -> None:
    localizer = fitted(config, maps(12))
    scored = localizer.score(maps(5, seed=1))
    grids = {shape[1:] for shape in SHAPES.values()}
    assert scored.grid.shape[0] == 5
    assert tuple(scored.grid.shape[1:]) in grids
    assert scored.grid.dtype == torch.float32
    assert images(scored).shape == (5,)
    assert images(scored).dtype == torch.float32
    assert scored.grid.isfinite().all()
    assert images(scored).isfinite().all()
    if getattr(localizer, "score_scale", "interval") == "ratio":
        assert (scored.grid >= 0).all()


@every
def test_higher_is_more_anomalous_and_where_it_is(config: dict[str, Any]) -> None:
    localizer, test = fitted(config, maps(12)), maps(2, seed=1)
    for level, (_, height, width) in SHAPES.items():
        noise = torch.randn(test[level].shape[1:], generator=torch.Generator().manual_seed(3))
        part = (
            ...,
            slice(height // 2, None),
            slice(width // 2, None),
        )  # the lower right quarter of the second
        test[level][1][part] += 4 * noise[part].abs()
    scored = localizer.score(test)
    _, height, width = scored.grid.shape
    y, x = divmod(int(scored.grid[1].argmax()), width)
    assert y >= height // 2 - 1
    assert x >= width // 2 - 1
    assert scored.grid[1].max() > 2 * scored.grid[0].max()
    assert images(scored)[1] > images(scored)[0]


@every
def test_same_images_same_scores(config: dict[str, Any]) -> None:
    state = torch.random.get_rng_state()
    first, second = (fitted(config, maps(12)).score(maps(5, seed=1)) for _ in range(2))
    assert torch.equal(first.grid, second.grid)
    assert torch.equal(images(first), images(second))
    assert torch.equal(torch.random.get_rng_state(), state)


@every
@pytest.mark.parametrize("cuts", [(5,), (1, 2, 7), (1, 11)])
def test_batches_of_training_images_change_nothing(config: dict[str, Any], cuts: tuple[int, ...]) -> None:
    train, test = maps(12), maps(5, seed=1)
    assert_close(fitted(config, train, *cuts).score(test), fitted(config, train).score(test))


@every
def test_order_of_training_images_changes_nothing(config: dict[str, Any]) -> None:
    train, test = maps(12), maps(5, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert_close(fitted(config, some(train, order)).score(test), fitted(config, train).score(test))


@every
def test_an_image_is_scored_by_itself(config: dict[str, Any]) -> None:
    localizer, test = fitted(config, maps(12)), maps(5, seed=1)
    whole = localizer.score(test)
    for i in range(5):
        one = localizer.score(some(test, slice(i, i + 1)))
        assert_close(one, Scored(whole.grid[i : i + 1], images(whole)[i : i + 1]))
    order = torch.tensor([3, 0, 4, 1, 2])
    assert_close(localizer.score(some(test, order)), Scored(whole.grid[order], images(whole)[order]))


@every
def test_maps_are_left_as_they_are_and_may_change_afterwards(config: dict[str, Any]) -> None:
    with torch.inference_mode():
        train = maps(12)
    localizer = take(config, train)
    assert all(torch.equal(train[level], values) for level, values in maps(12).items())
    with torch.inference_mode():
        for values in train.values():
            values.zero_()  # as a buffer that is used again
    localizer.finish()
    test = maps(5, seed=1)
    for values in test.values():
        values.requires_grad_()
    scored = localizer.score(test)
    assert not scored.grid.requires_grad
    assert_close(scored, fitted(config, maps(12)).score(maps(5, seed=1)))
    assert all(torch.equal(test[level], values) for level, values in maps(5, seed=1).items())


@every
def test_other_levels_do_not_matter(config: dict[str, Any]) -> None:
    train, test = maps(12), maps(5, seed=1)
    expected = fitted(config, train).score(test)
    localizer = build(config)
    assert set(localizer.levels) <= set(SHAPES)
    own = ({level: of[level] for level in localizer.levels} for of in (train, test))
    assert torch.equal(fitted(config, next(own)).score(next(own)).grid, expected.grid)


@every
def test_fitting_holds_no_more_than_was_told(config: dict[str, Any], tmp_path: Path) -> None:
    shapes: Shapes = {"level2": (32, 32, 32), "level3": (64, 16, 16), "level4": (128, 8, 8)}
    train, made = maps(24, shapes=shapes), []
    localizer = build(config)
    bound = localizer.fit_bytes({level: shapes[level] for level in localizer.levels}, 24)
    assert peak_of(lambda: made.append(fitted(config, train, *range(4, 24, 4))), tmp_path / "trace") <= bound
    assert 0 < made[0].state_bytes <= bound
    assert localizer.state_bytes == 0


@every
def test_operations_grow_with_the_images(config: dict[str, Any]) -> None:
    localizer = build(config)
    shapes: Shapes = {level: SHAPES[level] for level in localizer.levels}
    first, trained, tested = (localizer.operations(shapes, *n) for n in ((12, 5), (24, 5), (12, 10)))
    values = sum(channels * height * width for channels, height, width in shapes.values())
    assert first > min(12, 5) * values / 3  # of each place's numbers, some are looked at
    assert trained > first
    assert tested > first
    assert localizer.state_bytes == 0  # asking leaves it unfitted


@every
def test_scoring_comes_after_fitting(config: dict[str, Any]) -> None:
    with pytest.raises(EstimatorError):
        build(config).score(maps(1))
    with pytest.raises(EstimatorError):
        take(config, maps(4)).score(maps(1))
    with pytest.raises(EstimatorError):
        build(config).finish()


@every
def test_maps_that_do_not_fit_are_refused(config: dict[str, Any]) -> None:
    localizer, test = fitted(config, maps(12)), maps(2, seed=1)
    first = localizer.levels[0]
    unfit = {
        "a level is missing": {level: values for level, values in test.items() if level != first},
        "other channels": {**test, first: test[first][:, :-1]},
        "another size": {level: values[..., : values.shape[-1] // 2] for level, values in test.items()},
    }
    for what, wrong in unfit.items():
        print(what)  # shown where it is not refused
        with pytest.raises(EstimatorError):
            localizer.score(wrong)
        taking = take(config, maps(4))
        with pytest.raises(EstimatorError):
            taking.partial_fit(wrong)


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(config: dict[str, Any], bad: float) -> None:
    for level in build(config).levels:
        test = maps(4, seed=1)
        test[level][1, :, 1, 1] = bad
        with pytest.raises(EstimatorError):
            fitted(config, maps(12)).score(test)
        with pytest.raises(EstimatorError):
            fitted(config, test)


@every
@devices
def test_scores_are_where_the_maps_are(config: dict[str, Any], device: str) -> None:
    there = ({level: values.to(device) for level, values in of.items()} for of in (maps(12), maps(5, seed=1)))
    scored = fitted(config, next(there)).score(next(there))
    assert scored.grid.device.type == device
    assert images(scored).device.type == device
    here = fitted(config, maps(12)).score(maps(5, seed=1))
    assert_close(Scored(scored.grid.cpu(), images(scored).cpu()), Scored(here.grid, images(here)))
