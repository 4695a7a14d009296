"""The ``anomaly-sweep-cache`` command: output and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_sweep.cli.cache import main
from anomaly_sweep.features.cache.store import FeatureCache
from tests.support.paths import ROOT

ABOUT: dict[str, Any] = {
    "dataset": "mvtec_ad",
    "category": "bottle",
    "split": "train",
    "backbone": "resnet18",
    "level": "level3",
    "weights": "file:0123456789abcdef",
    "input_size": 224,
}
DRAWN = {"kind": "noise", "passes": 4, "seed": 7}


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """Three entries, used 0, 10 and 20 days ago; the second is the largest."""
    made = FeatureCache(tmp_path / "cache")
    others = (
        ABOUT | {"augmentation": DRAWN},
        ABOUT | {"category": "screw", "split": "test", "weights": "random:seed3 torch==1 timm==2"},
        ABOUT | {"category": "cable", "weights": "pretrained:resnet18.tv_in1k"},
    )
    for days, (description, rows) in enumerate(zip(others, (10, 3000, 20), strict=True)):
        made.put(description, {"avg": np.zeros((rows, 100), np.float32)})
        used = time.time() - 864000 * days - 60
        os.utime(made.path_of(description), (used, used))
    return made


def run(cache: FeatureCache, *arguments: str) -> int | None:
    return main([*arguments, "--cache-dir", str(cache.folder.parent)])


def categories(cache: FeatureCache) -> list[str]:
    return [entry.description["category"] for entry in cache.entries()]


def size_of(cache: FeatureCache, *names: str) -> int:
    return sum(entry.bytes for entry in cache.entries() if entry.description["category"] in names)


def test_list(cache: FeatureCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cache, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    head = lines[0]
    for column in (
        "dataset", "category", "split", "backbone", "level", "weights", "input size", "augmentation", "size",
        "last used",
    ):  # fmt: skip
        assert column in head

    def cell(line: str, column: str) -> str:
        return line[head.index(column) :].split("  ")[0].strip()

    assert [cell(line, "category") for line in lines[1:4]] == ["bottle", "screw", "cable"]
    weights = [cell(line, "weights") for line in lines[1:4]]
    assert weights == ["file:01234567", "random:seed3", "pretrained:resnet18.tv_in1k"]
    assert [cell(line, "augmentation") for line in lines[1:4]] == ["noise x4 seed 7", "none", "none"]
    assert cell(lines[1], "input size") == "224"
    assert cell(lines[2], "last used") == time.strftime(
        "%Y-%m-%d %H:%M", time.localtime(time.time() - 864060)
    )
    assert "1.2 MB" in lines[2]
    assert lines[4] == "3 entries, 1.2 MB"


def test_list_shows_what_it_cannot_read(cache: FeatureCache, capsys: pytest.CaptureFixture[str]) -> None:
    next(cache.entries()).path.write_bytes(b"junk")
    assert run(cache, "list") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[:8] == ["?"] * 8
    assert "3 entries" in out


def test_an_empty_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = FeatureCache(tmp_path)
    assert run(cache, "list") == 0
    assert run(cache, "verify") == 0
    assert run(cache, "prune", "--all") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["0 entries, 0 B", "0 entries checked, 0 damaged", "freed: 0 entries, 0 B"]


def test_verify(cache: FeatureCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cache, "verify") == 0
    assert capsys.readouterr().out == "3 entries checked, 0 damaged\n"
    first, second, _ = cache.entries()
    first.path.write_bytes(first.path.read_bytes()[:-5])
    second.path.write_bytes(b"junk")
    assert run(cache, "verify") == 1
    out = capsys.readouterr().out
    assert str(first.path) in out
    assert str(second.path) in out
    assert out.splitlines()[-1] == "3 entries checked, 2 damaged"
    assert first.path.exists()
    assert run(cache, "verify", "--delete") == 1
    assert "2 damaged and removed" in capsys.readouterr().out
    assert not first.path.exists()
    assert categories(cache) == ["cable"]
    assert run(cache, "verify", "--delete") == 0


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--older-than", "15"], ["bottle", "screw"]),
        (["--older-than", "0.5"], ["bottle"]),
        (["--older-than", "40"], ["bottle", "screw", "cable"]),
        (["--max-size", "1MB"], ["bottle"]),
        (["--max-size", "5GB"], ["bottle", "screw", "cable"]),
        (["--max-size", "0"], []),
        (["--older-than", "15", "--max-size", "1 mb"], ["bottle"]),
        (["--all"], []),
    ],
)
def test_prune(
    cache: FeatureCache, capsys: pytest.CaptureFixture[str], arguments: list[str], left: list[str]
) -> None:
    before = size_of(cache, "bottle", "screw", "cable")
    assert run(cache, "prune", *arguments, "--dry-run") == 0
    would = capsys.readouterr().out
    assert len(categories(cache)) == 3
    assert run(cache, "prune", *arguments) == 0
    freed = capsys.readouterr().out
    assert categories(cache) == left
    assert would == freed.replace("freed", "would free")
    count = 3 - len(left)
    assert freed.startswith(f"freed: {count} {'entry' if count == 1 else 'entries'}, ")
    if not left:
        assert freed.strip().endswith(f"{before / 1e6:.1f} MB")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "prune needs --older-than, --max-size or both"),
        (["--dry-run"], "prune needs"),
        (["--all", "--max-size", "5GB"], "prune needs"),
        (["--max-size", "much"], "much: give a size such as 5GB"),
        (["--older-than", "-3"], "-3: give a number of days"),
        (["--older-than", "nan"], "nan: give a number of days"),
        (["--older-than", "soon"], "soon"),
    ],
)
def test_prune_arguments(
    cache: FeatureCache, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        run(cache, "prune", *arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert len(categories(cache)) == 3


@pytest.mark.parametrize("command", [["list"], ["verify"], ["prune", "--all"]])
def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    missing = tmp_path / "absent"
    assert main([*command, "--cache-dir", str(missing)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {missing}: no feature cache is there")
    assert not missing.exists()


def test_other_files_of_the_cache_folder_stay(cache: FeatureCache) -> None:
    results = cache.folder.parent / "results.sqlite"
    results.write_bytes(b"x")
    run(cache, "prune", "--all")
    assert results.exists()


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--cache-dir", "."]])
def test_starts_fast(cache: FeatureCache, arguments: list[str]) -> None:
    code = (
        "import sys; from anomaly_sweep.cli.cache import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([m for m in ('torch', 'timm', 'mlflow', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cache.folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
