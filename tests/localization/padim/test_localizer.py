"""PaDiM against numpy's covariances and scipy's Mahalanobis distance, place by place."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.spatial.distance import mahalanobis
from torch.nn.functional import interpolate

from anomaly_sweep.errors import AnomalySweepError, ConfigError, EstimatorError
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.padim import layout as padim_layout
from anomaly_sweep.localization.padim.gaussians import count_numbers, nest, unnest
from anomaly_sweep.localization.padim.layout import choose_channels
from anomaly_sweep.localization.padim.localizer import Padim
from tests.support.memory import peak_of
from tests.support.paths import ROOT

Maps = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, int, int]]

SHAPES: Shapes = {"level2": (6, 12, 8), "level3": (7, 6, 4), "level4": (9, 3, 2)}


def random_maps(shapes: Shapes, b: int, seed: int) -> Maps:
    """Correlated non-negative maps, of different scales in the levels."""
    made = torch.Generator().manual_seed(seed)
    maps = {}
    for i, (level, (c, h, w)) in enumerate(shapes.items()):
        mixing = torch.randn(c, c, generator=made)
        raw = torch.einsum("dc,bchw->bdhw", mixing, torch.randn(b, c, h, w, generator=made))
        maps[level] = torch.relu(raw + 0.5) * 2.0 ** (i - 1)
    return maps


def fitted(train: Maps, cuts: tuple[int, ...] = (), **arguments: Any) -> Padim:
    """A model of the training maps, taken in in batches that end at ``cuts``."""
    model = Padim(levels=list(train), **arguments)
    n = len(next(iter(train.values())))
    for low, high in zip((0, *cuts), (*cuts, n), strict=True):
        if high > low:
            model.partial_fit({level: maps[low:high] for level, maps in train.items()})
    model.finish()
    return model


def joined(maps: Maps, channels: int, seed: int, mode: str) -> np.ndarray:
    """The chosen channels on the finest grid, (b, d, h, w) in float64."""
    finest = max((tuple(m.shape[2:]) for m in maps.values()), key=lambda g: g[0] * g[1])
    on_finest = torch.cat([interpolate(m, finest, mode=mode) for m in maps.values()], dim=1)
    subset = random.Random(seed).sample(range(on_finest.shape[1]), channels)
    return on_finest[:, subset].double().numpy()


def reference(train: np.ndarray, test: np.ndarray, epsilon: float) -> np.ndarray:
    """Mahalanobis distances (b, h, w), by an inverse at every place."""
    d, height, width = train.shape[1:]
    distances = np.empty((len(test), height, width))
    for i in range(height):
        for j in range(width):
            covariance = np.atleast_2d(np.cov(train[:, :, i, j], rowvar=False)) + epsilon * np.eye(d)
            inverse, mean = np.linalg.inv(covariance), train[:, :, i, j].mean(axis=0)
            for b in range(len(test)):
                distances[b, i, j] = mahalanobis(test[b, :, i, j], mean, inverse)
    return distances


@st.composite
def cases(draw: st.DrawFn) -> tuple[Shapes, int]:
    """Shapes of one to three levels whose grids divide each other, and how many channels to choose."""
    small = st.integers(1, 3)
    grid = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    shapes: Shapes = {}
    for level in ("level4", "level3", "level2")[: draw(small)]:
        shapes[level] = (draw(st.integers(1, 4)), *grid)
        grid = (grid[0] * draw(small), grid[1] * draw(small))
    order = draw(st.permutations(sorted(shapes)))
    channels = draw(st.integers(1, sum(c for c, _, _ in shapes.values())))
    return {level: shapes[level] for level in order}, channels


@given(
    case=cases(), n=st.integers(2, 9), upsample=st.sampled_from(["nearest", "bilinear"]),
    epsilon=st.sampled_from([1e-3, 0.01, 1.0]), seed=st.integers(0, 99), cut=st.integers(1, 8),
)  # fmt: skip
@example(case=({"a": (1, 4, 4), "b": (1, 2, 2), "c": (1, 1, 1)}, 3), n=2, upsample="nearest",
         epsilon=0.01, seed=0, cut=1)  # fmt: skip
@example(case=({"a": (1, 4, 4), "b": (30, 2, 2)}, 2), n=5, upsample="nearest",
         epsilon=0.01, seed=1, cut=1)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_equals_a_covariance_and_an_inverse_at_every_place(
    case: tuple[Shapes, int], n: int, upsample: str, epsilon: float, seed: int, cut: int
) -> None:
    shapes, channels = case
    train, test = random_maps(shapes, n, seed), random_maps(shapes, 3, seed + 1000)
    model = fitted(train, (min(cut, n),), channels=channels, seed=seed, epsilon=epsilon, upsample=upsample)
    expected = reference(
        joined(train, channels, seed, upsample), joined(test, channels, seed, upsample), epsilon
    )
    scored = model.score(test)
    assert scored.image is None
    assert scored.grid.dtype == torch.float32
    np.testing.assert_allclose(scored.grid.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_no_channel_of_the_finest_level_still_gives_the_finest_grid() -> None:
    shapes = {"fine": (1, 4, 4), "coarse": (30, 2, 2)}
    seed = next(s for s in range(99) if 0 not in choose_channels(31, 3, s))
    train, test = random_maps(shapes, 6, 0), random_maps(shapes, 2, 1)
    found = fitted(train, channels=3, seed=seed).score(test).grid
    expected = reference(joined(train, 3, seed, "nearest"), joined(test, 3, seed, "nearest"), 0.01)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("n", [7, 40])
def test_shared_factors_equal_those_of_replicated_features(n: int) -> None:
    shapes: Shapes = {"level2": (20, 16, 16), "level3": (30, 8, 8), "level4": (40, 4, 4)}
    train, test = random_maps(shapes, n, 0), random_maps(shapes, 4, 1)
    replicated = [
        {level: interpolate(m, (16, 16), mode="nearest") for level, m in maps.items()}
        for maps in (train, test)
    ]
    shared, plain = fitted(train, channels=60), fitted(replicated[0], channels=60)
    torch.testing.assert_close(shared.score(test).grid, plain.score(replicated[1]).grid, rtol=1e-4, atol=1e-4)
    assert shared.state_bytes < 0.6 * plain.state_bytes


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize("width", [1, 2000, 30_000])
def test_cuts_change_nothing(upsample: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = random_maps(SHAPES, 13, 0), random_maps(SHAPES, 5, 1)
    whole = fitted(train, upsample=upsample, channels=18).score(test).grid
    monkeypatch.setattr(padim_layout, "_FIT_BYTES", width)
    monkeypatch.setattr(padim_layout, "_SCORE_BYTES", width)
    model = fitted(train, (1, 4, 11), upsample=upsample, channels=18)
    apart = [model.score({level: maps[i : i + 1] for level, maps in test.items()}).grid for i in range(5)]
    torch.testing.assert_close(torch.cat(apart), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.score(test).grid, whole, rtol=1e-5, atol=1e-5)


def test_order_of_the_images_changes_nothing() -> None:
    train, test = random_maps(SHAPES, 13, 0), random_maps(SHAPES, 5, 1)
    turned = {level: maps.flip(0) for level, maps in train.items()}
    torch.testing.assert_close(fitted(train).score(test).grid, fitted(turned).score(test).grid)


def test_subset_is_the_reimplementations() -> None:
    before = random.getstate()
    random.seed(1024)
    drawn = random.sample(range(448), 100)
    random.setstate(before)
    assert choose_channels(448, "auto", 1024) == sorted(drawn)
    # Written out, should Python ever draw differently.
    assert drawn[:8] == FIRST_OF_1024
    assert random.getstate() == before


FIRST_OF_1024 = [408, 9, 247, 435, 199, 165, 424, 405]


@pytest.mark.parametrize(("total", "count"), [(60, 60), (448, 100), (449, 449), (900, 550), (1792, 550)])
def test_auto_follows_the_paper(total: int, count: int) -> None:
    assert len(choose_channels(total, "auto", 3)) == count


def test_seeds_draw_different_subsets() -> None:
    train, test = random_maps(SHAPES, 9, 0), random_maps(SHAPES, 2, 1)
    scores = [fitted(train, channels=5, seed=seed).score(test).grid for seed in (0, 0, 1)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.allclose(scores[0], scores[2])


def test_finds_a_planted_defect() -> None:
    train, test = random_maps(SHAPES, 60, 0), random_maps(SHAPES, 1, 1)
    test["level2"][0, :, 9, 5] += 6
    test["level4"][0, :, 0, 1] += 20
    grid = fitted(train, channels=20).score(test).grid[0]
    fine = torch.zeros(12, 8, dtype=torch.bool)
    fine[9, 5] = fine[:4, 4:] = True
    assert grid[fine].min() > grid[~fine].max()


def test_distance_of_the_mean_is_zero_and_grows_in_proportion() -> None:
    train = random_maps(SHAPES, 9, 0)
    model = fitted(train, channels=20)
    mean = {level: maps.double().mean(0, keepdim=True) for level, maps in train.items()}
    step = random_maps(SHAPES, 1, 5)
    near, one, three = (
        model.score({level: (m + factor * step[level]).float() for level, m in mean.items()}).grid
        for factor in (0, 1, 3)
    )
    assert near.max() < 1e-4
    torch.testing.assert_close(three, 3 * one, rtol=1e-3, atol=1e-3)


def test_dead_and_repeated_channels() -> None:
    train, test = random_maps(SHAPES, 9, 0), random_maps(SHAPES, 3, 1)
    for maps in (train, test):
        maps["level2"][:, 0] = 0
        maps["level3"][:, 1:] = maps["level3"][:, :1]
        maps["level4"][:, 3] = 7
    expected = reference(joined(train, 22, 1024, "nearest"), joined(test, 22, 1024, "nearest"), 0.01)
    np.testing.assert_allclose(fitted(train, channels=22).score(test).grid.numpy(), expected, rtol=1e-4)


def test_repeated_images_have_the_ridge_as_covariance() -> None:
    train = {level: maps.repeat(5, 1, 1, 1) for level, maps in random_maps(SHAPES, 1, 0).items()}
    test = {level: maps[:1] + 1 for level, maps in train.items()}
    grid = fitted(train, channels=22, epsilon=0.25).score(test).grid
    torch.testing.assert_close(grid, torch.full((1, 12, 8), (22 / 0.25) ** 0.5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 30, 1000])
def test_float32_state_is_enough_at_any_scale(scale: float) -> None:
    """Variances up to 1e8 times epsilon; far below it."""
    shapes: Shapes = {"level2": (20, 4, 4), "level3": (30, 2, 2), "level4": (40, 1, 1)}
    train, test = random_maps(shapes, 40, 0), random_maps(shapes, 4, 1)
    train, test = ({level: m * scale for level, m in maps.items()} for maps in (train, test))
    expected = reference(joined(train, 60, 1024, "nearest"), joined(test, 60, 1024, "nearest"), 0.01)
    np.testing.assert_allclose(fitted(train, channels=60).score(test).grid.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("upsample", "n", "channels", "limit"),
    [("nearest", 20, 60, 1 << 16), ("nearest", 100, 60, 1 << 20), ("nearest", 6, 100, 1 << 20),
     ("bilinear", 20, 60, 1 << 20), ("bilinear", 60, 20, 1 << 18)],
)  # fmt: skip
def test_fit_bytes_is_what_fitting_holds(
    upsample: str, n: int, channels: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padim_layout, "_FIT_BYTES", limit)
    shapes: Shapes = {"level2": (32, 16, 16), "level3": (64, 8, 8), "level4": (96, 4, 4)}
    train = random_maps(shapes, n, 0)
    models: list[Padim] = []

    def fit() -> None:
        models.append(fitted(train, tuple(range(4, n, 4)), channels=channels, upsample=upsample))

    held = peak_of(fit, tmp_path / "trace.json")
    estimate = models[0].fit_bytes(shapes, n)
    assert held <= estimate <= 1.6 * held
    assert models[0].state_bytes < estimate


def test_state_bytes_are_the_blocks_of_the_factors() -> None:
    model = fitted(random_maps(SHAPES, 5, 0), channels=22)
    assert model.state_bytes == 4 * sum(
        cells * own * (1 + before) for cells, own, before in [(6, 9, 9), (24, 7, 16), (96, 6, 22)]
    )
    assert model.state_bytes == 4 * count_numbers([(6, 9), (24, 7), (96, 6)])
    assert Padim().state_bytes == 0


def test_largest_category_of_a_wide_resnet_fits_in_four_gigabytes() -> None:
    shapes: Shapes = {"level2": (256, 64, 64), "level3": (512, 32, 32), "level4": (1024, 16, 16)}
    assert Padim().fit_bytes(shapes, 391) < 2.2e9


def test_maps_of_inference_mode_are_taken_and_no_graph_is_made() -> None:
    train, test = random_maps(SHAPES, 6, 0), random_maps(SHAPES, 2, 1)
    expected = fitted(train).score(test).grid
    with torch.inference_mode():
        inference = [{level: maps.clone() for level, maps in split.items()} for split in (train, test)]
    assert torch.equal(fitted(inference[0]).score(inference[1]).grid, expected)
    tracked = {level: maps.clone().requires_grad_() for level, maps in train.items()}
    assert not fitted(tracked).score(tracked).grid.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": []}, "localizer.levels"),
        ({"levels": ["level2", "level2"]}, "localizer.levels"),
        ({"levels": "level2"}, "localizer.levels=level2"),
        ({"channels": 0}, "localizer.channels=0"),
        ({"channels": "all"}, "localizer.channels=all"),
        ({"channels": True}, "localizer.channels=True"),
        ({"channels": 8.0}, "localizer.channels=8.0"),
        ({"seed": 1.5}, "localizer.seed=1.5 .*whole number"),
        ({"epsilon": 0.0}, "localizer.epsilon=0"),
        ({"epsilon": float("nan")}, "localizer.epsilon=nan"),
        ({"upsample": "cubic"}, "localizer.upsample=cubic"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Padim(**arguments)


def test_more_channels_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"localizer.channels=23 is more than the 22"):
        Padim(channels=23).fit_bytes(SHAPES, 10)
    with pytest.raises(ConfigError, match=r"localizer.channels=23"):
        Padim(channels=23).partial_fit(random_maps(SHAPES, 2, 0))


def test_grids_that_do_not_divide_are_refused_unless_bilinear() -> None:
    shapes: Shapes = {"level2": (3, 12, 8), "level3": (4, 5, 4)}
    train, test = random_maps(shapes, 6, 0), random_maps(shapes, 2, 1)
    with pytest.raises(ConfigError, match=r"level3 has 5x4 places and level2 12x8; use .*=bilinear"):
        Padim(levels=list(shapes)).fit_bytes(shapes, 10)
    expected = reference(joined(train, 7, 1024, "bilinear"), joined(test, 7, 1024, "bilinear"), 0.01)
    found = fitted(train, upsample="bilinear").score(test).grid.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images(n: int) -> None:
    model = Padim()
    if n:
        model.partial_fit(random_maps(SHAPES, n, 0))
    with pytest.raises(EstimatorError, match=f"2 training images, there are {n}"):
        model.finish()


def test_maps_that_do_not_fit() -> None:
    train = random_maps(SHAPES, 6, 0)
    model = Padim()
    with pytest.raises(EstimatorError, match="after partial_fit and finish"):
        model.score(train)
    model.partial_fit(train)
    other = random_maps({**SHAPES, "level3": (7, 12, 8)}, 2, 0)
    with pytest.raises(EstimatorError, match=r"level3 are 7x12x8, .* 7x6x4"):
        model.partial_fit(other)
    with pytest.raises(EstimatorError, match="lack level4"):
        model.partial_fit({level: train[level] for level in ("level2", "level3")})
    model.finish()
    with pytest.raises(EstimatorError, match="level3 are 7x12x8"):
        model.score(other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite(bad: float) -> None:
    train, test = random_maps(SHAPES, 6, 0), random_maps(SHAPES, 2, 1)
    model = fitted(train, channels=22)
    test["level3"][1, 0, 0, 0] = bad
    with pytest.raises(EstimatorError, match="NaN or infinity"):
        model.score(test)
    train["level3"][1, 0, 0, 0] = bad
    with pytest.raises(EstimatorError, match="NaN or infinity"):
        fitted(train, channels=22)


def test_an_epsilon_lost_in_rounding_is_refused() -> None:
    train = {level: 1e12 * maps for level, maps in random_maps(SHAPES, 4, 0).items()}
    with pytest.raises(EstimatorError, match=r"localizer.epsilon=0.01 is lost in rounding; raise it"):
        fitted(train, channels=22)


def test_errors_are_shown_to_users() -> None:
    assert issubclass(EstimatorError, AnomalySweepError)


def test_shipped_config_is_the_default() -> None:
    conf = ROOT / "conf" / "localizer" / "padim.yaml"
    config = OmegaConf.to_container(OmegaConf.load(conf))
    assert isinstance(config, dict)
    built = build({str(key): value for key, value in config.items()})
    assert isinstance(built, Padim)
    assert vars(built) == vars(Padim())


def test_nested_order_keeps_the_cells_of_a_cell_together() -> None:
    grids = [(1, 2), (2, 4), (4, 4)]
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    maps = torch.stack([rows, columns])[None].float()
    places = nest(maps, grids)[:, 0].view(2, 4, 2, 2)
    assert torch.equal(places[0].flatten(0, 1)[:, 1].unique(), torch.tensor([0.0, 1.0]))
    # The four cells of 2 x 4 in the right half, row by row; two places in each.
    assert places[1].tolist() == [
        [[0, 2], [1, 2]], [[0, 3], [1, 3]], [[2, 2], [3, 2]], [[2, 3], [3, 3]],
    ]  # fmt: skip
    assert torch.equal(unnest(nest(maps, grids)[..., 0], grids), maps[:, 0])
