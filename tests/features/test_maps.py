"""Streams of feature maps: what the network gives, whatever the batches, from the cache too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import AnomalySweepError, DatasetError
from anomaly_sweep.features import maps as room
from anomaly_sweep.features.backbone import network as network_module
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.maps import MapBatch, MapStream
from anomaly_sweep.features.shard import Shard
from tests.support.features import CPU, PLAIN, make_category, resnet18

LEVELS = ["level2", "level3"]


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    category = make_category(tmp_path / "parts", n_train=21, n_test=4)
    return Shard.of(category, resnet18(), 64, PLAIN, FileIndex(tmp_path / "index"))


def joined(batches: list[MapBatch], level: str) -> np.ndarray:
    return torch.cat([batch.maps[level] for batch in batches]).numpy()


def by_hand(shard: Shard, split: str) -> dict[str, np.ndarray]:
    """Image by image through the network."""
    network = Network(shard.backbone, CPU)
    mean = torch.tensor(shard.backbone.mean).view(1, 3, 1, 1)
    std = torch.tensor(shard.backbone.std).view(1, 3, 1, 1)
    found: dict[str, list[np.ndarray]] = {level: [] for level in LEVELS}
    for record in shard.category.train if split == "train" else shard.category.test:
        image = load_square(record.path, shard.input_size)
        if shard.center_crop:
            edge = (shard.input_size - shard.center_crop) // 2
            image = image[edge : edge + shard.center_crop, edge : edge + shard.center_crop]
        batch = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 - mean) / std
        network.read(batch, LEVELS, lambda level, made: found[level].append(made.numpy().copy()))
    return {level: np.concatenate(parts) for level, parts in found.items()}


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("crop", [None, 48])
def test_equals_image_by_image(shard: Shard, batch_size: int, crop: int | None) -> None:
    shard = replace(shard, center_crop=crop)
    expected = by_hand(shard, "train")
    batches = list(MapStream(shard, LEVELS, "cpu", batch_size).batches("train"))
    assert [len(batch) for batch in batches] == [8, 8, 5]  # a CPU's, whatever is asked for
    for level in LEVELS:
        made = joined(batches, level)
        assert made.dtype == np.float32
        assert batches[0].maps[level].is_contiguous()
        np.testing.assert_allclose(made, expected[level], rtol=1e-4, atol=1e-5)
    assert all(batch.seconds > 0 for batch in batches)


def test_maps_can_be_changed(shard: Shard) -> None:
    for batch in MapStream(shard, LEVELS, "cpu").batches("test"):
        batch.maps["level2"].mul_(2)  # an inference tensor would refuse


def test_shapes(shard: Shard) -> None:
    assert MapStream(shard, LEVELS, "cpu").shapes() == {"level2": (16, 16, 16), "level3": (32, 8, 8)}
    cropped = MapStream(replace(shard, center_crop=32), LEVELS, "cpu")
    assert cropped.shapes() == {"level2": (16, 8, 8), "level3": (32, 4, 4)}


def test_cache_gives_the_same(shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path / "cache")
    seen: list[int] = []
    stream = MapStream(shard, LEVELS, "cpu", batch_size=3, cache=cache, on_image=seen.append)
    first = list(stream.batches("train"))
    assert sum(seen) == 21

    def never(*_: object) -> MapBatch:
        raise AssertionError("computed again")

    read = room.read_maps
    monkeypatch.setattr(room, "read_maps", never)
    again = list(stream.batches("train"))
    assert sum(seen) == 42
    assert all(batch.seconds == 0 for batch in again)
    for level in LEVELS:
        np.testing.assert_array_equal(joined(again, level), joined(first, level))
    # Another level is computed by itself; the two splits, and crops, have entries of their own.
    monkeypatch.setattr(room, "read_maps", read)
    more = MapStream(shard, [*LEVELS, "level4"], "cpu", cache=cache)
    assert joined(list(more.batches("train")), "level4").shape[0] == 21
    assert joined(list(stream.batches("test")), "level2").shape[0] == 4
    cropped = MapStream(replace(shard, center_crop=48), LEVELS, "cpu", cache=cache)
    assert joined(list(cropped.batches("train")), "level2").shape[-1] == 12


def test_memory_runs_out(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = joined(list(MapStream(shard, LEVELS, "cpu").batches("train")), "level3")
    read = room.read_maps
    sizes: list[int] = []

    def small(network: Network, batch: torch.Tensor, levels: list[str], count: int) -> MapBatch:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no more")
        return read(network, batch, levels, count)

    monkeypatch.setattr(room, "read_maps", small)
    made = joined(list(MapStream(shard, LEVELS, "cpu", batch_size=16).batches("train")), "level3")
    np.testing.assert_allclose(made, whole, rtol=1e-4, atol=1e-5)
    assert sizes == [8, 4] + [2] * 11

    def none(*_: object) -> MapBatch:
        raise torch.OutOfMemoryError("none")

    monkeypatch.setattr(room, "read_maps", none)
    with pytest.raises(AnomalySweepError, match="not enough memory for one image"):
        list(MapStream(shard, LEVELS, "cpu").batches("train"))


def test_levels_that_are_not_finite_are_refused_alone(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = MapStream(shard, LEVELS, "cpu")
    with torch.no_grad():
        stream.network.model.layer2[0].conv1.weight.fill_(float("inf"))
    try:
        for batch in stream.batches("test"):
            assert batch.of(["level2"])["level2"] is batch.maps["level2"]
            for asked in (["level3"], LEVELS):
                with pytest.raises(AnomalySweepError, match="level3 hold NaN or infinity"):
                    batch.of(asked)
    finally:
        from anomaly_sweep.features.backbone import loaded as networks

        networks.loaded.clear()


def test_an_unreadable_image_is_named(shard: Shard, tmp_path: Path) -> None:
    gone = replace(shard.category.train[3], path=tmp_path / "gone.png")
    records = (*shard.category.train[:3], gone, *shard.category.train[4:])
    broken = replace(shard, category=replace(shard.category, train=records))
    with pytest.raises(DatasetError, match=r"gone\.png"):
        list(MapStream(broken, LEVELS, "cpu").batches("train"))


def test_shapes_are_looked_at_once(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(shard.backbone, CPU)
    seen: list[list[str]] = []
    look = network_module.look

    def counted(model: nn.Module, backbone: BackboneConf, levels: list[str], *how: Any) -> Any:
        seen.append(levels)
        return look(model, backbone, levels, *how)

    monkeypatch.setattr(network_module, "look", counted)
    first = network.shapes(["level2"], 64)
    assert network.shapes(["level2", "level3"], 64) == first | {"level3": (32, 8, 8)}
    assert network.shapes(["level3"], 32) == {"level3": (32, 4, 4)}
    assert network.unusable(LEVELS, 64) == {}
    assert seen == [["level2"], ["level3"], ["level3"]]


def test_one_process_computes_what_another_waits_for(shard: Shard, tmp_path: Path) -> None:
    """Two streams at once, each with its own network: every chunk goes through one of them only."""
    cache = FeatureCache(tmp_path / "cache")
    streams = [MapStream(shard, LEVELS, "cpu", batch_size=3, cache=cache) for _ in range(2)]
    streams[0].network  # noqa: B018 (made before the threads need it)
    passed: list[int] = []
    read = room.read_maps
    begin = threading.Barrier(2, timeout=600)

    def counted(network: Network, batch: torch.Tensor, levels: list[str], count: int) -> MapBatch:
        passed.append(count)
        return read(network, batch, levels, count)

    def run(stream: MapStream) -> np.ndarray:
        begin.wait()
        return joined(list(stream.batches("train")), "level3")

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(room, "read_maps", counted)
        made = list(pool.map(run, streams))
    np.testing.assert_array_equal(*made)
    assert sum(passed) == len(shard.category.train)
