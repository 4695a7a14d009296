"""Data sets that were downloaded as one file."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from anomaly_sweep.cli.data import main
from anomaly_sweep.config import DatasetConf
from anomaly_sweep.datasets import list_categories, read_category
from anomaly_sweep.datasets.archive import unpacked
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.sweep.plan.planner import open_dataset
from tests.support.layouts import write_mpdd, write_visa

FORMATS = {".tar.xz": "xztar", ".tar.gz": "gztar", ".tar": "tar", ".zip": "zip", ".tar.bz2": "bztar"}


def pack(source: Path, target: Path, suffix: str, *, inside: str = "") -> Path:
    """An archive of a folder: of what it holds, or of itself under a name."""
    if inside:
        source = source.rename(source.with_name(inside))
    base_dir = inside or "."
    root = source.parent if inside else source
    return Path(shutil.make_archive(str(target), FORMATS[suffix], root, base_dir))


@pytest.mark.parametrize("inside", ["", "MPDD of 2021"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_archive_is_unpacked_once_and_read(tmp_path: Path, suffix: str, inside: str) -> None:
    written = write_mpdd(tmp_path / "set")
    archive = pack(tmp_path / "set", tmp_path / "mpdd", suffix, inside=inside)
    before = archive.read_bytes()
    root = unpacked(archive)
    assert root == tmp_path / "mpdd" / inside
    for name, images in written.items():
        category = read_category(root, name, dataset="mpdd", reader="mpdd")
        assert {record.relative for record in category.images} == set(images)
        assert category.remarks == ()
    changed = root.stat().st_mtime_ns
    assert unpacked(archive) == root
    assert root.stat().st_mtime_ns == changed
    assert archive.read_bytes() == before
    assert list_categories(root, reader="mpdd") == sorted(written)


def test_a_folder_is_its_own_root(tmp_path: Path) -> None:
    assert unpacked(tmp_path) == tmp_path
    assert unpacked(tmp_path / "absent.zip") == tmp_path / "absent.zip"


def test_a_sweep_and_the_check_read_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_visa(tmp_path / "set")
    archive = pack(tmp_path / "set", tmp_path / "VisA", ".tar")
    found = open_dataset(DatasetConf(name="visa", root=str(archive), reader="visa"))
    assert sorted(found) == ["candle", "pcb1"]
    assert main(["check", str(archive), "--reader", "visa"]) == 1  # few images
    assert "VisA has 900" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".tar.xz", ".tar.gz", ".tar", ".zip", ".tar.bz2"])
def test_an_archive_that_is_cut_off_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    write_mpdd(tmp_path / "set")
    archive = pack(tmp_path / "set", tmp_path / "mpdd", suffix)
    shutil.rmtree(tmp_path / "set")
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=rf"mpdd{suffix} cannot be unpacked .*download it again"):
        unpacked(archive)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("content", [b"", b"no archive"])
@pytest.mark.parametrize("suffix", [".tar.xz", ".tgz", ".zip", ".tar"])
def test_what_is_no_archive_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"set{suffix}").write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        unpacked(tmp_path / f"set{suffix}")


@pytest.mark.parametrize("name", ["set.rar", "set.7z", "set.tar.zst"])
def test_other_archives_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"{name}: archives of this kind are not unpacked here"):
        unpacked(tmp_path / name)


def test_a_path_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in" / "set.tar"
    with tarfile.open(archive, "w") as file:
        entry = tarfile.TarInfo("../../outside.png")
        entry.size = 3
        file.addfile(entry, io.BytesIO(b"abc"))
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        unpacked(archive)
    with zipfile.ZipFile(tmp_path / "in" / "set.zip", "w") as zipped:
        zipped.writestr("../../outside.png", b"abc")
    unpacked(tmp_path / "in" / "set.zip")
    assert not (tmp_path / "outside.png").exists()
    assert not (tmp_path.parent / "outside.png").exists()


def test_a_folder_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    write_mpdd(tmp_path / "set")
    archive = pack(tmp_path / "set", tmp_path / "mpdd", ".zip")
    (tmp_path / "mpdd").mkdir()
    with pytest.raises(DatasetError, match="is there already: if that is its content, give it"):
        unpacked(archive)


def test_another_archive_of_that_name_is_told(tmp_path: Path) -> None:
    write_mpdd(tmp_path / "set")
    archive = pack(tmp_path / "set", tmp_path / "mpdd", ".zip")
    unpacked(archive)
    os.utime(archive, ns=(1, 1))
    with pytest.raises(DatasetError, match="was unpacked from another"):
        unpacked(archive)


def in_part(tmp_path: Path) -> Path:
    """A category that is there, and one that is in its archive still."""
    root = tmp_path / "set"
    write_mpdd(root)
    pack(root / "tubes", root / "tubes", ".zip")
    shutil.rmtree(root / "tubes")
    return root


def test_what_is_in_an_archive_still_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = in_part(tmp_path)
    assert main(["check", str(root), "--reader", "mpdd"]) == 1
    told = capsys.readouterr().out
    assert f"{root / 'tubes'} is missing: MPDD has this category" in told
    assert f"{root / 'tubes.zip'} is not read: if it is of this data set, unpack it" in told
    assert sorted(open_dataset(DatasetConf(name="mpdd", root=str(root), reader="mpdd"))) == ["connector"]
    assert "MPDD has 128" in caplog.text
    assert "tubes.zip is not read" in caplog.text


def test_a_folder_of_archives_is_told(tmp_path: Path) -> None:
    root = in_part(tmp_path)
    shutil.rmtree(root / "connector")
    with pytest.raises(DatasetError, match=r"tubes\.zip is there, not unpacked: give it as dataset\.root"):
        open_dataset(DatasetConf(name="mpdd", root=str(root), reader="mpdd"))
