"""A search's history and importances: on its sweep's page, and by ``figures`` and ``report`` later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from anomaly_sweep.config import TrackingConf
from anomaly_sweep.launch import session
from anomaly_sweep.sweep.record.recording import Parent
from anomaly_sweep.sweep.search.record import importances, record_end
from anomaly_sweep.sweep.search.settings import Settings
from anomaly_sweep.sweep.search.space import parse_space
from anomaly_sweep.sweep.search.study import Result, Search
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.writer import Recorder
from multirun_analysis.callback import SweepAnalysis
from multirun_analysis.cli import main
from multirun_analysis.figures.search import search_pictures
from multirun_analysis.papers.ono_mori.paper import OnoMori
from multirun_analysis.trials.connection import connect
from multirun_analysis.trials.searches import read_searches
from tests.support.trials import Store, make_rows

GRID = {"layer": ("level6", "level7"), "pca_mode": ("npca50",), "estimator": ("mvg", "knn1")}
VALUES = {"level6": 0.625, "level7": 0.875}
HISTORY, IMPORTANCE = "search_history_auc", "search_importance_auc"


@pytest.fixture(autouse=True)
def no_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are slow, and tested by themselves."""
    monkeypatch.setattr(OnoMori, "pictures", lambda *_: [])


def search(uri: str, run_id: str, *, failing: str = "") -> Search:
    """A search of layer and estimator that has ended, as the sweeper records it."""

    def evaluate(jobs: list[list[str]]) -> list[Result]:
        choices = [dict(override.split("=", 1) for override in job) for job in jobs]
        return [
            "it failed" if failing in (one["layer"], "all") else (VALUES[one["layer"]],) for one in choices
        ]

    settings = Settings(
        sampler={"_target_": "optuna.samplers.GridSampler"},
        storage=None,
        study_name=None,
        direction=None,
        n_trials=4,
        batch_size=2,
        objectives=["auc"],
    )
    space = parse_space({}, ["layer=level6,level7", "estimator=mvg,knn1"], OverridesParser.create())
    found = Search(space, settings, "0" * 32)
    while found.step(evaluate):
        pass
    record_end(found, Recorder(TrackingConf(uri=uri, experiment="anomaly_sweep")), run_id)
    return found


def sweep(store: Store, name: str = "first", *, start: int = 1_000) -> str:
    run_id, _ = store.add_sweep(make_rows(GRID), name, start=start)
    assert run_id is not None
    return run_id


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("search_*")}


def all_of(*stems: str) -> set[str]:
    return {f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "svg", "png")}


def test_figures_and_report_have_them_long_after_the_sweep(store: Store, tmp_path: Path) -> None:
    search(store.uri, sweep(store))
    source = ["--tracking-uri", store.uri, "--out"]
    assert main(["figures", *source, str(tmp_path / "f")]) == 0
    assert main(["figures", *source, str(tmp_path / "every"), "--backbone", "all", "--log"]) == 0
    assert files(tmp_path / "f") == files(tmp_path / "every") == all_of(HISTORY, IMPORTANCE)
    assert main(["report", *source, str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'href="#search"' in page
    assert "Search: what mattered for auc" in page


def test_the_page_of_the_sweep_has_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = sweep(store)
    search(store.uri, run_id)
    monkeypatch.setattr(session, "ended", lambda: Parent("first", run_id))
    config: dict[str, Any] = {"tracking": {"uri": store.uri, "experiment": "anomaly_sweep"}}
    SweepAnalysis().on_multirun_end(OmegaConf.create(config | {"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert files(tmp_path / "analysis" / "figures") == all_of(HISTORY, IMPORTANCE)
    assert 'href="#search"' in (tmp_path / "analysis" / "report.html").read_text(encoding="utf-8")


def test_what_they_show(store: Store) -> None:
    run_id = sweep(store)
    shares = importances(search(store.uri, run_id))["auc"]
    history, importance = search_pictures(read_searches(connect(store.uri), [run_id]))
    (axes,) = history.draw().axes
    values = axes.collections[0].get_offsets().data[:, 1].tolist()
    assert sorted(values) == [0.625, 0.625, 0.875, 0.875]
    best = axes.get_lines()[0].get_ydata().tolist()
    assert best == [max(values[: number + 1]) for number in range(4)]
    bars = importance.draw().axes[0]
    drawn = {
        label.get_text(): bar.get_width()
        for label, bar in zip(bars.get_yticklabels(), bars.patches, strict=True)
    }
    assert drawn == {key: 100 * share for key, share in shares.items()}
    assert drawn["layer"] > 99  # the values are the layer's alone


def test_a_failed_trial_is_counted_and_a_search_without_a_value_draws_nothing(store: Store) -> None:
    part, nothing = sweep(store), sweep(store, "second", start=90_000)
    search(store.uri, part, failing="level7")
    search(store.uri, nothing, failing="all")
    (history,) = search_pictures(read_searches(connect(store.uri), [part, nothing]))
    assert "2 of 4 trials have a value" in history.caption


def test_several_searches_are_told_apart(store: Store, tmp_path: Path) -> None:
    search(store.uri, sweep(store, "a/b"))
    search(store.uri, sweep(store, "c", start=90_000))
    sweep(store, "no search", start=180_000)
    stored = ["--tracking-uri", store.uri]
    assert main(["figures", *stored, "--sweep", "a/b", "--out", str(tmp_path / "one")]) == 0
    assert files(tmp_path / "one") == all_of(HISTORY, IMPORTANCE)
    runs = store.client.search_runs([store.experiment], f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}'")
    pictures = search_pictures(read_searches(connect(store.uri), [run.info.run_id for run in runs]))
    assert {picture.name for picture in pictures} == {
        f"{stem}_{name}" for stem in (HISTORY, IMPORTANCE) for name in ("a_b", "c")
    }
    assert {picture.title.split(":")[0] for picture in pictures} == {"Search a/b", "Search c"}
