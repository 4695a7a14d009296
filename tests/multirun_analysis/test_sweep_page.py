"""What a sweep leaves when it ends: in its folder, on its parent run, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.launch import session
from anomaly_sweep.launch.jobs import SweepFailedError, ending_callbacks
from anomaly_sweep.sweep.record.recording import Parent
from anomaly_sweep.tracking import names
from multirun_analysis import sweep_page
from multirun_analysis.callback import SweepAnalysis
from multirun_analysis.papers.ono_mori.paper import OnoMori
from tests.support.multirun import Multirun
from tests.support.trials import Store, make_localization_rows, make_rows

MANY = tuple(f"c{number}" for number in range(8))


@pytest.fixture
def ended(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sweep of rows that has ended in this process: its config and its parent run's id."""

    def end(rows: list[dict[str, Any]]) -> tuple[DictConfig, str]:
        run_id, _ = store.add_sweep(rows)
        assert run_id is not None
        store.client.set_tag(run_id, names.TAG_NOTE, "the command")
        monkeypatch.setattr(session, "ended", lambda: Parent("first", run_id))
        tracking = {"uri": store.uri, "experiment": "anomaly_sweep"}
        return OmegaConf.create(
            {"tracking": tracking, "hydra": {"sweep": {"dir": str(tmp_path / "s")}}}
        ), run_id

    return end


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are slow, and tested by themselves."""
    monkeypatch.setattr(OnoMori, "pictures", lambda *_: [])


def artifacts(store: Store, run_id: str, folder: str) -> Iterator[str]:
    for entry in store.client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from artifacts(store, run_id, entry.path)
        else:
            yield entry.path.removeprefix("analysis/")


@pytest.mark.usefixtures("no_pictures")
def test_the_better_backbone_comes_first_and_everything_is_on_the_run(
    ended: Any, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows({"backbone": ("efficientnet_b5", "resnet18")}, MANY)
    for row in rows:
        row["image_auroc"] = row["image_auroc"] / 2 + (0.4 if row["backbone"] == "resnet18" else 0)
    config, run_id = ended(rows)
    SweepAnalysis().on_multirun_end(config)
    printed = capsys.readouterr().out
    assert printed.index("Table 2: ") < printed.index("Table 3: ") < printed.index("Statements of Ono & Mori")
    assert "These are of resnet18, the best; those of efficientnet_b5 lie beside." in printed
    found = set(artifacts(store, run_id, "analysis"))
    assert {
        f"{backbone}/tables/{name}.{suffix}"
        for backbone in ("resnet18", "efficientnet_b5")
        for name in ("table2", "table3", "claims")
        for suffix in ("md", "csv", "tex", "html", "txt")
    } | {"report.html"} <= found
    page = (tmp_path / "s" / "analysis" / "report.html").read_text(encoding="utf-8")
    assert page.index(">resnet18</h2>") < page.index(">efficientnet_b5</h2>")
    note = store.client.get_run(run_id).data.tags[names.TAG_NOTE]
    assert note.startswith("the command")
    assert "### Table 2: " in note
    assert len(note) <= 8000


def test_localization_gets_the_ridge_papers_tables(
    ended: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run_id = ended([row | {"sweep": "first"} for row in make_localization_rows()])
    SweepAnalysis().on_multirun_end(config)
    assert "Table 1: pixel ROCAUC, PRO and time" in capsys.readouterr().out
    found = set(artifacts(store, run_id, "analysis"))
    assert {"tables/ridge_table1.md", "figures/accuracy_time.svg", "report.html"} <= found


@pytest.mark.usefixtures("no_pictures")
def test_a_small_sweep_gets_a_table_of_what_varies_and_no_statements(
    ended: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {"layer": ("level7",), "pca_mode": ("npca50",), "estimator": ("mvg", "knn1")}
    config, _ = ended(make_rows(grid, dataset="parts"))
    SweepAnalysis().on_multirun_end(config)
    printed = capsys.readouterr().out
    assert "AUROC by category and estimator" in printed
    assert "Statements" not in printed
    assert "Table 2" not in printed


def test_a_failure_costs_one_line(
    ended: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = ended(make_rows({"layer": ("level7",), "pca_mode": ("npca50",)}))

    def fail(*_: object) -> None:
        raise RuntimeError("no room\nleft")

    monkeypatch.setattr(sweep_page, "collect", fail)
    monkeypatch.setattr(sweep_page, "connect", fail)
    SweepAnalysis().on_multirun_end(config)
    captured = capsys.readouterr()
    note = [line for line in captured.err.splitlines() if line.startswith("note:")]
    assert note == [
        "note: the sweep is recorded, but not analysed (RuntimeError: no room); "
        "multirun-analysis report makes its page"
    ]
    SweepAnalysis(enabled=False).on_multirun_end(config)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_said_where_no_sweep_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "ended", lambda: None)
    SweepAnalysis().on_multirun_end(OmegaConf.create({}))
    assert capsys.readouterr().out == ""


def test_it_is_on_and_a_key_turns_it_off() -> None:
    node = Multirun().config.hydra.callbacks.analysis
    assert node._target_ == "multirun_analysis.callback.SweepAnalysis"
    assert node.enabled
    assert not Multirun("hydra.callbacks.analysis.enabled=false").config.hydra.callbacks.analysis.enabled


def test_a_task_that_no_paper_concerns_is_left_to_the_summary(
    ended: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = ended(make_rows({"layer": ("level7",)}, task="counting"))
    SweepAnalysis().on_multirun_end(config)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "not analysed" not in captured.err


def test_a_sweep_with_failed_trials_is_analysed_too() -> None:
    calls: list[DictConfig] = []

    class Seen(SweepAnalysis):
        def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
            calls.append(config)

    callbacks, config = Callbacks(), OmegaConf.create({})
    callbacks.callbacks = [Seen()]
    for error in (SweepFailedError("1 of 2", ["bolt: singular"]), SweepFailedError("error: nothing began")):
        with pytest.raises(SweepFailedError), ending_callbacks(callbacks, config):
            raise error
    with ending_callbacks(callbacks, config):
        pass  # Hydra itself calls them then
    assert calls == [config]
