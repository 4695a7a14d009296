"""The ridge localizer against the plain formula: features by torch's layers, sklearn's Ridge, the norm."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from scipy.ndimage import uniform_filter
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor
from torch.nn import functional as F

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.datasets import read_category
from anomaly_sweep.errors import AnomalySweepError, ConfigError, EstimatorError
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.images import load_square
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.render import render
from anomaly_sweep.localization.ridge import localizer as ridge
from anomaly_sweep.localization.ridge.localizer import RidgeLocalizer
from anomaly_sweep.localization.ridge.neighborhood import Joining, cells, chain, window
from anomaly_sweep.metrics.regions import pixel_auroc
from tests.support.memory import peak_of
from tests.support.paths import ROOT

Maps = dict[str, Tensor]
Shape = tuple[int, int, int]

CONF = ROOT / "conf"


def random_maps(source: Shape, target: Shape, b: int, seed: int = 0) -> Maps:
    """Maps of a level and of a deeper one that depends on it and on the place, not negative."""
    made = torch.Generator().manual_seed(seed)
    shallow = torch.randn(b, *source, generator=made)
    made.manual_seed(1)
    mixing, means = torch.randn(target[0], source[0], generator=made), torch.randn(target, generator=made)
    pooled = F.adaptive_avg_pool2d(shallow, target[1:])
    deep = torch.einsum("mc,bchw->bmhw", mixing, pooled) + means
    made.manual_seed(seed + 2)
    deep += 0.5 * torch.randn(deep.shape, generator=made)
    return {"level3": (shallow + 0.5).relu(), "level4": deep.relu()}


def fitted(train: Maps, cuts: tuple[int, ...] = (), **arguments: Any) -> RidgeLocalizer:
    """A localizer fitted to training maps in batches that end at ``cuts``."""
    model = RidgeLocalizer(**arguments)
    n = len(train["level3"])
    for low, high in itertools.pairwise((0, *cuts, n)):
        model.partial_fit({level: maps[low:high] for level, maps in train.items()})
    model.finish()
    return model


def near(maps: Tensor, side: int, how: str) -> Tensor:
    """Neighbourhoods by torch's layers, neighbours of a channel next to each other."""
    padded = F.pad(maps, [side // 2] * 4, mode="replicate")
    if how == "average":
        return F.avg_pool2d(padded, side, 1)
    b, c, h, w = maps.shape
    return F.unfold(padded, side).reshape(b, c * side * side, h, w)


def features(
    maps: Maps, grid: str, join: str, neighborhood: int, neighbors: str, target_neighborhood: int
) -> tuple[Tensor, Tensor]:
    """What the arguments describe, in float64: x (b, d, h, w) and y (b, m, h, w)."""
    x = near(maps["level3"].double(), neighborhood, neighbors)
    y = near(maps["level4"].double(), target_neighborhood, "average")
    if grid == "source":
        return x, F.interpolate(y, x.shape[2:], mode="bilinear")
    if join == "average":
        return F.adaptive_avg_pool2d(x, y.shape[2:]), y
    return F.pixel_unshuffle(x, x.shape[2] // y.shape[2]), y


def plain_scores(train: Maps, test: Maps, intercept: str, alpha: float, norm: str, **choices: Any) -> Tensor:
    """Fit by scikit-learn on the dense rows, predict, subtract, take the norm."""
    (x, y), (test_x, test_y) = features(train, **choices), features(test, **choices)
    over = (0,) if intercept == "place" else (0, 2, 3)
    means = [part.mean(over, keepdim=True) for part in (x, y)]
    parts = [part - mean for part, mean in zip((x, y, test_x, test_y), means * 2, strict=True)]
    rows_x, rows_y, rows_test_x, rows_test_y = (
        part.permute(0, 2, 3, 1).reshape(-1, part.shape[1]).numpy() for part in parts
    )
    penalty = alpha * np.linalg.eigvalsh(rows_x.T @ rows_x).mean()
    model = SklearnRidge(alpha=penalty, fit_intercept=False).fit(rows_x, rows_y)
    errors = rows_test_y - model.predict(rows_test_x)
    if norm == "standardized":
        errors /= np.sqrt(((rows_y - model.predict(rows_x)) ** 2).mean(axis=0))
    scores = (errors**2).sum(axis=1)
    scores = np.sqrt(scores) if norm == "l2" else scores
    return torch.from_numpy(scores).reshape(len(test_y), *test_y.shape[2:])


CHOICES = [
    {"grid": grid, "join": join, "neighborhood": k, "neighbors": how, "target_neighborhood": k_target}
    for grid, join, (k, how), k_target in itertools.product(
        ("target", "source"),
        ("average", "concatenate"),
        ((1, "average"), (3, "average"), (3, "concatenate"), (5, "concatenate")),
        (1, 3),
    )
    if not (grid == "source" and join == "concatenate")
    # These join a neighbour once that the reference takes several times.
    and not (grid == "target" and join == "concatenate" and (k, how) != (1, "average") and how != "average")
]


@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("intercept", ["place", "shared"])
def test_scores_are_the_plain_formulas(choices: dict[str, Any], intercept: str) -> None:
    shapes: tuple[Shape, Shape] = (5, 8, 8), (6, 4, 4)
    train, test = random_maps(*shapes, 9), random_maps(*shapes, 3, seed=5)
    for norm in ("l2", "squared", "standardized"):
        expected = plain_scores(train, test, intercept, 1e-2, norm, **choices)
        scored = fitted(train, intercept=intercept, alpha=1e-2, norm=norm, **choices).score(test)
        assert scored.image is None
        assert scored.grid.dtype == torch.float32
        torch.testing.assert_close(scored.grid.double(), expected, rtol=1e-5, atol=1e-6)


def test_joined_neighbourhoods_of_a_cell_hold_each_place_once() -> None:
    maps = {"level3": random_maps((2, 8, 8), (3, 4, 4), 6)["level3"]}
    maps["level4"] = random_maps((2, 8, 8), (3, 4, 4), 6)["level4"]
    axis = chain(cells(8, 4, "concatenate"), window(8, 3, "concatenate"))
    made = Joining(axis, axis)(maps["level3"])
    expected = F.unfold(F.pad(maps["level3"], [1] * 4, mode="replicate"), 4, stride=2)
    assert made.shape == (6, 2 * 16, 16)
    # The same places, in another order.
    torch.testing.assert_close(made.sort(1).values, expected.sort(1).values)
    scored = fitted(maps, join="concatenate", neighborhood=3, neighbors="concatenate").score(maps)
    assert torch.isfinite(scored.grid).all()


@pytest.mark.parametrize(("fine", "coarse"), [(8, 4), (57, 29), (7, 7), (5, 3), (9, 1)])
def test_cells_are_averaged_by_area(fine: int, coarse: int) -> None:
    values = np.random.default_rng(0).normal(size=fine)
    expected = np.repeat(values, coarse).reshape(coarse, fine).mean(axis=1)
    np.testing.assert_allclose(cells(fine, coarse, "average")[0] @ values, expected, atol=1e-12)


@pytest.mark.parametrize(("size", "side"), [(8, 3), (8, 5), (3, 7), (1, 3)])
def test_neighbours_beyond_the_border_are_the_nearest_inside(size: int, side: int) -> None:
    values = np.random.default_rng(0).normal(size=size)
    expected = uniform_filter(values, side, mode="nearest")
    np.testing.assert_allclose(window(size, side, "average")[0] @ values, expected, atol=1e-12)
    np.testing.assert_allclose((window(size, side, "concatenate") @ values).mean(0), expected, atol=1e-12)


def test_grids_that_are_not_square_or_do_not_divide_each_other() -> None:
    train = random_maps((4, 9, 6), (5, 5, 3), 8)
    assert fitted(train).score(train).grid.shape == (8, 5, 3)
    assert fitted(train, grid="source").score(train).grid.shape == (8, 9, 6)
    with pytest.raises(ConfigError, match=r"localizer\.join=concatenate.*9 and 5 places.*join=average"):
        fitted(train, join="concatenate")


@settings(max_examples=25, deadline=None)
@given(
    c=st.integers(1, 6), m=st.integers(1, 6), grid=st.integers(1, 3), factor=st.integers(1, 3),
    n=st.integers(2, 7), on=st.sampled_from(["source", "target"]), place=st.booleans(), data=st.data(),
)  # fmt: skip
def test_batches_and_order_change_nothing(
    c: int, m: int, grid: int, factor: int, n: int, on: str, place: bool, data: st.DataObject
) -> None:
    train = random_maps((c, grid * factor, grid * factor), (m, grid, grid), n)
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, n), max_size=3))))
    order = data.draw(st.permutations(range(n)))
    # Standardized errors of an exact fit would be rounding errors over rounding errors.
    arguments = {"grid": on, "intercept": "place" if place else "shared", "alpha": 0.1, "neighborhood": 3}
    whole = fitted(train, **arguments).score(train).grid
    other = fitted({level: maps[order] for level, maps in train.items()}, cuts, **arguments)
    one_by_one = [other.score({k: v[i : i + 1] for k, v in train.items()}).grid for i in range(n)]
    torch.testing.assert_close(torch.cat(one_by_one), whole, rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_how_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    train = random_maps((4, 8, 8), (6, 4, 4), 7)
    model = fitted(train)
    whole = model.score(train).grid
    monkeypatch.setattr(ridge, "CHUNK", 2 * 6 * 16)
    torch.testing.assert_close(model.score(train).grid, whole)


@pytest.mark.parametrize("norm", ["l2", "squared", "standardized"])
@pytest.mark.parametrize("grid", ["target", "source"])
def test_what_is_linear_scores_nothing_and_what_is_not_stands_out(grid: str, norm: str) -> None:
    made = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 4, generator=made)

    def maps(b: int) -> Maps:
        shallow = torch.randn(b, 4, 1, 1, generator=made) + torch.randn(b, 4, 8, 8, generator=made)
        if grid == "source":  # what bilinear upsampling leaves as it is
            shallow = torch.randn(b, 4, 1, 1, generator=made).expand(-1, -1, 8, 8).contiguous()
        deep = torch.einsum("mc,bchw->bmhw", mixing, F.avg_pool2d(shallow, 2)) + 3
        return {"level3": shallow, "level4": deep}

    train, test = maps(12), maps(2)
    model = fitted(train, grid=grid, norm=norm, alpha=1e-10, intercept="shared")
    clean = model.score(test).grid
    if norm != "standardized":
        assert clean.max() < 1e-4 * float(test["level4"].abs().max())
    test["level4"][1, :, 2, 1] += 0.5
    scored = model.score(test).grid
    side = 2 if grid == "source" else 1
    assert divmod(int(scored[1].argmax()), 4 * side) in {
        (2 * side + i, side + j) for i in range(side) for j in range(side)
    }
    assert scored[1].max() > 100 * clean.max()
    torch.testing.assert_close(scored[0], clean[0])


def test_a_missing_part_needs_the_intercept_of_its_place() -> None:
    train, test = random_maps((4, 8, 8), (6, 4, 4), 30), random_maps((4, 8, 8), (6, 4, 4), 1, seed=3)
    bright = torch.zeros(8, 8)
    bright[2:4, 4:6] = 5  # a part: 5 in the shallow level, 10 in the deep one
    for maps, there in ((train, 1), (test, 0)):
        maps["level3"] = 0.1 * maps["level3"] + there * bright
        maps["level4"] = 0.1 * torch.randn(
            maps["level4"].shape, generator=torch.Generator().manual_seed(there)
        ) + 2 * F.avg_pool2d(maps["level3"].mean(1, keepdim=True), 2)
    by_place = fitted(train).score(test).grid
    shared = fitted(train, intercept="shared").score(test).grid
    assert divmod(int(by_place.argmax()), 4) == (1, 2)
    assert by_place[0, 1, 2] > 5 * by_place.median()
    assert shared[0, 1, 2] < 3 * shared.median()


def test_gcv_takes_the_best_alpha_there_is() -> None:
    train = random_maps((40, 4, 4), (3, 4, 4), 4)
    model = fitted(train, alpha="gcv", intercept="shared", neighborhood=1)
    x, y = (maps.permute(0, 2, 3, 1).flatten(0, 2).double().numpy() for maps in train.values())
    x, y = x - x.mean(0), y - y.mean(0)
    n, unit = len(x), np.linalg.eigvalsh(x.T @ x).mean()

    def gcv(alpha: float) -> float:
        hat = x @ np.linalg.solve(x.T @ x + alpha * unit * np.eye(40), x.T) + 1 / n
        return float(n * ((y - hat @ y) ** 2).sum() / (n - np.trace(hat)) ** 2)

    assert model.alpha == min(ridge.ALPHAS, key=gcv)
    assert min(ridge.ALPHAS) < model.alpha < max(ridge.ALPHAS)
    expected = fitted(train, alpha=model.alpha, intercept="shared", neighborhood=1).score(train).grid
    torch.testing.assert_close(model.score(train).grid, expected)


@pytest.mark.parametrize("norm", ["l2", "squared", "standardized"])
@pytest.mark.parametrize("intercept", ["place", "shared"])
@pytest.mark.parametrize("alpha", [1e-6, "gcv"])
def test_degenerate_features_give_finite_scores(norm: str, intercept: str, alpha: float | str) -> None:
    """Fewer rows than dimensions, dead channels in both levels, equal channels, equal images."""
    train = random_maps((30, 4, 4), (8, 2, 2), 2)
    train["level3"][:, 3] = 0
    train["level3"][:, 4] = train["level3"][:, 5]
    train["level4"][:, 2] = 0
    test = random_maps((30, 4, 4), (8, 2, 2), 3, seed=7)
    for maps in (train, {level: m[:1].expand(3, -1, -1, -1) for level, m in train.items()}):
        scores = fitted(maps, norm=norm, intercept=intercept, alpha=alpha).score(test).grid
        assert torch.isfinite(scores).all()
        assert (scores >= 0).all()
    constant = {level: torch.ones_like(m) for level, m in train.items()}
    scores = fitted(constant, norm=norm, intercept=intercept, alpha=alpha).score(constant).grid
    assert (scores == 0).all()


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_an_output_without_training_error_does_not_drown_the_others(size: float) -> None:
    train, test = random_maps((4, 8, 8), (6, 4, 4), 20), random_maps((4, 8, 8), (6, 4, 4), 2, seed=4)
    for maps in (train, test):
        maps["level4"][:, 2] = size * maps["level4"][:, 3]
    model = fitted(train, norm="standardized")
    before = model.score(test).grid
    test["level4"][0, 2, 1, 1] = 1e-3  # a channel that was as good as dead in training
    torch.testing.assert_close(model.score(test).grid, before, rtol=0.1, atol=0)


def test_too_few_images_are_refused() -> None:
    one = random_maps((4, 8, 8), (6, 4, 4), 1)
    with pytest.raises(EstimatorError, match=r"intercept=place needs at least 2.*intercept=shared"):
        fitted(one)
    assert torch.isfinite(fitted(one, intercept="shared").score(one).grid).all()
    with pytest.raises(EstimatorError, match="no training image"):
        RidgeLocalizer().finish()


def test_maps_that_cannot_be_used_are_refused() -> None:
    train = random_maps((4, 8, 8), (6, 4, 4), 3)
    model = fitted(train)
    with pytest.raises(EstimatorError, match="cannot follow"):
        model.partial_fit(random_maps((4, 8, 8), (6, 2, 2), 3))
    with pytest.raises(EstimatorError, match="asked to score"):
        model.score(random_maps((4, 8, 8), (6, 2, 2), 3))
    with pytest.raises(ConfigError, match=r"localizer\.source=level3 has a coarser grid.*4 against 8"):
        fitted({"level3": train["level4"], "level4": train["level3"]})
    train["level4"][0, 0, 0, 0] = float("nan")
    with pytest.raises(EstimatorError, match="not finite"):
        model.score(train)
    with pytest.raises(EstimatorError, match="not finite"):
        fitted(train)


def test_maps_are_left_as_they_are() -> None:
    with torch.inference_mode():
        train = random_maps((4, 4, 4), (6, 4, 4), 3)
    before = {level: maps.clone() for level, maps in train.items()}
    grid = fitted(train).score(train).grid
    assert not grid.requires_grad
    for level in train:
        assert torch.equal(train[level], before[level])


@pytest.mark.parametrize(
    ("arguments", "source", "target"),
    [
        ({}, (64, 8, 8), (96, 4, 4)),
        ({"join": "concatenate"}, (64, 8, 8), (96, 4, 4)),
        ({"grid": "source", "neighborhood": 3, "neighbors": "concatenate"}, (16, 8, 8), (32, 4, 4)),
        ({"grid": "source", "norm": "standardized"}, (8, 32, 32), (16, 16, 16)),
        ({"alpha": "gcv", "intercept": "shared", "neighborhood": 1}, (32, 16, 16), (200, 16, 16)),
    ],
)
def test_fit_bytes_is_what_fitting_holds(
    arguments: dict[str, Any], source: Shape, target: Shape, tmp_path: Path
) -> None:
    train, models = random_maps(source, target, 9), []
    held = peak_of(lambda: models.append(fitted(train, (4,), **arguments)), tmp_path / "trace.json")
    estimate = models[0].fit_bytes({"level3": source, "level4": target}, 9)
    assert held <= estimate <= 1.7 * held
    assert 0 < models[0].state_bytes < estimate
    assert RidgeLocalizer(**arguments).state_bytes == 0


def test_a_wide_resnet_needs_little_memory() -> None:
    shapes = {"level3": (512, 32, 32), "level4": (1024, 16, 16)}
    assert RidgeLocalizer(neighborhood=1).fit_bytes(shapes, 391) < 5e7
    assert RidgeLocalizer(neighborhood=1, join="concatenate").fit_bytes(shapes, 391) < 3e8
    assert RidgeLocalizer().fit_bytes(shapes, 391) < 1e9
    joined = RidgeLocalizer(grid="source", neighborhood=3, neighbors="concatenate")
    assert joined.fit_bytes(shapes, 391) < 1.2e9


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("grid", "both", r"localizer\.grid=both.*target, source"),
        ("join", "sum", r"localizer\.join=sum.*average, concatenate"),
        ("neighbors", "max", r"localizer\.neighbors=max.*average, concatenate"),
        ("neighborhood", 2, r"localizer\.neighborhood=2.*odd"),
        ("neighborhood", 0, r"localizer\.neighborhood=0"),
        ("neighborhood", 3.0, r"localizer\.neighborhood=3\.0.*whole number"),
        ("target_neighborhood", 1.0, r"localizer\.target_neighborhood=1\.0.*whole number"),
        ("target_neighborhood", 4, r"localizer\.target_neighborhood=4.*odd"),
        ("intercept", "none", r"localizer\.intercept=none.*place, shared"),
        ("alpha", 0, r"localizer\.alpha=0"),
        ("alpha", float("nan"), r"localizer\.alpha=nan"),
        ("alpha", float("inf"), r"localizer\.alpha=inf"),
        ("alpha", "loo", r"localizer\.alpha=loo.*gcv"),
        ("norm", "l1", r"localizer\.norm=l1.*l2, squared, standardized"),
        ("target", "level3", r"localizer\.target=level3.*source"),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        RidgeLocalizer(**{argument: value})
    assert isinstance(caught.value, AnomalySweepError)


def test_the_config_names_every_argument_with_its_default() -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "localizer" / "ridge.yaml"))
    assert isinstance(config, dict)
    made = build({str(key): value for key, value in config.items()})
    assert isinstance(made, RidgeLocalizer)
    assert made.levels == ("level3", "level4")
    parameters = inspect.signature(RidgeLocalizer).parameters
    given = {key: value for key, value in config.items() if key not in ("name", "_target_", "seeds")}
    assert given == {key: parameter.default for key, parameter in parameters.items()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "arguments", [{}, {"grid": "source", "norm": "standardized"}, {"join": "concatenate"}]
)
def test_a_gpu_gives_the_same(arguments: dict[str, Any]) -> None:
    train, test = (random_maps((32, 8, 8), (48, 4, 4), 9, seed) for seed in (0, 3))
    expected = fitted(train, **arguments).score(test).grid
    train, test = ({level: m.cuda() for level, m in maps.items()} for maps in (train, test))
    grid = fitted(train, **arguments).score(test).grid
    assert grid.is_cuda
    torch.testing.assert_close(grid.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.real
@pytest.mark.parametrize(("category", "published"), [("bottle", 0.981), ("transistor", 0.974)])
def test_within_a_point_of_patchcore_on_real_images(
    real_folder: Path, category: str, published: float
) -> None:
    """PatchCore with ResNet-18 as published; 256 px."""
    config = OmegaConf.to_container(OmegaConf.load(CONF / "backbone" / "resnet18.yaml"))
    assert isinstance(config, dict)
    config["weights"] = str(real_folder / "weights" / "resnet18_imagenet_conv1_to_layer3.safetensors")
    backbone = BackboneConf(**{str(key): value for key, value in config.items()})
    network = Network(backbone, torch.device("cpu"))
    records = read_category(real_folder / "data" / "mvtec_ad_320", category, dataset="mvtec_ad")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    model = RidgeLocalizer()

    def maps(paths: list[Path]) -> Maps:
        images = torch.from_numpy(np.stack([load_square(path, 256) for path in paths]))
        read: Maps = {}
        network.read((images.permute(0, 3, 1, 2) / 255 - mean) / std, list(model.levels), read.__setitem__)
        return read

    def batches(paths: list[Path]) -> list[list[Path]]:
        return [paths[i : i + 8] for i in range(0, len(paths), 8)]

    for batch in batches([record.path for record in records.train]):
        model.partial_fit(maps(batch))
    model.finish()
    grids = [model.score(maps(batch)).grid for batch in batches([record.path for record in records.test])]
    drawn = np.zeros((len(records.test), 256, 256), bool)
    for mask, record in zip(drawn, records.test, strict=True):
        if record.masks:
            mask[:] = np.asarray(Image.open(record.masks[0]).convert("L").resize((256, 256), 0)) > 0
    assert pixel_auroc(render(torch.cat(grids), 256, 4.0).numpy(), drawn) > published - 0.01
