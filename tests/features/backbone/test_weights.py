"""Weights: asked for by name, checked, never executed, and refused where they do not reach."""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from anomaly_sweep.config import BackboneConf
from anomaly_sweep.errors import ConfigError, WeightsError
from anomaly_sweep.features.backbone import create as create_module
from anomaly_sweep.features.backbone import loaded
from anomaly_sweep.features.backbone.create import create
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.backbone.weights import (
    is_random,
    pretrained_file,
    read_state,
    weights_identity,
    weights_label,
)
from tests.support.features import CPU, give_statistics, resnet18
from tests.support.paths import ROOT


def state_of(seed: int = 3) -> dict[str, torch.Tensor]:
    model, _ = create(resnet18(weights_seed=seed))
    give_statistics(model)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in state.items())


# Random weights.


def test_random_weights_need_asking() -> None:
    assert BackboneConf(name="a", model="b", levels={"level1": "c"}).weights == "pretrained"
    assert is_random(weights_label(resnet18()))
    assert weights_label(resnet18(weights_seed=4)) == "random:seed4"
    assert not is_random(weights_label(resnet18(weights="pretrained")))


def test_random_weights_follow_their_seed() -> None:
    state = create(resnet18(weights_seed=1))[0].state_dict()
    assert equal(create(resnet18(weights_seed=1))[0], state)
    assert not torch.equal(
        create(resnet18(weights_seed=2))[0].state_dict()["conv1.weight"], state["conv1.weight"]
    )


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    create(resnet18(weights_seed=1))
    assert torch.equal(torch.rand(3), expected)
    seeded = create(resnet18(weights_seed=1))[0].state_dict()["conv1.weight"]
    torch.manual_seed(99)
    assert torch.equal(create(resnet18(weights_seed=1))[0].state_dict()["conv1.weight"], seeded)


# Files.


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped pth", "data-parallel pth"])
def test_a_local_file_is_loaded(tmp_path: Path, kind: str) -> None:
    state = state_of()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pth":
        torch.save(state, path)
    elif kind == "wrapped pth":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    model, lacking = create(resnet18(weights=str(path)))
    assert lacking == frozenset()
    assert equal(model, state)
    label = weights_label(resnet18(weights=str(path)))
    assert label.startswith(f"file:{path.name}@")
    assert not is_random(label)


def test_identity_is_the_content(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    torch.save({"x": torch.zeros(3)}, first)
    second.write_bytes(first.read_bytes())
    torch.save({"x": torch.ones(3)}, other)
    identities = [weights_identity(resnet18(weights=str(path))) for path in (first, second, other)]
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize("age", [0.0, 3600.0])
def test_identity_sees_a_file_that_was_replaced(tmp_path: Path, age: float) -> None:
    path = tmp_path / "a.pth"
    backbone = resnet18(weights=str(path))
    path.write_bytes(b"one")
    os.utime(path, (time.time() - age,) * 2)
    before = weights_identity(backbone)
    path.write_bytes(b"two")
    assert weights_identity(backbone) != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"conv1.weight": torch.zeros(64, 3, 5, 5)},
            r"conv1\.weight is \(64, 3, 5, 5\), the network's \(64, 3, 7, 7\)",
        ),
        ({"conv9.weight": torch.zeros(1)}, r"conv9\.weight is not in the network"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, change: dict[str, torch.Tensor], words: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state_of() | change, path)
    with pytest.raises(WeightsError, match=words) as raised:
        create(resnet18(weights=str(path)))
    assert str(path) in str(raised.value)


def test_a_file_of_another_network_says_what_is_lacking(tmp_path: Path) -> None:
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    words = (
        r"stem\.weight is not in the network; .*the file lacks, bn1\.bias; bn1\.running_mean; .* and \d+ more"
    )
    with pytest.raises(WeightsError, match=words):
        create(resnet18(weights=str(tmp_path / "w.safetensors")))


# Checkpoints of others.


def transformer(**changes: Any) -> BackboneConf:
    return BackboneConf(
        **{"name": "test_vit", "model": "test_vit", "levels": {"level1": "blocks.5"}, "weights": "random",
           "input_size": 160, "kwargs": {"dynamic_img_size": True}} | changes
    )  # fmt: skip


def test_torchvisions_checkpoint_gives_torchvisions_maps(tmp_path: Path) -> None:
    create_module.ensure_torchvision_imports()
    import torchvision

    theirs = torchvision.models.resnet18(weights=None).eval()
    give_statistics(theirs)
    torch.save(theirs.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    network = Network(resnet18(weights=str(tmp_path / "resnet18-f37072fd.pth"), kwargs={}), CPU)
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps: dict[str, torch.Tensor] = {}
    network.read(batch, network.backbone.levels, lambda level, m: maps.__setitem__(level, m.clone()))
    with torch.inference_mode():
        expected = theirs.maxpool(torch.relu(theirs.bn1(theirs.conv1(batch))))
        for level, stage in zip(
            maps, (None, theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True
        ):
            expected = stage(expected) if stage is not None else expected
            atol = 1e-4 * float(expected.abs().max())
            torch.testing.assert_close(maps[level], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("whole", [True, False])
def test_dinos_checkpoint_is_its_teachers_backbone(tmp_path: Path, whole: bool) -> None:
    """DINO's files: all of the training, with its command line and a head of its own; the network alone."""
    state = {k: v for k, v in create(transformer(weights_seed=5))[0].state_dict().items() if "head" not in k}
    student = create(transformer(weights_seed=6))[0].state_dict()
    content: dict[str, Any] = {
        "student": {f"module.backbone.{name}": tensor for name, tensor in student.items()},
        "teacher": {f"backbone.{name}": tensor for name, tensor in state.items()}
        | {"head.mlp.0.weight": torch.zeros(3, 3)},
        "args": argparse.Namespace(arch="vit"),
        "epoch": 100,
    }
    torch.save(content if whole else state, tmp_path / "dino.pth")
    model, lacks = create(transformer(weights=str(tmp_path / "dino.pth")))
    assert equal(model, state)
    assert lacks == {"head.weight", "head.bias"}


def test_dinov2s_names_are_converted_and_positions_interpolated(tmp_path: Path) -> None:
    """A larger grid of positions, and the mask token that training alone reads."""
    state = {k: v for k, v in create(transformer(weights_seed=5))[0].state_dict().items() if "head" not in k}
    width = state["cls_token"].shape[-1]
    positions = torch.ones(1, 1 + 14 * 14, width)
    positions[:, 0] = 2
    torch.save(state | {"mask_token": torch.zeros(1, width), "pos_embed": positions}, tmp_path / "dinov2.pth")
    model, _ = create(transformer(weights=str(tmp_path / "dinov2.pth")))
    own = model.state_dict()
    assert equal(model, {name: tensor for name, tensor in state.items() if name != "pos_embed"})
    assert own["pos_embed"].shape == (1, 1 + 10 * 10, width)
    torch.testing.assert_close(own["pos_embed"][:, 1:], torch.ones(1, 100, width))
    assert (own["pos_embed"][:, 0] == 2).all()


class Bomb:
    """Runs code when it is unpickled in the ordinary way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["raw pickle", "torch", "torch legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_pickled_code_is_not_run(tmp_path: Path, kind: str, suffix: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / f"w{suffix}"
    content = {"conv1.weight": torch.zeros(2), "bomb": Bomb(mark)}
    if kind == "raw pickle":
        path.write_bytes(pickle.dumps({"bomb": Bomb(mark)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(WeightsError, match="pickled objects other than tensors"):
        read_state(path)
    assert not mark.exists()
    # The bomb is live: the ordinary way of loading sets it off.
    if kind == "raw pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "flipped header"])
def test_damaged_file_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"w{suffix}"
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    flipped = bytes([whole[0] ^ 0xFF, whole[1] ^ 0xFF]) + whole[2:]
    path.write_bytes(
        {"truncated": whole[:-500], "garbage": b"\x93junk" * 50, "empty": b"", "flipped header": flipped}[
            damage
        ]
    )
    with pytest.raises(WeightsError) as raised:
        create(resnet18(weights=str(path)))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="does not hold a state dict"):
        read_state(tmp_path / "w.pth")


def test_missing_file_and_unknown_kind(tmp_path: Path) -> None:
    for ask in (create, weights_label, weights_identity):
        with pytest.raises(WeightsError, match=r"absent\.pth: no such file"):
            ask(resnet18(weights=str(tmp_path / "absent.pth")))
    (tmp_path / "w.npz").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"\.safetensors or \.pth"):
        create(resnet18(weights=str(tmp_path / "w.npz")))


@pytest.mark.parametrize("lacks", ["layer3.0.conv2.weight", "layer3.0.bn1.running_var"])
def test_partial_file_reaches_to_its_gap(tmp_path: Path, lacks: str) -> None:
    state = state_of()
    del state[lacks]
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    network = Network(resnet18(weights=str(path)), CPU)
    unusable = network.unusable(["level1", "level2", "level3", "level4", "level5"], 64)
    assert sorted(unusable) == ["level4", "level5"]
    for level, reason in unusable.items():
        assert reason.startswith(f"{path}: {level} of resnet18 needs parameters the file lacks: {lacks}.")


def test_partial_file_gives_what_the_whole_file_gives(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.safetensors", tmp_path / "w.safetensors"
    save_file(state_of(), whole)
    save_file({name: tensor for name, tensor in state_of().items() if not name.startswith("layer4")}, path)
    partial, complete = (Network(resnet18(weights=str(each)), CPU) for each in (path, whole))
    reason = partial.unusable(["level4", "level5"], 64)["level5"]
    assert "layer4.0.bn1.bias" in reason
    assert "more. Choose a shallower level" in reason
    assert complete.unusable(["level5"], 64) == {}
    maps: list[torch.Tensor] = []
    for network in (partial, complete):
        network.read(torch.ones(1, 3, 64, 64), ["level4"], lambda _level, output: maps.append(output.clone()))
    assert torch.equal(*maps)


# Pretrained weights without internet, through the hub's real client.


@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_ENDPOINT": "http://hub.invalid"}],
    ids=["offline", "refused", "unresolvable"],
)
def test_unreachable_hub_is_told_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    code = (
        "import time; from tests.support.features import resnet18\n"
        "from anomaly_sweep.features.backbone.create import create\n"
        "from anomaly_sweep.errors import WeightsError\n"
        "slept = []; time.sleep = slept.append\n"
        "try: create(resnet18(weights='pretrained'))\n"
        "except WeightsError as error: print(error)\n"
        "print(sum(slept))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=600,  # only a guard
        check=True,
    )
    message, slept = done.stdout.strip().splitlines()
    assert message.startswith("backbone.weights=pretrained: the weights of resnet18.tv_in1k could not be had")
    assert "backbone.weights=PATH" in message
    assert "backbone.weights=random" in message
    assert float(slept) == 0  # the client's retries wait in between


def test_pretrained_weights_in_the_hubs_cache_need_no_internet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--timm--resnet18.tv_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    state = state_of()
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
    model, lacking = create(resnet18(weights="pretrained"))
    assert lacking == frozenset()
    assert equal(model, state)
    # A damaged download is the weights' fault, not the configuration's.
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="could not be had"):
        create(resnet18(weights="pretrained"))


def test_pretrained_weights_are_named_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub file that changes under its name gives other features, under another key."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    backbone = resnet18(weights="pretrained")
    assert weights_identity(backbone) == {"weights": "pretrained:resnet18.tv_in1k"}
    folder = tmp_path / "models--timm--resnet18.tv_in1k"
    (folder / "refs").mkdir(parents=True)
    seen = []
    for number, name in ((0, "pytorch_model.bin"), (0, "model.safetensors"), (1, "model.safetensors")):
        snapshot = folder / "snapshots" / f"{number}"
        snapshot.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(f"{number}")
        state = {key: tensor + len(seen) for key, tensor in state_of().items()}
        if name.endswith("bin"):
            torch.save(state, snapshot / name)
        else:
            save_file(state, snapshot / name)
        assert pretrained_file(backbone.model) == snapshot / name
        model, _ = create(backbone)
        assert equal(model, state)
        seen.append(weights_identity(backbone)["weights"])
        assert weights_identity(backbone)["weights"] == seen[-1]
    assert len(set(seen)) == 3
    assert all(one.startswith("pretrained:resnet18.tv_in1k@") for one in seen)


def test_weights_downloaded_before_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(create_module, "create", lambda backbone: asked.append(backbone.model))
    monkeypatch.setattr(create_module.weights, "pretrained_file", lambda _model: None)
    loaded.fetch_weights([resnet18(weights="pretrained"), resnet18(weights="pretrained"), resnet18()])
    assert asked == ["resnet18.tv_in1k"]

    def offline(_backbone: BackboneConf) -> None:
        raise WeightsError("no internet")

    monkeypatch.setattr(create_module, "create", offline)
    loaded.fetch_weights([resnet18(weights="pretrained")])  # told when the network is made
    monkeypatch.setattr(create_module.weights, "pretrained_file", lambda _model: tmp_path)
    monkeypatch.setattr(create_module, "create", None)
    loaded.fetch_weights([resnet18(weights="pretrained")])


@pytest.mark.parametrize(
    "name", ["pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"]
)
def test_weights_have_one_way_in(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"backbone\.kwargs\.{name}.*backbone\.weights=PATH"):
        create(resnet18(kwargs={name: "w.pth"}))


def test_errors_while_downloading_are_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Exception):
        pass

    made = create_module._make

    def make(backbone: BackboneConf, *, pretrained: bool) -> torch.nn.Module:
        if pretrained:
            raise Odd("connection lost\nsecond line")
        return made(backbone, pretrained=False)

    monkeypatch.setattr(create_module, "_check_hub", lambda _backbone: None)
    monkeypatch.setattr(create_module, "_make", make)
    with pytest.raises(WeightsError, match="connection lost second line"):
        create(resnet18(weights="pretrained"))
