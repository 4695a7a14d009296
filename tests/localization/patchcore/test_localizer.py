"""PatchCore against scikit-learn and plain constructions of its vectors, both variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import adaptive_avg_pool1d, interpolate, unfold
from torch.profiler import ProfilerActivity, profile

from anomaly_sweep import memory as patch_memory
from anomaly_sweep.errors import AnomalySweepError, ConfigError, EstimatorError
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.patchcore import bank as patch_search
from anomaly_sweep.localization.patchcore.bank import Selection
from anomaly_sweep.localization.patchcore.localizer import PatchCore
from anomaly_sweep.localization.patchcore.patches import Patches, windows
from tests.support.paths import ROOT

Maps = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, int, int]]

SHAPES: Shapes = {"level3": (6, 8, 6), "level4": (10, 4, 3)}
WIDE: Shapes = {"level3": (512, 32, 32), "level4": (1024, 16, 16)}
#: float32's unit roundoff.
UNIT = 2.0**-24
CONF = ROOT / "conf" / "localizer"


def random_maps(shapes: Shapes, b: int, seed: int) -> Maps:
    made = torch.Generator().manual_seed(seed)
    return {level: torch.rand(b, *shape, generator=made) for level, shape in shapes.items()}


def fitted(train: Maps, cuts: tuple[int, ...] = (), **arguments: Any) -> PatchCore:
    """A model of the training maps, taken in in batches that end at ``cuts``."""
    model = PatchCore(**{"levels": list(train), **arguments})
    n = len(next(iter(train.values())))
    for low, high in zip((0, *cuts), (*cuts, n), strict=True):
        model.partial_fit({level: maps[low:high] for level, maps in train.items()})
    model.finish()
    return model


def paper_vectors(maps: Maps, size: int = 3) -> np.ndarray:
    """(images, places, width) in float64: unfolded neighbourhoods' means, resized and concatenated."""
    finest = max((m.shape[2:] for m in maps.values()), key=lambda grid: grid[0] * grid[1])
    joined = []
    for m in maps.values():
        b, c, h, w = m.shape
        means = unfold(m.double(), size, padding=size // 2).view(b, c, size**2, h, w).mean(2)
        joined.append(interpolate(means, size=finest, mode="bilinear", align_corners=False))
    return torch.cat(joined, 1).flatten(2).transpose(1, 2).numpy()


def official_vectors(maps: Maps) -> np.ndarray:
    """(images, places, 1024) in float64, in the authors' order of steps: each patch whole, then pooled."""
    finest = max((m.shape[2:] for m in maps.values()), key=lambda grid: grid[0] * grid[1])
    levels = []
    for m in maps.values():
        b, c, h, w = m.shape
        patches = unfold(m.double(), 3, padding=1).view(b, c * 9, h, w)
        patches = interpolate(patches, size=finest, mode="bilinear", align_corners=False)
        patches = patches.flatten(2).transpose(1, 2).reshape(-1, 1, c * 9)
        levels.append(adaptive_avg_pool1d(patches, 1024))
    joined = adaptive_avg_pool1d(torch.stack(levels, dim=1).flatten(1).unsqueeze(1), 1024)
    return joined.view(len(next(iter(maps.values()))), -1, 1024).numpy()


def joined_by(patches: Patches, maps: Maps) -> np.ndarray:
    n = len(next(iter(maps.values())))
    return np.stack([patches.join(patches.of(maps, i)).T.numpy() for i in range(n)])


# Vectors


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(
    "shapes",
    [
        SHAPES,
        {"level3": (5, 7, 9), "level4": (4, 4, 4)},
        {"level2": (3, 12, 8), "level3": (5, 6, 4), "level4": (7, 3, 2)},
        {"level4": (4, 2, 3), "level3": (3, 4, 6)},
        {"level3": (4, 5, 5)},
    ],
)
def test_paper_vectors(shapes: Shapes, size: int) -> None:
    maps = random_maps(shapes, 2, 0)
    found = joined_by(Patches(shapes, list(shapes), "paper", size), maps)
    np.testing.assert_allclose(found, paper_vectors(maps, size), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shapes",
    [
        SHAPES,
        {"level3": (128, 4, 4), "level4": (256, 2, 2)},
        {"level3": (114, 3, 5), "level4": (200, 2, 3)},
        {"level2": (64, 6, 4), "level3": (128, 6, 4), "level4": (36, 3, 2)},
        {"level3": (20, 5, 5)},
    ],
)
def test_official_vectors(shapes: Shapes) -> None:
    maps = random_maps(shapes, 2, 1)
    patches = Patches(shapes, list(shapes), "official", 3)
    assert patches.width == 1024
    np.testing.assert_allclose(joined_by(patches, maps), official_vectors(maps), rtol=1e-5, atol=1e-6)


@given(size=st.integers(1, 60), count=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_windows_are_adaptive_pooling(size: int, count: int) -> None:
    row = torch.rand(1, 1, size, dtype=torch.float64)
    pooled = adaptive_avg_pool1d(row, count)[0, 0].numpy()
    np.testing.assert_allclose(windows(size, count) @ row[0, 0].numpy(), pooled, rtol=1e-12)


def test_official_convolution_of_wide_resnet_is_grouped() -> None:
    """Each of the finer level's channels by itself, the coarser's in pairs: else 500 times the products."""
    patches = Patches({"level3": (512, 1, 1), "level4": (1024, 1, 1)}, ["level3", "level4"], "official", 3)
    patches.of({"level3": torch.zeros(1, 512, 1, 1), "level4": torch.zeros(1, 1024, 1, 1)}, 0)
    assert patches.kernel_bytes == 4 * 512 * (1 + 2) * 9


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_projection_is_of_the_joined_vectors(variant: str) -> None:
    shapes: Shapes = {"level2": (9, 12, 8), "level3": (5, 6, 4), "level4": (7, 3, 2)}
    maps, patches = random_maps(shapes, 1, 2), Patches(shapes, list(shapes), variant, 3)
    matrix = torch.randn(patches.width, 11, generator=torch.Generator().manual_seed(0))
    parts = patches.of(maps, 0)
    expected = patches.join(parts).T.double() @ matrix.double()
    torch.testing.assert_close(patches.project(parts, matrix).double(), expected, rtol=1e-4, atol=1e-4)


# Scores


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("block", [1, 7 * 48, 1 << 19])
@pytest.mark.parametrize("grid", [((8, 6), (4, 3)), ((8, 6), (8, 6)), ((5, 7), (3, 4))])
def test_scores_are_nearest_distances(
    variant: str, block: int, grid: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_search, "_CPU_BLOCK", block)
    shapes: Shapes = {"level3": (6, *grid[0]), "level4": (10, *grid[1])}
    train, test = random_maps(shapes, 5, 0), random_maps(shapes, 3, 1)
    # Far from 0, so that norms are large against the distances.
    train, test = ({level: maps + 3 for level, maps in some.items()} for some in (train, test))
    model = fitted(train, variant=variant, coreset=1.0)
    vectors = paper_vectors if variant == "paper" else official_vectors
    bank, queries = vectors(train), vectors(test)
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.reshape(-1, bank.shape[2]))
    expected = nearest.kneighbors(queries.reshape(-1, bank.shape[2]))[0].reshape(3, *grid[0])
    scored = model.score(test)
    assert scored.grid.dtype == torch.float32
    assert scored.image is None
    found = scored.grid.numpy().astype(float) ** (1 if variant == "official" else 2)
    # Components of both vectors: 9 numbers up to 4 averaged, 4 of those joined, the mean taken off.
    apart = 2 * (9 + 4 + 3) * UNIT * 4 * np.sqrt(bank.shape[2])
    assert (found >= (expected - apart).clip(0) ** 2 * (1 - 1e-6)).all()
    norms = [np.linalg.norm(rows - bank.mean((0, 1)), axis=2) for rows in (bank, queries)]
    excess = 2 * (2 * bank.shape[2] + 16) * UNIT * (norms[0].max() + norms[1].max()) ** 2
    assert (found <= (expected + apart) ** 2 * (1 + 1e-6) + excess).all()
    # Only between vectors about equally far can the wrong one be taken.
    assert (found <= (expected + apart) ** 2 * (1 + 1e-6)).mean() > 0.9


@pytest.mark.parametrize("block", [3, 1 << 19])
@pytest.mark.parametrize("offset", [0, 1, 30, 1000])
@pytest.mark.parametrize("coarse", [False, True])
def test_the_error_of_a_search_is_bounded_by_the_norms(
    offset: float, block: int, coarse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors near each other and far from 0: the plain expansion loses every digit at the largest offset."""
    monkeypatch.setattr(patch_search, "_CPU_BLOCK", block)
    shapes: Shapes = {"level3": (6, 8, 6), "level4": (10, *((4, 3) if coarse else (8, 6)))}
    patches = Patches(shapes, list(shapes), "paper", 1)
    made = torch.Generator().manual_seed(0)
    vectors = torch.rand(300, 16, generator=made) + offset
    parts = [torch.rand(c, h, w, generator=made) + offset for c, h, w in shapes.values()]
    squares, indices, joined = patch_search.Bank(patches, vectors).search(parts)
    queries, bank = joined.T.double().numpy(), vectors.double().numpy()
    every = ((queries[:, None] - bank[None]) ** 2).sum(2)
    # Right of the vector that was taken: a rounded difference, square and sum.
    own = every[np.arange(48), indices.numpy()]
    np.testing.assert_allclose(squares.numpy(), own, rtol=(16 + 4) * UNIT)
    r = np.linalg.norm(bank, axis=1).max() + np.linalg.norm(queries, axis=1).max()
    assert (own - every.min(1) <= 2 * (2 * 16 + 16) * UNIT * r**2).all()
    if offset <= 1:
        assert (indices.numpy() == every.argmin(1)).mean() > 0.9


@pytest.mark.parametrize("block", [7 * 48, 1 << 19])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_training_images_have_score_zero_in_the_whole_bank(
    variant: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_search, "_CPU_BLOCK", block)
    train = {level: maps + 3 for level, maps in random_maps(SHAPES, 6, 0).items()}
    model = fitted(train, variant=variant, coreset=1.0)
    assert model.score(train).grid.abs().max() == 0


def test_share_of_rows_is_not_lost_to_rounding() -> None:
    assert 100 * 0.29 < 29
    assert [Selection(0.29, None, "farthest", 0).kept(n) for n in (1, 10, 100)] == [1, 2, 29]


@pytest.mark.parametrize(("coreset", "kept"), [(0.01, 2), (0.1, 28), (0.25, 72), (0.29, 83), (1.0, 288)])
def test_bank_is_a_share_of_the_training_vectors(coreset: float, kept: int) -> None:
    train = random_maps(SHAPES, 6, 3)
    model = fitted(train, coreset=coreset)
    assert model._bank is not None
    vectors = model._bank.vectors.numpy()
    assert vectors.shape == (kept, 16)
    everything = paper_vectors(train).reshape(-1, 16)
    distances = NearestNeighbors(n_neighbors=1).fit(everything - everything.mean(0)).kneighbors(vectors)
    assert distances[0].max() < 1e-5
    assert len(set(distances[1][:, 0])) == kept
    zeros = model.score(train).grid.flatten() < 1e-6
    assert int(zeros.sum()) == kept


def test_coreset_spreads_more_than_chance() -> None:
    """The largest distance of a training vector to the bank: what the selection is for."""
    train = {level: maps**4 for level, maps in random_maps(SHAPES, 20, 4).items()}
    vectors = paper_vectors(train).reshape(-1, 16)
    chosen = fitted(train, coreset=0.05, projection=None).score(train).grid.max()
    random = []
    for seed in range(10):
        bank = np.random.default_rng(seed).choice(vectors, 48, replace=False)
        random.append(NearestNeighbors(n_neighbors=1).fit(bank).kneighbors(vectors)[0].max())
    assert float(chosen) < min(random)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("neighbors", [2, 9, 50])
def test_reweighted_image_score(variant: str, neighbors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_search, "_CPU_BLOCK", 5 * 48)
    train, test = random_maps(SHAPES, 5, 5), random_maps(SHAPES, 4, 6)
    model = fitted(
        train, variant=variant, coreset=0.1, reweight="paper", reweight_neighbors=neighbors, seed=1
    )
    assert model._bank is not None
    width = model._bank.vectors.shape[1]
    vectors = paper_vectors if variant == "paper" else official_vectors
    bank = model._bank.vectors.double().numpy() + vectors(train).reshape(-1, width).mean(0)
    scored = model.score(test)
    assert scored.image is not None
    for found, image in zip(scored.image.tolist(), vectors(test), strict=True):
        best, weight = -1.0, 0.0
        for query in image:
            distances = [float(np.linalg.norm(query - one)) for one in bank]
            if min(distances) > best:
                best, nearest = min(distances), int(np.argmin(distances))
                around = np.argsort([float(np.linalg.norm(bank[nearest] - one)) for one in bank])[:neighbors]
                weight = 1 - np.exp(best) / sum(np.exp(distances[i]) for i in around)
        expected = weight * (best**2 if variant == "official" else best)
        assert found == pytest.approx(expected, rel=1e-3)


def test_planted_defect_has_its_size_at_its_place() -> None:
    """A step of 0.6 in one channel at one place: 0.6 there; 0.6 / 9 in its neighbourhood of 3 x 3."""
    train = {"level3": torch.full((2, 4, 6, 6), 0.5), "level4": torch.full((2, 3, 3, 3), 2.0)}
    test = {level: maps[:1].clone() for level, maps in train.items()}
    test["level3"][0, 2, 3, 1] += 0.6
    alone = torch.zeros(6, 6)
    alone[3, 1] = 0.6
    around = torch.zeros(6, 6)
    around[2:5, 0:3] = 0.6 / 9
    for size, expected in ((1, alone), (3, around)):
        model = fitted(train, neighborhood=size, coreset=1.0)
        torch.testing.assert_close(model.score(test).grid[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_batches_and_order_change_nothing(variant: str) -> None:
    train, test = random_maps(SHAPES, 12, 7), random_maps(SHAPES, 5, 8)
    arguments: dict[str, Any] = {"variant": variant, "coreset": 0.1, "reweight": "paper"}
    whole = fitted(train, **arguments).score(test)
    cut = fitted(train, cuts=(1, 2, 7), **arguments)
    assert whole.image is not None
    for i in range(5):
        one = cut.score({level: maps[i : i + 1] for level, maps in test.items()})
        assert one.image is not None
        assert torch.equal(one.grid[0], whole.grid[i])
        assert torch.equal(one.image[0], whole.image[i])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = fitted({level: maps[order] for level, maps in train.items()}, **arguments).score(test)
    assert shuffled.image is not None
    torch.testing.assert_close(shuffled.grid, whole.grid, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(shuffled.image, whole.image, rtol=1e-4, atol=1e-6)


def test_what_is_kept_is_its_own() -> None:
    """Maps may be inference tensors, and be overwritten once they were taken in; no gradients anywhere."""
    train, test = random_maps(SHAPES, 4, 9), random_maps(SHAPES, 2, 10)
    expected = fitted(train, neighborhood=1).score(test).grid
    with torch.inference_mode():
        maps = {level: m.clone() for level, m in train.items()}
        model = PatchCore(neighborhood=1)
        model.partial_fit(maps)
        for m in maps.values():
            m.zero_()
    model.finish()
    for m in test.values():
        m.requires_grad_()
    grid = model.score(test).grid
    assert not grid.requires_grad
    assert torch.equal(grid, expected)


def test_seed_is_the_only_randomness() -> None:
    shapes: Shapes = {"level3": (40, 8, 6), "level4": (10, 4, 3)}
    train, test = random_maps(shapes, 6, 11), random_maps(shapes, 2, 12)
    state = torch.random.get_rng_state()
    one, again, other = (fitted(train, projection=4, seed=s).score(test).grid for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_projection_on_no_fewer_dimensions_is_left_out() -> None:
    train, test = random_maps(SHAPES, 6, 13), random_maps(SHAPES, 2, 14)
    none, wider, fewer = (fitted(train, projection=p, coreset=0.2).score(test).grid for p in (None, 128, 2))
    assert torch.equal(none, wider)
    assert not torch.equal(none, fewer)


# Memory


def peak_bytes(train: Maps, model: PatchCore) -> int:
    """The most bytes of tensors at once while fitting, by PyTorch's own account."""
    n = len(next(iter(train.values())))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        for i in range(0, n, 4):
            model.partial_fit({level: maps[i : i + 4] for level, maps in train.items()})
        model.finish()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize(
    "arguments",
    [
        {"coreset": 0.25},
        {"coreset": 1.0},
        {"coreset": 0.01, "projection": None, "start": "averaged"},
        {"coreset": 0.1, "variant": "official"},
    ],
    ids=str,
)
def test_fit_bytes_is_honest(arguments: dict[str, Any]) -> None:
    shapes: Shapes = {"level3": (64, 16, 16), "level4": (128, 8, 8)}
    model = PatchCore(**arguments)
    said = model.fit_bytes(shapes, 24)
    peak = peak_bytes(random_maps(shapes, 24, 0), model)
    assert 0.6 * said < peak <= said


@pytest.mark.parametrize("coreset", [0.01, 0.1, 0.25])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_largest_category_fits_in_4_gb(coreset: float, variant: str) -> None:
    assert PatchCore(coreset=coreset, variant=variant).fit_bytes(WIDE, 391) < 4e9


def test_state_bytes_counts_the_bank() -> None:
    model = fitted(random_maps(SHAPES, 6, 0), coreset=0.25)
    kernels = (6 + 10) * 9
    assert model.state_bytes == 4 * (72 * (16 + 1) + 16 + kernels)
    assert PatchCore().state_bytes == 0


def test_too_much_is_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    train = random_maps(SHAPES, 8, 0)
    needed = PatchCore().fit_bytes(SHAPES, 8)
    fitted(train, max_bytes=needed)
    model = PatchCore(max_bytes=needed - 1)
    with pytest.raises(EstimatorError, match=r"coreset=0.01 of 8 training images needs .*max_bytes allows"):
        model.partial_fit(train)
    assert model._training is not None
    assert model._training.nbytes == 0
    # What is held already counts as had.
    model = PatchCore()
    model.partial_fit({level: maps[:2] for level, maps in train.items()})
    assert model._training is not None
    rest, left = {level: maps[2:] for level, maps in train.items()}, needed - model._training.nbytes
    monkeypatch.setattr(patch_memory, "available_bytes", lambda _device: left - 1)
    with pytest.raises(EstimatorError, match="it can have"):
        model.partial_fit(rest)
    monkeypatch.setattr(patch_memory, "available_bytes", lambda _device: left)
    model.partial_fit(rest)
    monkeypatch.setattr(patch_memory, "available_bytes", lambda _device: None)
    fitted(train)


# Errors and config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": []}, "localizer.levels=.*at least one level"),
        ({"levels": ["level3", "level3"]}, "localizer.levels=.*each once"),
        ({"levels": "level3"}, "localizer.levels=level3"),
        ({"variant": "anomalib"}, "localizer.variant=anomalib .*paper, official"),
        ({"neighborhood": 2}, "localizer.neighborhood=2 .*odd"),
        ({"neighborhood": 0}, "localizer.neighborhood=0 "),
        ({"neighborhood": 3.0}, "localizer.neighborhood=3.0 .*whole number"),
        ({"projection": 64.0}, "localizer.projection=64.0 .*whole number"),
        ({"reweight_neighbors": True}, "localizer.reweight_neighbors=True .*whole number"),
        ({"seed": 1.5}, "localizer.seed=1.5 .*whole number"),
        ({"max_bytes": 8e9}, "localizer.max_bytes=8000000000.0 .*whole number"),
        ({"coreset": 0}, r"localizer.coreset=0 is outside \(0, 1\]"),
        ({"coreset": 10}, "localizer.coreset=10 "),
        ({"projection": 0}, "localizer.projection=0 "),
        ({"start": "mean"}, "localizer.start=mean .*auto, farthest, random, averaged"),
        ({"reweight": True}, "localizer.reweight=True .*none, paper"),
        ({"reweight_neighbors": 1}, "localizer.reweight_neighbors=1 "),
        ({"seed": -1}, "localizer.seed=-1 "),
        ({"max_bytes": 0}, "localizer.max_bytes=0 "),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PatchCore(**arguments)


def test_wrong_maps() -> None:
    train = random_maps(SHAPES, 2, 0)
    model = PatchCore()
    with pytest.raises(EstimatorError, match="at least one training image"):
        model.finish()
    with pytest.raises(EstimatorError, match="after partial_fit and finish"):
        model.score(train)
    with pytest.raises(EstimatorError, match="lack level4; they have level3"):
        model.partial_fit({"level3": train["level3"]})
    broken = {level: maps.clone() for level, maps in train.items()}
    broken["level4"][1, 3, 2, 1] = float("nan")
    with pytest.raises(EstimatorError, match="level4 hold NaN or infinity"):
        model.partial_fit(broken)
    model.partial_fit(train)
    smaller = {level: maps[:, :, :3, :3].contiguous() for level, maps in train.items()}
    with pytest.raises(EstimatorError, match="level3 are 6x3x3, those of the first training images 6x8x6"):
        model.partial_fit(smaller)
    model.finish()
    with pytest.raises(EstimatorError, match="one size"):
        model.score(smaller)
    with pytest.raises(EstimatorError, match="not finite"):
        model.score(broken)


def test_reweighting_needs_two_vectors() -> None:
    with pytest.raises(AnomalySweepError, match=r"needs a bank of 2 vectors, .*=0.01 of 48"):
        fitted(random_maps(SHAPES, 1, 0), reweight="paper")


@pytest.mark.parametrize(
    ("name", "coreset"), [("patchcore", 0.01), ("patchcore_10", 0.1), ("patchcore_25", 0.25)]
)
def test_shipped_configs(name: str, coreset: float) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose(name))
    assert isinstance(config, dict)
    assert (config["name"], config["coreset"]) == (name, coreset)
    model = build({str(key): value for key, value in config.items()})
    assert isinstance(model, PatchCore)
    assert model.levels == ("level3", "level4")
    plain = vars(PatchCore(coreset=coreset))
    assert {k: v for k, v in vars(model).items() if k != "_bank"} == {
        k: v for k, v in plain.items() if k != "_bank"
    }
