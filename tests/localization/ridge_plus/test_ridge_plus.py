"""ridge_plus against the plain formulas: rows put together one by one, sklearn's Ridge, NumPy's SVD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, zoom
from sklearn.linear_model import Ridge
from torch import Tensor

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.ridge_plus import RidgePlus
from anomaly_sweep.localization.ridge_plus.moments import Stream
from anomaly_sweep.localization.ridge_plus.whitened import regress
from tests.support.paths import ROOT

SHAPES = {"level2": (3, 12, 12), "level3": (4, 6, 6), "level4": (5, 6, 6)}
Floats = NDArray[np.float64]


def random_maps(n: int, seed: int, shapes: dict[str, tuple[int, int, int]] = SHAPES) -> dict[str, Tensor]:
    """Maps that differ from place to place, and of which neighbours are alike."""
    places, drawn = np.random.default_rng(7), np.random.default_rng(seed)
    found = {}
    for level, shape in shapes.items():
        mean = places.normal(size=shape)
        noise = gaussian_filter(drawn.normal(size=(n, *shape)), (0, 0.5, 1, 1)) * 2
        found[level] = torch.from_numpy((mean + noise).astype(np.float32))
    return found


def fitted(train: dict[str, Tensor], **arguments: Any) -> RidgePlus:
    model = RidgePlus(**arguments)
    model.partial_fit(train)
    model.finish()
    return model


def spectrum(square: Floats, components: int) -> Floats:
    """The lowest cosine components of (channels, side, side)."""
    found: Floats = dctn(square, norm="ortho", axes=(1, 2))[:, :components, :components]
    return found.ravel()


def rows_of(
    maps: dict[str, Tensor], side: int, hole: int, components: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Neighbourhoods and their middles, surroundings, shallow and deep vectors: (n, places, features) each.

    Of the neighbourhoods and of the surroundings (0 in the middle) the cosine components are given.
    """
    shallow = [maps["level2"].numpy().reshape(-1, 3, 6, 2, 6, 2).mean((3, 5)), maps["level3"].numpy()]
    deep = maps["level4"].numpy().astype(np.float64)
    whole: list[list[Floats]] = []
    around: list[list[Floats]] = []
    reach = range(-(side // 2), side // 2 + 1)
    for image in deep:
        whole.append([])
        around.append([])
        for y in range(6):
            for x in range(6):
                near = {
                    (i, j): image[:, min(max(y + i, 0), 5), min(max(x + j, 0), 5)]
                    for i in reach
                    for j in reach
                }
                square = np.stack(list(near.values()), axis=1).reshape(5, side, side)
                low = (side - hole) // 2
                middle = square[:, low : low + hole, low : low + hole]
                whole[-1].append(np.concatenate([spectrum(square, components), middle.ravel()]))
                outside = square.copy()
                outside[:, low : low + hole, low : low + hole] = 0
                around[-1].append(spectrum(outside, components))
    y1 = np.concatenate(shallow, axis=1).reshape(len(deep), 7, 36).swapaxes(1, 2).astype(np.float64)
    return np.array(whole), np.array(around), y1, deep.reshape(len(deep), 5, 36).swapaxes(1, 2)


def plain_scores(
    train: dict[str, Tensor],
    test: dict[str, Tensor],
    *,
    side: int,
    hole: int,
    components: int,
    alpha: float,
    epsilon: float,
    weight: float,
) -> tuple[Floats, float]:
    """Scores (n, places) and the shrinkage."""
    fit, asked = (rows_of(maps, side, hole, components) for maps in (train, test))
    # The shrinkage is of all rows together, as the Gram matrix sees them.
    rows = np.concatenate([fit[0], fit[2], fit[3]], axis=2)
    n, places, _ = rows.shape
    own = rows.mean(0)
    chance = rows.var(axis=0, ddof=1).sum(1).mean() / n
    between = ((own - own.mean(0)) ** 2).sum() / (places - 1)
    shrinkage = min(chance / between, 1.0)

    def centred(of_fit: Floats, of_test: Floats) -> tuple[Floats, Floats]:
        mean = of_fit.mean(0)
        mean = mean.mean(0) + (1 - shrinkage) * (mean - mean.mean(0))
        return tuple((of - mean).reshape(-1, of.shape[2]) for of in (of_fit, of_test))  # type: ignore[return-value]

    total = np.zeros(len(asked[0]) * places)
    for explain, aim, share in ((0, 2, 1 - weight), (1, 3, weight)):
        x, x_test = centred(fit[explain], asked[explain])
        y, y_test = centred(fit[aim], asked[aim])
        penalty = (alpha + x.shape[1] / len(x)) * (x**2).sum() / x.shape[1]
        model = Ridge(alpha=penalty, fit_intercept=False).fit(x, y)
        errors = y - model.predict(x)
        covariance = errors.T @ errors / len(errors)
        covariance += epsilon * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        error = y_test - model.predict(x_test)
        total += share * np.einsum("ij,jk,ik->i", error, np.linalg.inv(covariance), error) / y.shape[1]
    return np.sqrt(total).reshape(-1, places), shrinkage


@pytest.mark.parametrize(("side", "components", "hole"), [(3, 3, 1), (5, 5, 3), (5, 3, 1), (7, 4, 3)])
@pytest.mark.parametrize(("alpha", "epsilon", "weight"), [(1e-3, 1e-2, 0.25), (0.5, 1.0, 0.6)])
def test_scores_are_the_plain_formulas(
    side: int, components: int, hole: int, alpha: float, epsilon: float, weight: float
) -> None:
    train, test = random_maps(9, 1), random_maps(4, 2)
    settings = {"hole": hole, "components": components, "alpha": alpha, "epsilon": epsilon, "weight": weight}
    model = fitted(train, neighborhood=side, projection=None, rank=99, **settings)
    expected, shrinkage = plain_scores(train, test, side=side, **settings)  # type: ignore[arg-type]
    assert 0 < shrinkage < 1
    assert model.shrinkage == pytest.approx(shrinkage, rel=1e-4)
    # Float32 products (6e-8) of features that a penalty of alpha, and a ridge of epsilon, amplify.
    torch.testing.assert_close(
        model.score(test).grid.flatten(1).double(), torch.from_numpy(expected), rtol=2e-4, atol=2e-4
    )


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_regression_of_reduced_rank_predicts_the_directions_best_predicted(rank: int) -> None:
    drawn = np.random.default_rng(3)
    x = drawn.normal(size=(400, 8)) @ drawn.normal(size=(8, 8))
    y = x @ drawn.normal(size=(8, 6)) + drawn.normal(size=(400, 6)) @ drawn.normal(size=(6, 6))
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)
    found = regress(
        *(torch.from_numpy(a) for a in (x.T @ x / n, x.T @ y / n, y.T @ y / n)),
        alpha=0.01, epsilon=1e-3, rank=rank,
    )  # fmt: skip

    def ridged(errors: Floats) -> Floats:
        covariance = errors.T @ errors / n
        return covariance + 1e-3 * np.trace(covariance) / 6 * np.eye(6)

    predicted = Ridge(alpha=0.01 * (x**2).sum() / 8, fit_intercept=False).fit(x, y).predict(x)
    factor = np.linalg.cholesky(ridged(y - predicted))
    whitened = np.linalg.solve(factor, predicted.T).T
    directions = np.linalg.svd(whitened)[2][:rank]
    cut = y - whitened @ directions.T @ directions @ factor.T
    expected = np.einsum("ij,jk,ik->i", cut, np.linalg.inv(ridged(cut)), cut)
    error = found.white.numpy() @ y.T - found.lift.numpy() @ found.kernel.numpy() @ x.T
    np.testing.assert_allclose((error**2).sum(0), expected, rtol=1e-8)
    assert found.kernel.shape == (rank, 8)


def test_training_scores_are_about_one() -> None:
    """Whitened errors have, up to epsilon, a mean square of 1 over the rows that they were fitted to."""
    train = random_maps(30, 1)
    model = fitted(train, neighborhood=3, components=3, hole=1, projection=None, epsilon=1e-9)
    assert float(model.score(train).grid.square().mean()) == pytest.approx(1, rel=1e-3)


def test_means_are_shrunk_by_what_is_chance() -> None:
    drawn = np.random.default_rng(0)
    places = drawn.normal(size=(5, 16))
    for spread, n in ((0.0, 50), (1.0, 50), (1.0, 1)):
        rows = spread * places + drawn.normal(size=(n, 5, 16))
        stream = Stream(torch.from_numpy(rows[0]).float())
        for row in rows:
            stream.add(torch.from_numpy(row).float())
        found = stream.moments()
        own, overall = rows.mean(0), rows.mean((0, 2))[:, None]
        mean = overall + (1 - found.shrinkage) * (own - overall)
        np.testing.assert_allclose(found.means.numpy(), mean, atol=1e-5)
        apart = (rows - mean).swapaxes(0, 1).reshape(5, -1)
        np.testing.assert_allclose(found.covariance.numpy(), apart @ apart.T / apart.shape[1], atol=1e-4)
        if n == 1:
            assert found.shrinkage == 1
        elif spread:  # of a variance of 1 / 50 by chance, and of 1
            assert found.shrinkage == pytest.approx(0.02 / np.var(places - places.mean(1)[:, None]), rel=0.3)
        else:
            assert found.shrinkage > 0.6


def test_what_its_surroundings_foretell_scores_less_than_what_they_do_not() -> None:
    train, test = random_maps(40, 1), random_maps(2, 2)
    model = fitted(train, neighborhood=3, components=3, hole=1, projection=None)
    test = {level: maps[:1].repeat(2, 1, 1, 1) for level, maps in test.items()}
    # The same change of the deep level at one place, or at all of them together.
    change = torch.full((5,), 1.5)
    test["level4"][0, :, 3, 3] += change
    test["level4"][1] += change[:, None, None]
    alone, together = model.score(test).grid[:, 3, 3]
    assert alone > together


def test_image_score_is_the_mean_of_the_highest_of_the_smoothed_grid() -> None:
    model = fitted(random_maps(9, 1), neighborhood=3, components=3, hole=1, top=0.1)
    scored = model.score(random_maps(2, 2))
    assert scored.image is not None
    for grid, image in zip(scored.grid.numpy(), scored.image, strict=True):
        finer = gaussian_filter(zoom(grid, 4, order=1, grid_mode=True, mode="nearest"), 1.0)
        highest = np.sort(finer.ravel())[-int(np.ceil(0.1 * finer.size)) :]
        assert float(image) == pytest.approx(float(highest.mean()), rel=1e-5)


def test_the_seed_draws_the_projection() -> None:
    shapes = SHAPES | {"level4": (12, 6, 6)}
    train, test = random_maps(9, 1, shapes), random_maps(2, 2, shapes)
    grids = [fitted(train, projection=3, seed=seed).score(test).grid for seed in (0, 0, 1)]
    assert torch.equal(grids[0], grids[1])
    assert not torch.allclose(grids[0], grids[2], rtol=1e-3)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("shallow", [], "localizer.shallow"),
        ("shallow", ["level4"], "without localizer.deep=level4"),
        ("neighborhood", 4, "localizer.neighborhood=4 has no middle"),
        ("hole", 9, "localizer.hole=9 leaves nothing"),
        ("components", 0, "localizer.components"),
        ("weight", -0.1, "localizer.weight"),
        ("weight", 1.1, "localizer.weight"),
        ("projection", 0, "localizer.projection"),
        ("rank", 0, "localizer.rank"),
        ("alpha", 0, "localizer.alpha"),
        ("epsilon", 0, "localizer.epsilon"),
        ("top", 0, "localizer.top"),
        ("top", 1.5, "localizer.top"),
        ("seed", -1, "localizer.seed"),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RidgePlus(**{argument: value})


def test_a_coarser_shallow_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="level4 has a coarser grid"):
        RidgePlus(shallow=["level4"], deep="level2").partial_fit(random_maps(1, 1))


def test_too_large_a_neighborhood_is_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly_sweep.memory.available_bytes", lambda _device: 10**5)
    with pytest.raises(EstimatorError, match=r"localizer.components=7.*use a smaller"):
        RidgePlus(projection=None).partial_fit(random_maps(1, 1))


def test_the_config_names_every_argument_with_its_default() -> None:
    option = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "localizer" / "ridge_plus.yaml"))
    assert isinstance(option, dict)
    shipped, plain = build(option), RidgePlus()  # type: ignore[arg-type]
    assert set(option) - {"name", "_target_", "seeds"} == set(RidgePlus.__init__.__kwdefaults__ or {})
    train, test = random_maps(4, 1), random_maps(2, 2)
    for one in (shipped, plain):
        one.partial_fit(train)
        one.finish()
    assert torch.equal(shipped.score(test).grid, plain.score(test).grid)
