"""The commands from end to end, and the UI's parts without its server."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly_sweep.tracking.view import runs_page
from multirun_analysis import ui
from multirun_analysis.cli import main
from multirun_analysis.errors import AnalysisError
from multirun_analysis.figures.effects import pareto_picture
from multirun_analysis.figures.style import Picture
from multirun_analysis.papers.ono_mori.paper import OnoMori
from multirun_analysis.rendering.table import Absent
from multirun_analysis.reporting.page import Section
from multirun_analysis.summary.effects import Effects
from multirun_analysis.summary.study import DetectionStudy
from multirun_analysis.trials.long_table import load_trials, save_trials
from tests.support.trials import Store, make_frame, make_rows

SMALL = {"layer": ("level6", "level7"), "pca_mode": ("none", "npca50")}


def test_trials_then_tables_of_the_file_and_of_the_store_agree(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows(SMALL)
    store.add_sweep(rows)
    out = tmp_path / "new" / "trials.csv"
    assert main(["trials", "--tracking-uri", store.uri, "--out", str(out)]) == 0
    assert f"{len(rows)} trials (0 failed) in {out}" in capsys.readouterr().out
    assert len(load_trials(out)) == len(rows)
    from_store, from_file = tmp_path / "a", tmp_path / "b"
    assert main(["tables", "--tracking-uri", store.uri, "--out", str(from_store)]) == 0
    printed = capsys.readouterr().out
    assert main(["tables", "--paper", "ono_mori", "--trials", str(out), "--out", str(from_file)]) == 0
    wanted = {
        f"{name}.{s}"
        for name in ("table2", "table2_all_layers", "table3")
        for s in ("txt", "md", "tex", "csv", "html")
    } | {"document.tex"}
    assert {path.name for path in from_store.iterdir()} == wanted
    for path in from_store.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        same = [line for line in lines if "From sweep first: run " not in line]
        there = (from_file / path.name).read_text(encoding="utf-8").splitlines()
        assert len(lines) - len(same) in ((0,) if path.suffix == ".csv" else (1, 3))
        if path.suffix in (".csv", ".txt"):
            assert same == there
    assert (from_store / "table2.txt").read_text(encoding="utf-8") in printed
    assert f"wrote {from_store / 'table2'}" in printed
    assert "experiment=ono_mori_pooling" in printed
    assert "experiment=ono_mori_augmentation" in printed


def test_the_latest_sweep_or_one_or_all(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.add_sweep(make_rows(SMALL), "grid", start=1_000)
    pooling = {"layer": ("level7",), "pca_mode": ("npca50",), "pooling": ("min", "max")}
    store.add_sweep(make_rows(pooling), "pool", start=50_000)
    common = ["tables", "--tracking-uri", store.uri, "--out"]

    def made(folder: str, *options: str) -> set[str]:
        assert main([*common, str(tmp_path / folder), *options]) == 0
        return {path.stem for path in (tmp_path / folder).iterdir()} - {"document"}

    grid = {"table2", "table2_all_layers", "table3"}
    assert made("latest") == {"table4"}
    assert "note: sweep 'pool', the latest of 2" in capsys.readouterr().err
    assert made("one", "--sweep", "grid") == grid
    assert made("all", "--sweep", "all") == grid | {"table4"}
    assert made("one", "--sweep", "pool") == grid | {"table4"}
    assert "not made now, from an earlier run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["trials", "--tracking-uri", "sqlite:///none.db", "--out", "t.csv"],
        ["trials", "--out", "t.xlsx"],
        ["tables", "--trials", "none.csv", "--out", "d"],
        ["tables", "--tracking-uri", "sqlite:///none.db", "--out", "d"],
        ["ui", "--tracking-uri", "sqlite:///none.db", "--port", "0"],
    ],
)
def test_user_errors_end_with_2_and_leave_nothing(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_several_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    save_trials(make_frame(SMALL), path)
    options = ["tables", "--trials", str(path), "--out", str(tmp_path / "d"), "--sweep"]
    assert main([*options, "first"]) == 0
    assert main([*options, "x"]) == 2
    assert "no trial of sweep 'x'; it has: first" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["tables", "--trials", str(path), "--out", str(tmp_path / "file")]) == 2
    assert "error: " in capsys.readouterr().err


def test_every_backbone_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    save_trials(make_frame(SMALL | {"backbone": ("efficientnet_b5", "resnet18")}), path)
    options = ["tables", "--trials", str(path), "--out", str(tmp_path / "d")]
    assert main(options) == 0
    assert "these are of efficientnet_b5; for resnet18 give --backbone" in capsys.readouterr().err
    assert main([*options, "--backbone", "all"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\nTable 3: ") == 2
    assert captured.err == ""
    folders = {path.name for path in (tmp_path / "d").iterdir() if path.is_dir()}
    assert folders == {"efficientnet_b5", "resnet18"}
    assert "backbone=resnet18" in (tmp_path / "d" / "resnet18" / "table3.txt").read_text(encoding="utf-8")


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    save_trials(make_frame(SMALL), path)
    command = [
        sys.executable,
        "-m",
        "multirun_analysis.cli",
        "tables",
        "--trials",
        str(path),
        "--out",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
    assert (tmp_path / "table3.csv").is_file()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom multirun_analysis.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'mlflow', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_pivot_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    save_trials(make_frame(SMALL), path)
    command = ["pivot", "--trials", str(path), "--rows", "category", "--cols", "layer", "--where"]
    begins = {
        "text": "AUROC",
        "md": "### AUROC",
        "latex": r"\begin{table}",
        "csv": "block,",
        "html": "<!DOCTYPE",
    }
    for name, start in begins.items():
        assert main([*command, "estimator=mvg & pca_mode=npca50", "--format", name]) == 0
        assert capsys.readouterr().out.startswith(start)
    assert main([*command, "estimator=mvg", "--average-over", "pca_mode"]) == 0
    assert "Averaged over: pca_mode." in capsys.readouterr().out
    assert main([*command, "estimator=mvg"]) == 2
    assert "pca_mode (none, npca50)" in capsys.readouterr().err


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        with pytest.raises(AnalysisError, match="choose another with --port"):
            ui.check_port(taken.getsockname()[1])
    with pytest.raises(AnalysisError, match="--port"):
        ui.check_port(70_000)


class Server:
    """Stands for the process of an MLflow server."""

    started: list[list[str]] = []  # noqa: RUF012
    code: int | None = None
    returncode = 3

    def __init__(self, command: list[str], **_: object) -> None:
        self.started.append(command)

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout: float | None = None) -> int:
        raise KeyboardInterrupt if timeout is None else AssertionError

    def terminate(self) -> None:
        self.__class__.code = 0


def test_ui_opens_the_table_of_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(ui, "_wait_until_up", lambda server, port: None)
    monkeypatch.setattr(ui.webbrowser, "open", opened.append)
    monkeypatch.setattr(ui, "_stop", lambda server: server.terminate())
    monkeypatch.setattr(ui.subprocess, "Popen", Server)
    monkeypatch.setattr(ui.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(ui, "check_port", lambda port: None)
    assert main(["ui", "--tracking-uri", store.uri, "--port", "5055"]) == 0
    url = runs_page("http://127.0.0.1:5055", store.experiment)
    assert f"/#/experiments/{store.experiment}/runs?workflowType=machine_learning" in url
    assert opened == [url]
    assert url in capsys.readouterr().out
    assert Server.started == [ui.server_command(store.uri, 5055)]
    assert Server.code == 0
    assert main(["ui", "--tracking-uri", store.uri, "--port", "5055", "--no-browser"]) == 0
    assert len(opened) == 1
    assert main(["ui", "--tracking-uri", store.uri, "--experiment", "x"]) == 2


def test_claims_effects_and_comparison_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "t.parquet", tmp_path / "u.csv"
    save_trials(make_frame(SMALL | {"backbone": ("efficientnet_b5", "resnet18")}), path)
    save_trials(make_frame(SMALL, weights="other"), other)
    source = ["--trials", str(path)]
    assert main(["claims", *source, "--backbone", "all"]) == 0
    assert capsys.readouterr().out.count("EfficientNet-B5 beats ResNet-18") >= 2
    for form in ("text", "html"):
        assert main(["effects", *source, "--format", form]) == 0
        assert capsys.readouterr().out.count("npca50") > 3
    assert main(["compare", str(path), str(other)]) == 0
    assert "u against t" in capsys.readouterr().out
    assert main(["compare", str(path)]) == 2
    assert "two sweeps or more" in capsys.readouterr().err


def test_tables_figures_and_report_on_the_parent_run(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_one(
        paper: OnoMori, study: DetectionStudy, found: Effects, tables: object
    ) -> list[Picture | Absent]:
        return [pareto_picture(found, study)]

    monkeypatch.setattr(OnoMori, "pictures", only_one)
    monkeypatch.setattr(
        "multirun_analysis.reporting.page._section",
        lambda one, prefix: Section(prefix, one.study.backbone, [], [], []),
    )
    grid = {"layer": ("level6", "level7"), "pca_mode": ("npca50",), "estimator": ("knn1",)}
    parent, _ = store.add_sweep(make_rows(grid), "a")
    store.add_sweep(make_rows(grid), "b", start=90_000)
    source = ["--tracking-uri", store.uri, "--sweep", "a", "--log", "--out"]
    assert main(["tables", *source, str(tmp_path / "x")]) == 0
    assert main(["figures", *source, str(tmp_path / "y"), "--backbone", "all"]) == 0
    assert main(["report", *source, str(tmp_path / "z" / "report.html")]) == 0
    assert f"on run {parent} of sweep a, under analysis/" in capsys.readouterr().out
    assert parent is not None
    page = (tmp_path / "z" / "report.html").read_text(encoding="utf-8")
    versions = "anomaly_sweep version not recorded, torch==2.13.0, timm==1.0.20"
    assert f"sweep a: run {parent}; {versions}." in page
    assert "sweep b" not in page
    assert f"run {parent}; {versions}." in (tmp_path / "x" / "table3.txt").read_text(encoding="utf-8")

    def there(folder: str) -> set[str]:
        return {
            entry.path.removeprefix(f"{folder}/") for entry in store.client.list_artifacts(parent, folder)
        }

    assert there("analysis") == {"tables", "figures", "report.html"}
    assert there("analysis/tables") == {
        "document.tex",
        *(f"table3.{suffix}" for suffix in ("txt", "md", "tex", "csv", "html")),
    }
    assert {"pareto.pdf", "pareto.svg", "pareto.png"} <= there("analysis/figures/efficientnet_b5")
    every = ["tables", "--tracking-uri", store.uri, "--sweep", "all", "--log", "--out", str(tmp_path / "x")]
    assert main(every) == 0  # the later sweep repeats every trial of the first: they are of one sweep
    trials = tmp_path / "t.csv"
    save_trials(make_frame(SMALL), trials)
    assert main(["tables", "--trials", str(trials), "--log", "--out", str(tmp_path / "w")]) == 2
    assert "--log needs the tracking store" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
