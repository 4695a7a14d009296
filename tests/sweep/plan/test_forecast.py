"""The forecast of a sweep's cost, and the time left of a running one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from anomaly_sweep.config import AugmentationConf, BackboneConf, Configuration, PcaModeConf, RuntimeConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.estimators.flow.settings import FAST
from anomaly_sweep.features.backbone.cost import network_cost
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.sweep.plan.describe import describe_work, forecast_of
from anomaly_sweep.sweep.plan.forecast import Forecast, elapsed, key_of
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.sweep.record.recording import Parent
from anomaly_sweep.sweep.run import progress as progress_module
from anomaly_sweep.sweep.run.configurations import run_configurations
from anomaly_sweep.sweep.run.progress import Progress, Remaining, Step
from anomaly_sweep.tasks.base import ShardWork, TrialResult
from anomaly_sweep.tasks.detection.forecast import CLOSED_FORM, OTHER, flow_seconds, kept_components
from anomaly_sweep.tasks.detection.forecast import FLOW as FLOWS
from anomaly_sweep.tasks.forecast import IMAGES, ShardForecast
from tests.support.sweeps import FLOW, KNN1, MVG, computed, configuration, grid, runtime, tracking

FOREST = {"name": "isolation_forest", "_target_": "sklearn.ensemble.IsolationForest"}


def works_of(configurations: list[Configuration], folder: Path) -> list[ShardWork]:
    return make_plan(configurations, FileIndex(folder / "files.sqlite")).works


def forecast(configurations: list[Configuration], folder: Path, workers: int = 1) -> Forecast:
    return forecast_of(works_of(configurations, folder), runtime(folder), workers)


def test_a_networks_operations_are_those_of_its_convolutions(tiny_dataset: Path) -> None:
    """Two operations a multiplication with addition, layer by layer, of ResNet-18 at 64 pixels."""
    backbone = configuration(tiny_dataset).backbone
    cost = network_cost(backbone, 64)

    def convolution(side: int, into: int, out: int, kernel: int) -> float:
        return 2.0 * side**2 * into * out * kernel**2

    total = convolution(32, 3, 64, 7)
    expected = {"level1": total}
    for stage, (side, into, out) in enumerate(((16, 64, 64), (8, 64, 128), (4, 128, 256), (2, 256, 512))):
        total += convolution(side, into, out, 3) + 3 * convolution(side, out, out, 3)
        total += convolution(side, into, out, 1) if stage else 0.0
        expected[f"level{stage + 2}"] = total
    assert cost.flops == expected
    assert cost.shapes == {
        "level1": (64, 16, 16), "level2": (64, 16, 16), "level3": (128, 8, 8),
        "level4": (256, 4, 4), "level5": (512, 2, 2),
    }  # fmt: skip
    assert not cost.unusable


def test_a_deeper_level_and_a_larger_image_cost_more(tiny_dataset: Path) -> None:
    backbone = configuration(tiny_dataset).backbone
    small, large = network_cost(backbone, 64), network_cost(backbone, 128)
    costs = list(small.flops.values())
    assert costs == sorted(set(costs))
    for level in small.flops:
        assert large.flops[level] == 4 * small.flops[level]


def test_a_network_that_cannot_be_counted_has_a_nominal_cost(tiny_dataset: Path, tmp_path: Path) -> None:
    absent = BackboneConf(name="absent", model="no_such_net", levels={"level2": "x"}, weights="random")
    found = forecast([configuration(tiny_dataset, backbone=absent)], tmp_path)
    assert math.isfinite(found.seconds)
    assert found.seconds > 0


def test_every_kind_of_trial_is_weighed_by_what_it_costs(tiny_dataset: Path, tmp_path: Path) -> None:
    found = forecast(grid(tiny_dataset, ["level2"], [0.5], [MVG, KNN1, FOREST, FLOW]), tmp_path)
    assert set(found.by_kind()) == {IMAGES, CLOSED_FORM, OTHER, FLOWS}
    assert found.images == 2 * (6 + 10)
    seconds = {kind: one for shard in found.shards.values() for kind, one in shard.trials.values()}
    assert seconds[CLOSED_FORM] < seconds[OTHER]
    flows = [dict(FLOW, steps=steps, folds=0) for steps in (1, 100, 10_000)]
    whole = [forecast(grid(tiny_dataset, ["level2"], [0.5], [flow]), tmp_path).seconds for flow in flows]
    assert whole == sorted(set(whole))


def test_what_is_in_the_cache_costs_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = grid(tiny_dataset, ["level2"], [0.5], [MVG])
    before = forecast(chosen, tmp_path)
    run_configurations(chosen, tracking(tmp_path), runtime(tmp_path), Parent("alone"))
    after = forecast(chosen, tmp_path)
    assert before.images == 32
    assert after.images == 0
    assert 0 < after.seconds < before.seconds
    deeper = forecast(grid(tiny_dataset, ["level2", "level4"], [0.5], [MVG]), tmp_path)
    assert deeper.images == 32


def test_more_passes_of_augmentation_cost_more(tiny_dataset: Path, tmp_path: Path) -> None:
    noise = AugmentationConf(name="noise", kind="noise", passes=3)
    plain, noisy = (
        forecast([configuration(tiny_dataset, augmentation=a)], tmp_path)
        for a in (AugmentationConf(name="none"), noise)
    )
    assert noisy.images - plain.images == 2 * 2 * 6
    assert noisy.seconds > plain.seconds


@given(st.integers(1, 500), st.integers(2, 2000), st.integers(2, 2000))
def test_a_flow_costs_more_with_rows_dimensions_and_steps(steps: int, n: int, d: int) -> None:
    settings = dataclasses.replace(FAST, steps=steps, folds=0)
    cost = flow_seconds(settings, n, d)
    assert 0 < cost < flow_seconds(settings, n + 1, d)
    assert cost < flow_seconds(settings, n, d + 1)
    assert flow_seconds(dataclasses.replace(settings, steps=2 * steps), n, d) == pytest.approx(2 * cost)


@pytest.mark.parametrize(
    ("pca", "n", "d", "kept"),
    [
        (PcaModeConf(name="none"), 24, 512, 512),
        (PcaModeConf(name="pca10", mode="pca", rate=0.1), 101, 512, 10),
        (PcaModeConf(name="npca50", mode="npca", rate=0.5), 101, 512, 50),
        (PcaModeConf(name="npca50", mode="npca", rate=0.5), 1000, 64, 32),
        (PcaModeConf(name="dims", mode="pca", rate=0.5, basis="dims"), 1000, 64, 32),
        (PcaModeConf(name="dims", mode="pca", rate=0.5, basis="dims"), 11, 64, 10),
        (PcaModeConf(name="few", mode="pca", rate=0.001), 10, 64, 1),
        (PcaModeConf(name="variance", mode="pca", rate=0.5, basis="variance"), 101, 512, 25),
        (PcaModeConf(name="variance", mode="npca", rate=0.5, basis="variance"), 101, 512, 50),
        (PcaModeConf(name="pca100", mode="pca", rate=1.0), 2, 64, 1),
    ],
)
def test_components_kept(pca: PcaModeConf, n: int, d: int, kept: int) -> None:
    assert kept_components(pca, n, d) == kept


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(1, 8))
def test_work_over_processes(pieces: list[float], workers: int) -> None:
    """Between the bound and what handing the pieces out in order takes (list scheduling: twice at most)."""
    found = elapsed(pieces, workers)
    loads = [0.0] * workers
    for piece in pieces:
        loads[loads.index(min(loads))] += piece
    assert found <= max(loads) * (1 + 1e-12)
    assert max(loads) <= 2 * found * (1 + 1e-12)


def test_the_plan_in_words_tells_the_forecast_that_progress_starts_from(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    chosen = grid(tiny_dataset, ["level1", "level4"], [0.1, 0.5], [MVG, dict(FLOW, steps=1_000_000, folds=0)])
    plan = make_plan(chosen, FileIndex(tmp_path / "files.sqlite"))
    conf = runtime(tmp_path)
    seconds = forecast_of(plan.works, conf, 1).seconds
    assert f"expected time       about {seconds / 60:.0f} min on 1 process\n" in describe_work(
        plan, plan.works, conf
    )
    assert Remaining(forecast_of(plan.works, conf, 1)).seconds() == pytest.approx(seconds)


def shards(sizes: list[tuple[int, list[float]]]) -> Forecast:
    """Shards with so many images of 0.1 s and trials of so many seconds, every second one a flow."""
    made = {}
    for number, (images, trials) in enumerate(sizes):
        kinds = itertools.cycle((CLOSED_FORM, FLOWS))
        own = {f"{number}-{i}": (kind, s) for i, (kind, s) in enumerate(zip(kinds, trials, strict=False))}
        made[str(number)] = ShardForecast(images, "images net 64", 0.1, own)
    return Forecast(made)


def test_work_that_takes_what_was_forecast_leaves_the_rest_of_the_forecast() -> None:
    left = Remaining(shards([(10, [0.5, 3.0]), (20, [0.25, 6.0])]))
    assert left.seconds() == pytest.approx(12.75)
    left.step(Step("0", images=10, seconds=1.0))
    left.step(Step("0", trial="0-0", seconds=0.5))
    assert left.seconds() == pytest.approx(11.25)
    assert left.share() == pytest.approx(1.5 / 12.75)
    left.step(Step("0", trial="0-1", seconds=3.0))
    assert left.seconds() == pytest.approx(8.25)


@pytest.mark.parametrize("slow", [0.1, 0.5, 2.0, 10.0])
def test_what_was_measured_corrects_its_own_kind(slow: float) -> None:
    """With f seconds of work done at m = slow x f: (m + 1) / (f + 1), which tends to slow."""
    left = Remaining(shards([(1000, [])]))
    factors = []
    for done in range(1, 6):
        left.step(Step("0", images=100, seconds=10 * slow))
        factors.append(left.seconds() / (10 * (10 - done)))
        assert factors[-1] == pytest.approx((10 * done * slow + 1) / (10 * done + 1))
    assert factors == sorted(factors, reverse=slow < 1)


def test_a_kind_not_yet_measured_shares_the_machines_speed_halfway() -> None:
    left = Remaining(shards([(1000, [0.0, 50.0])]))
    left.step(Step("0", images=1000, seconds=1e9))
    factor = (1e9 + 1) / (100 + 1)
    assert left.seconds() == pytest.approx(50.0 * math.sqrt(factor))


def test_a_shard_that_begins_anew_is_to_be_done_again() -> None:
    left = Remaining(shards([(10, [0.5, 3.0])]))
    left.step(Step("0", images=4, seconds=0.4))
    left.step(Step("0", trial="0-0", failed=True, seconds=0.5))
    assert (left.images_done, left.trials_done, left.trials_failed) == (4, 1, 1)
    left.again("0")
    assert (left.images_done, left.trials_done, left.trials_failed) == (0, 0, 0)
    assert left.share() == 0.0
    left.finish("0", [TrialResult.failed("0-0", "died"), TrialResult.failed("0-1", "died")])
    assert (left.images_done, left.trials_done, left.trials_failed) == (10, 2, 2)
    left.step(Step("0", trial="0-1", seconds=3.0))  # heard late
    assert left.trials_done == 2
    assert left.seconds() == pytest.approx(0.0, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=4), st.randoms())
def test_everything_is_done_once_whatever_the_order(sizes: list[tuple[int, int]], random: object) -> None:
    made = shards([(images, [0.5] * trials) for images, trials in sizes])
    steps = [Step(key, images=1) for key, shard in made.shards.items() for _ in range(shard.images)]
    steps += [Step(key, trial=trial) for key, shard in made.shards.items() for trial in shard.trials]
    random.shuffle(steps)  # type: ignore[attr-defined]
    left = Remaining(made)
    shares = [left.share()]
    for step in steps:
        left.step(step)
        shares.append(left.share())
    assert shares == sorted(shares)
    assert left.images_done == sum(images for images, _ in sizes)
    assert left.trials_done == sum(trials for _, trials in sizes)
    assert left.seconds() == pytest.approx(0.0, abs=1e-9)


@given(st.integers(0, 250))
def test_the_line_fits(width: int) -> None:
    shown = Progress(shards([(12345, [0.5] * 2000), (777, [3600.0])]))
    shown.step(Step("0", images=300, seconds=9.0))
    shown.step(Step("0", trial="0-0", failed=True))
    shown.current = "a category with a long [name] done"
    assert cell_len(shown.line(width)) <= width


def test_the_line_at_80_columns_and_below(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    shown = Progress(shards([(5354, [1.0] * 10_000)]))
    shown.step(Step("0", images=2000, seconds=200.0))
    shown.step(Step("0", trial="0-0", failed=True))
    now[0] = 160.0
    assert shown.line(80) == "2 %  1/10000 trials  2000/5354 images  1 failed  ETA 2:51:14  after 1:00"
    assert shown.line(60) == "2 %  1/10000 trials  1 failed  ETA 2:51:14  after 1:00"
    assert shown.line(40) == "1/10000 trials  1 failed  ETA 2:51:14"
    assert shown.line(16) == "1/10000 trials"
    assert shown.line(8) == "1/10000…"


def test_the_time_left_runs_down_while_a_long_piece_is_in_the_works(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    shown = Progress(shards([(0, [0.0, 600.0])]))
    now[0] = 20.0
    assert "ETA 10:00" in shown.line()  # nothing has begun yet
    now[0] = 0.0
    shown.step(Step("0", trial="0-0"))
    assert "ETA 10:00" in shown.line()
    now[0] = 300.0
    assert "ETA 5:00" in shown.line()
    now[0] = 1200.0  # overdue: as long again by a tenth
    assert "ETA 2:00" in shown.line()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweeps_progress_ends_with_everything_counted(
    tiny_dataset: Path, tmp_path: Path, workers: int
) -> None:
    chosen = grid(tiny_dataset, ["level1", "level2"], [0.5], [MVG, KNN1, FLOW])
    works = works_of(chosen, tmp_path)
    conf = RuntimeConf(device="cpu", workers=workers, cache_dir=str(tmp_path / "cache"))
    made = forecast_of(works, conf, workers)
    assert set(made.shards) == {key_of(work) for work in works}
    with Progress(made) as shown:
        computed(works, conf, shown)
    assert shown.line().startswith("100 %  12/12 trials  32/32 images  ETA 0:00")
    assert shown._left.factors().keys() >= {"images resnet18 64 detection"}
    assert cache_at(conf.cache_dir)
