"""The timing protocol: what is run how often, and what the figures are."""

from __future__ import annotations

import pytest
import torch

from anomaly_sweep.localization import timing as room
from anomaly_sweep.localization.base import Maps, Scored
from anomaly_sweep.localization.timing import Timing, measure, time_localizer

CPU = torch.device("cpu")


class Clock:
    """Stands in for the time module: it goes on only when something takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Sleeper:
    """Takes 2 ms a call and 1 ms an image."""

    levels = ("level3",)
    state_bytes = 0

    def __init__(self, clock: Clock) -> None:
        self.calls: list[int] = []
        self.clock = clock

    def score(self, maps: Maps) -> Scored:
        assert set(maps) == {"level3"}
        n = len(maps["level3"])
        self.calls.append(n)
        self.clock.now += 0.002 + 0.001 * n
        return Scored(maps["level3"][:, 0])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(room, "time", made)
    return made


def test_warm_up_is_not_counted(clock: Clock) -> None:
    calls = []

    def action() -> None:
        calls.append(len(calls))
        clock.now += 0.5 if len(calls) <= 2 else 0.125

    assert measure(action, CPU, warm_up=2, repeats=4) == [0.125] * 4
    assert len(calls) == 6


def test_parts_are_timed_per_image(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = Sleeper(clock)

    def draw(grid: torch.Tensor, _side: int, _sigma: float) -> None:
        clock.now += 0.0005 * len(grid)

    monkeypatch.setattr(room, "render", draw)
    maps = {"level3": torch.rand(6, 1, 8, 8), "level4": torch.rand(6, 1, 4, 4)}
    score, drawn = time_localizer(sleeper, maps, 32, 4.0, 4, warm_up=1, repeats=3)  # type: ignore[arg-type]
    assert sleeper.calls == [4, 2] * 4
    assert (score.part, drawn.part, score.batch) == ("score", "map", 4)
    assert score.median == pytest.approx((2 * 0.002 + 6 * 0.001) / 6)
    assert drawn.median == pytest.approx(0.0005)


def test_figures() -> None:
    timing = Timing("score", 1, (3.0, 1.0, 2.0, 4.0, 100.0))
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)


def test_the_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(room, "synchronise", lambda _device: seen.append("wait"))
    measure(lambda: seen.append("run"), CPU, warm_up=1, repeats=2)
    assert seen == ["run", *["wait", "run", "wait"] * 2]
