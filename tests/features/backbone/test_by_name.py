"""Networks of timm by their names alone, against what timm itself reads of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.features.backbone.by_name import describe
from anomaly_sweep.features.backbone.cost import network_cost
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.levels import feature_info
from anomaly_sweep.features.backbone.network import CPU_BATCH, Network
from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.extract import normalised
from anomaly_sweep.features.images import load_square
from anomaly_sweep.features.pooled import features_of
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.tasks import parse, parse_node
from tests.support.features import CPU, PLAIN, give_statistics, make_category, resnet18
from tests.support.multirun import Multirun

#: Small members of timm's families, and the side of their images.
CONVOLUTIONAL = {
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "cs3darknet_focus_s": 64,
    "densenet121": 64,
    "dla46_c": 64,
    "edgenext_xx_small": 64,
    "efficientnet_lite0": 64,
    "fastvit_t8": 64,
    "fbnetc_100": 64,
    "ghostnet_050": 64,
    "hgnetv2_b0": 64,
    "inception_next_atto": 64,
    "lcnet_035": 64,
    "mnasnet_small": 64,
    "mobilenetv2_035": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_050": 64,
    "mobilevit_xxs": 64,
    "nf_regnet_b0": 64,
    "poolformer_s12": 64,
    "pvt_v2_b0": 64,
    "regnetx_002": 64,
    "regnety_002": 64,
    "repghostnet_050": 64,
    "repvgg_a0": 64,
    "repvit_m0_9": 64,
    "resnet10t": 64,
    "resnet18": 96,
    "rexnet_100": 64,
    "starnet_s050": 64,
    "test_nfnet": 64,
    "tf_efficientnet_b0": 64,
    "tinynet_e": 64,
}
TRANSFORMERS = {
    "deit_tiny_distilled_patch16_224": 64,
    "deit_tiny_patch16_224": 64,
    "eva02_tiny_patch14_224": 70,
    "swin_tiny_patch4_window7_224": 224,
    "test_mambaout": 64,
    "vit_small_patch14_reg4_dinov2": 70,
    "vit_small_patch16_dinov3": 64,
    "vit_tiny_patch16_224": 96,
    "vit_tiny_r_s16_p8_224": 64,
    "vit_xsmall_patch16_clip_224": 64,
    # Read by timm's own method: modules that give pairs, another order of tokens, or none at all.
    "efficientvim_m1": 64,
    "levit_128s": 224,
    "xcit_nano_12_p16_224": 64,
}


def by_name(model: str, side: int) -> BackboneConf:
    known = describe(model)
    return BackboneConf(
        name=model,
        model=model,
        levels=known.levels,
        input_size=side,
        mean=known.mean,
        std=known.std,
        kwargs=known.kwargs,
        class_token=known.class_token,
        weights="random",
    )


def network_of(backbone: BackboneConf) -> Network:
    """With statistics that batch norms would have after training, folded."""
    network = Network(backbone, CPU)
    network.model, _ = create(backbone)
    give_statistics(network.model.eval())
    network._fold()
    return network


def read(network: Network, batch: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    maps: dict[str, Tensor] = {}
    tokens: dict[str, Tensor] = {}
    network.read(
        batch,
        network.backbone.levels,
        lambda level, m: maps.__setitem__(level, m.clone()),
        lambda level, token: tokens.__setitem__(level, token.clone()),
    )
    return maps, tokens


@pytest.mark.parametrize(("model", "side"), [*CONVOLUTIONAL.items(), *TRANSFORMERS.items()])
def test_contract(model: str, side: int) -> None:
    """Shapes as timm states them, maps as timm reads them, the same each time and in each company."""
    ensure_torchvision_imports()
    import timm

    if not timm.is_model(model):
        pytest.skip(f"timm {timm.__version__} has no {model} yet")
    backbone = by_name(model, side)
    network = network_of(backbone)
    images = torch.randn(CPU_BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    maps, tokens = read(network, images)
    again, tokens_again = read(network, images)
    company = images.flip(0).clone()
    company[0] = images[0]
    beside, _ = read(network, company)
    assert list(maps) == list(backbone.levels)
    assert bool(tokens) is backbone.class_token
    assert {level: shape[0] for level, shape in network_cost(backbone, side).shapes.items()} == {
        level: m.shape[1] for level, m in maps.items()
    }

    plain: Any = create(backbone)[0]
    if not hasattr(plain, "forward_intermediates"):
        pytest.skip(f"timm {timm.__version__} does not read the maps of {model} itself yet")
    give_statistics(plain.eval())
    known = feature_info(plain)
    with torch.inference_mode():
        found = plain.forward_intermediates(
            images.clone(), indices=len(known), norm=False, output_fmt="NCHW", intermediates_only=True,
            **({"return_prefix_tokens": True} if backbone.class_token else {}),
        )  # fmt: skip
    for level, info, expected in zip(maps, known, found, strict=True):
        places, prefix = expected if isinstance(expected, tuple) else (expected, None)
        grid = -(-side // info["reduction"])
        assert maps[level].shape == (CPU_BATCH, info["num_chs"], grid, grid), level
        assert network.shapes([level], side)[level] == (info["num_chs"], grid, grid)
        # Folding rounds otherwise, by a few units in the last place of the sums' largest terms.
        atol = 1e-4 * float(places.abs().max())
        torch.testing.assert_close(maps[level], places, rtol=0, atol=atol, msg=level)
        if prefix is not None:
            torch.testing.assert_close(tokens[level], prefix[:, 0], rtol=0, atol=atol, msg=level)
            assert torch.equal(tokens[level], tokens_again[level])
        assert torch.equal(maps[level], again[level])
        assert torch.equal(maps[level][0], beside[level][0])


def test_nine_levels_are_the_stem_the_stages_and_the_head() -> None:
    """Those of the seven are among them; the network with few and narrow blocks stands for the large one."""
    compose = Multirun().compose
    nine = parse_node("backbone", compose(["backbone=efficientnet_b5_nine"]).backbone)
    seven = parse_node("backbone", compose(["backbone=efficientnet_b5"]).backbone)
    assert list(nine.levels.values())[1:8] == list(seven.levels.values())
    assert replace(nine, name=seven.name, levels=seven.levels) == seven

    backbone = replace(nine, model="tf_efficientnet_b0", input_size=64, weights="random")
    images = torch.randn(CPU_BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps, _ = read(network_of(backbone), images)
    plain: Any = create(backbone)[0]
    give_statistics(plain.eval())
    with torch.inference_mode():
        head, (stem, *stages) = plain.forward_intermediates(images, extra_blocks=True)
    assert len(maps) == 9
    for found, expected in zip(maps.values(), (stem, *stages, head), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_a_name_timm_does_not_know_is_told_with_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="no such network; near: convnext_atto"):
        describe("convnet_atto")


def test_a_name_is_composed_with_what_timm_says_of_it() -> None:
    """As much as a shipped option says, and jobs that differ in the name need no composition each."""
    run = Multirun("backbone=timm", "backbone.model=test_vit,test_convnext", "layer=level1,level2")
    jobs = run.composer().jobs(run.jobs())
    assert run.composed < len(jobs)
    known = [(job["backbone"].name, job["backbone"].levels["level1"]) for job in jobs]
    assert known == [("test_vit", "blocks.0")] * 2 + [("test_convnext", "stages.0")] * 2
    vit = jobs[0]["backbone"]
    assert (vit.input_size, vit.kwargs, vit.class_token) == (160, {"dynamic_img_size": True}, True)
    assert jobs[2]["backbone"].kwargs == {}
    mean = Multirun("backbone=timm").compose(["backbone.model=efficientnet_lite0", "backbone.std=[1,1,1]"])
    (changed,) = (parse_node("backbone", mean.backbone),)
    assert (changed.mean, changed.std) == ([0.485, 0.456, 0.406], [1, 1, 1])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], r"^backbone\.model must be given: backbone\.model=\.\.\."),
        (["backbone.model=convnet_atto"], "^backbone.model=convnet_atto: timm .* near: convnext_atto"),
        (["backbone.model=test_vit", "layer=level9"], "test_vit has no level9; it has level1, level2"),
        (["backbone.model=test_convnext", "layer=level1", "pooling=cls"], "test_convnext has no class token"),
    ],
)
def test_what_is_wrong_is_said(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(Multirun().compose(["backbone=timm", *overrides]))


def test_class_tokens_are_a_pool_of_their_own(tmp_path: Path) -> None:
    backbone = by_name("test_vit", 64)
    category = make_category(tmp_path, n_train=3, n_test=2, size=64)
    shard = Shard.of(category, backbone, 64, PLAIN, FileIndex(tmp_path / "index"))
    features = features_of(shard, ["level1", "level3"], FeatureCache(tmp_path / "cache"), device="cpu")
    train, _ = features.matrices(["level1", "level3"], ["avg", "cls"])
    again = features_of(shard, ["level3"], FeatureCache(tmp_path / "cache"), device="cpu")
    plain: Any = create(backbone)[0].eval()
    images = [load_square(record.path, 64, None) for record in category.train]
    batch = normalised(Network(backbone, CPU), images)
    with torch.inference_mode():
        found = plain.forward_intermediates(
            batch, indices=[0, 2], return_prefix_tokens=True, intermediates_only=True
        )
    expected = [part for maps, prefix in found for part in (maps.mean((2, 3)), prefix[:, 0])]
    np.testing.assert_allclose(train, torch.cat(expected, 1), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(again.matrices(["level3"], ["cls"])[0], train[:, -found[1][1].shape[2] :])


def test_a_network_without_class_tokens_says_so_whatever_its_config_says(tmp_path: Path) -> None:
    category = make_category(tmp_path, n_train=2, n_test=1)
    shard = Shard.of(category, resnet18(class_token=True), 64, PLAIN, FileIndex(tmp_path / "index"))
    features = features_of(shard, ["level2"], FeatureCache(tmp_path / "cache"), device="cpu")
    with pytest.raises(AnomalySweepError, match="level2 has no cls: its node gives no class token"):
        features.matrices(["level2"], ["cls"])


@pytest.mark.parametrize("model", ["test_vit", "test_vit4", "xcit_nano_12_p16_224"])
def test_what_an_image_costs_is_counted(model: str) -> None:
    """Level by level: with a class token, with a register instead, and by timm's own method."""
    cost = network_cost(by_name(model, 160), 96)
    assert not cost.unusable
    flops = list(cost.flops.values())
    assert flops == sorted(flops)
    assert 0 < flops[0] < flops[-1]
    assert cost.shapes["level1"][1:] == (6, 6)
