"""The ``anomaly-sweep-data`` command: output and exit codes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_sweep.cli.data import main
from anomaly_sweep.datasets import file_index as manifest

SMALL = ["--size", "32", "--n-train", "2", "--n-test-good", "1", "--n-per-defect", "1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    assert main(["generate", str(folder), *SMALL]) == 0
    return folder


def test_check_prints_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["category", "train/good", "test/good", "test/defect", "masks"]
    assert ["linen", "2", "1", "3", "3"] in [line.split() for line in lines]
    assert len(lines) == 17
    assert lines[-1] == "0 problem(s)"


def test_check_lists_problems(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(root), "--categories", "gear, linen", "--reader", "mvtec_ad"]) == 1
    out = capsys.readouterr().out
    assert "2 problem(s)" in out
    assert "gear: " in out
    assert "linen: " in out
    assert "washer" not in out
    assert "is not a category of MVTec AD" in out


def test_unknown_category_is_a_problem(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(root), "--categories", "spoon"]) == 1
    assert "no category 'spoon'" in capsys.readouterr().out


def test_remarks_are_told_apart(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(root / "linen", tmp_path / "data" / "linen")
    good = tmp_path / "data" / "linen" / "train" / "good"
    (good / "notes.txt").write_text("")
    assert main(["check", str(tmp_path / "data")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:-1] == ["0 problem(s)", "1 remark(s): the data can be used as they are"]
    assert "notes.txt is not read" in lines[-1]
    (good / "more").mkdir()
    assert main(["check", str(tmp_path / "data")]) == 1
    assert "1 problem(s)" in capsys.readouterr().out


def test_size_and_memory_are_options(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / "linen", tmp_path / "data" / "linen")
    data = tmp_path / "data"
    marks = np.zeros((32, 32), np.uint8)
    marks[:, 31] = 255
    mask = next(data.glob("linen/ground_truth/*/000_mask.png"))
    Image.fromarray(marks).save(mask)
    assert main(["check", str(data)]) == 0
    assert main(["check", str(data), "--input-size", "32", "--center-crop", "30"]) == 1
    assert "none of which is left at 32 x 32 pixels, of which the central 30" in capsys.readouterr().out
    monkeypatch.setattr(manifest, "_stat", lambda path: manifest._Stat(1, 1, 1, "1"))
    manifest.FileIndex(tmp_path / "cache" / "files.sqlite").lookup([mask])
    marks[0] = 255
    Image.fromarray(marks).save(mask)
    assert main(["check", str(data)]) == 0
    assert main(["check", str(data), "--cache-dir", str(tmp_path / "cache")]) == 1
    assert f"{mask} changed although its size and times did not" in capsys.readouterr().out
    assert main(["check", str(data), "--cache-dir", str(tmp_path / "cache")]) == 0


@pytest.mark.parametrize("option", ["--input-size", "--center-crop"])
@pytest.mark.parametrize("value", ["0", "-3", "x", "1.5"])
def test_sizes_that_are_none(root: Path, option: str, value: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", str(root), option, value])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "{tmp}/absent"], "absent is not a folder"),
        (["check", "{root}", "--categories", ","], "--categories names none"),
        (["generate", "{root}", "--seed", "5"], "other parameters"),
        (["generate", "{tmp}/new", "--size", "3"], "size=3 is too small"),
    ],
)
def test_user_errors(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([argument.format(root=root, tmp=tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_runs_as_a_module_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom anomaly_sweep.cli.data import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    print({'torch', 'pandas', 'timm', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "generate" in done.stdout
    assert done.stdout.endswith("set()\n")
