"""Networks that cannot be made, or refuse the images: holes with a reason, the rest goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anomaly_sweep.config import BackboneConf, LayerConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.maps import MapStream
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.run.configurations import describe_configurations, run_configurations
from anomaly_sweep.sweep.run.local import decoding_threads
from anomaly_sweep.tasks.localization import run as localize
from tests.support.localizers import localization, localizer
from tests.support.sweeps import configuration, runtime, tracking


def network(name: str, model: str, node: str, **changes: Any) -> dict[str, Any]:
    """A backbone with one level, and that level."""
    backbone = BackboneConf(
        **{"name": name, "model": model, "levels": {"level2": node}, "weights": "random", **changes}
    )
    return {"backbone": backbone, "layer": LayerConf(name="level2", levels=["level2"])}


#: What is refused at the 64 px of the tiny images, and the words of the reason.
REFUSED = {
    "inception": (network("inception", "inception_v3", "Mixed_7c"), "inception_v3 cannot take an RGB image"),
    "grey": (network("grey", "resnet18", "layer1", kwargs={"in_chans": 1}), "resnet18 cannot take an RGB"),
    "maxvit": (network("maxvit", "maxvit_pico_rw_256", "stages.2"), "maxvit_pico_rw_256 cannot take"),
    "tokens": (network("tokens", "mixer_s32_224", "blocks.1", kwargs={"img_size": 64}), "not a feature map"),
    "unknown": (network("unknown", "resnet19", "layer1"), "no such network"),
    "kwargs": (network("kwargs", "resnet18", "layer1", kwargs={"depth": 7}), "timm cannot make resnet18"),
    "node": (network("node", "resnet18", "layer9"), "has no module of that name"),
    "unreached": (network("unreached", "resnet18", "fc"), "never reaches level2=fc"),
    "size": (network("size", "deit_tiny_patch16_224", "blocks.1"), "deit_tiny_patch16_224 cannot take"),
}  # fmt: skip


def run(tmp_path: Path, configurations: list[Any]) -> list[Outcome]:
    return run_configurations(configurations, tracking(tmp_path), runtime(tmp_path), Parent("sweep"))


def test_refused_images_make_holes_and_the_rest_goes_on(tiny_dataset: Path, tmp_path: Path) -> None:
    good = configuration(tiny_dataset)
    chosen = [good, *(configuration(tiny_dataset, **changes) for changes, _ in REFUSED.values())]
    plan = describe_configurations(chosen, runtime(tmp_path))
    first, *others = run(tmp_path, chosen)
    assert first.mean_auc is not None
    for (_, words), outcome in zip(REFUSED.values(), others, strict=True):
        assert outcome.mean_auc is None
        assert len(outcome.failures) == 2
        assert all(words in row["reason"] for row in outcome.rows)
        assert words in plan
    assert f"impossible        {2 * len(REFUSED)}\n" in plan
    assert "to compute        2:" in plan


def test_localizers_too(tiny_dataset: Path, tmp_path: Path) -> None:
    good = localization(tiny_dataset, localizer(level="level2"))
    chosen = [good, *(replace(good, backbone=changes["backbone"]) for changes, _ in REFUSED.values())]
    plan = describe_configurations(chosen, runtime(tmp_path))
    first, *others = run(tmp_path, chosen)
    assert not first.failures
    for (_, words), outcome in zip(REFUSED.values(), others, strict=True):
        assert [words in row["reason"] for row in outcome.rows] == [True, True]
        assert words in plan


@pytest.mark.parametrize("name", ["inception", "grey", "unknown"])
def test_alone_it_is_an_error_and_no_trace(tiny_dataset: Path, tmp_path: Path, name: str) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(AnomalySweepError, match=words):
        run(tmp_path, [configuration(tiny_dataset, **changes)])


def test_a_shallow_level_serves_where_a_deep_one_does_not(tiny_dataset: Path, tmp_path: Path) -> None:
    backbone = BackboneConf(
        name="inception",
        model="inception_v3",
        levels={"shallow": "Conv2d_2b_3x3", "deep": "Mixed_7c"},
        weights="random",
    )
    layers = [LayerConf(name=name, levels=[name]) for name in ("shallow", "deep")]
    shallow, deep = run(
        tmp_path, [configuration(tiny_dataset, backbone=backbone, layer=layer) for layer in layers]
    )
    assert not shallow.failures
    assert all("as far as deep" in row["reason"] for row in deep.rows)


def test_maps_that_are_not_finite_fail_their_own_trials(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    made = MapStream.network.fget  # type: ignore[attr-defined]

    def broken(stream: MapStream) -> Any:
        network_ = made(stream)
        with torch.no_grad():
            network_.model.layer2[0].conv1.weight.fill_(float("nan"))
        return network_

    monkeypatch.setattr(MapStream, "network", property(broken))
    try:
        chosen = [
            localization(tiny_dataset, localizer(name=level, level=level)) for level in ("level2", "level3")
        ]
        finite, other = run(tmp_path, chosen)
    finally:
        from anomaly_sweep.features.backbone import loaded as networks

        networks.loaded.clear()
    assert not finite.failures
    assert all("maps at level3 hold NaN" in row["reason"] for row in other.rows)


def test_what_fitting_holds_is_not_taken_as_nothing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One localizer's refusal does not hide another's need; an unknown error runs alone."""

    def need(*localizers: dict[str, Any]) -> float:
        chosen = [localization(tiny_dataset, one) for one in localizers]
        work = make_plan(chosen, FileIndex(tmp_path / "index")).works[0]
        return localize.largest_fit(work, runtime(tmp_path))

    assert need(localizer(bytes=700), localizer(bytes=900)) == 900
    padim = {
        "name": "padim",
        "_target_": "anomaly_sweep.localization.padim.localizer.Padim",
        "levels": ["level3"],
    }
    assert need(localizer(bytes=700), {**padim, "channels": 10**6}) == 700
    assert need(localizer(bytes=700), localizer(breaks="fit_bytes")) == float("inf")

    def no_memory(_stream: MapStream) -> dict[str, str]:
        raise MemoryError

    monkeypatch.setattr(MapStream, "unusable", no_memory)
    assert need(localizer(bytes=700)) == float("inf")


@pytest.mark.parametrize(
    ("device", "cuda", "threads"),
    [("auto", False, 1), ("auto", True, 8), ("cpu", True, 1), ("mps", False, 8)],
)
def test_decoding_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, cuda: bool, threads: int
) -> None:
    import os

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    assert decoding_threads(runtime(tmp_path, device=device)) == threads
