"""Content identity: what changes it, what does not, and how often a file is read."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from anomaly_sweep.datasets import FileIndex, ImageRecord, manifest_digest
from anomaly_sweep.datasets import file_index as manifest
from anomaly_sweep.errors import DatasetError


def record(root: Path, name: str, content: bytes, *, age: float = 100.0) -> ImageRecord:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))
    return ImageRecord(path, name, "good")


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    return [record(tmp_path / "data", f"{i}.png", b"picture %d" % i) for i in range(5)]


@pytest.fixture
def index(tmp_path: Path) -> FileIndex:
    return FileIndex(tmp_path / "cache" / "index.sqlite")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content is read."""
    seen: list[Path] = []
    real = manifest.hash_file

    def spy(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(manifest, "hash_file", spy)
    return seen


def test_order_does_not_matter(records: list[ImageRecord], index: FileIndex) -> None:
    assert manifest_digest(records, index) == manifest_digest(records[::-1], index)


def test_place_of_the_data_set_does_not_matter(
    tmp_path: Path, records: list[ImageRecord], index: FileIndex
) -> None:
    moved = [record(tmp_path / "elsewhere", r.relative, r.path.read_bytes()) for r in records]
    assert manifest_digest(moved, index) == manifest_digest(records, index)


def test_content_name_and_number_matter(tmp_path: Path, records: list[ImageRecord], index: FileIndex) -> None:
    digests = {manifest_digest(records, index), manifest_digest(records[:-1], index)}
    renamed = [*records[:-1], record(tmp_path / "data", "x.png", b"picture 4")]
    digests.add(manifest_digest(renamed, index))
    changed = [*records[:-1], record(tmp_path / "data", "4.png", b"picture X")]  # same size
    os.utime(changed[-1].path, (1.0, 1.0))
    digests.add(manifest_digest(changed, index))
    assert len(digests) == 4


def test_names_and_contents_do_not_run_together(tmp_path: Path, index: FileIndex) -> None:
    a, b = record(tmp_path, "a", b"1"), record(tmp_path, "b", b"2")
    swapped = [ImageRecord(b.path, "a", "good"), ImageRecord(a.path, "b", "good")]
    assert manifest_digest([a, b], index) != manifest_digest(swapped, index)


def test_masks_do_not_matter(tmp_path: Path, records: list[ImageRecord], index: FileIndex) -> None:
    masked = [ImageRecord(r.path, r.relative, r.defect, tmp_path / "absent.png") for r in records]
    assert manifest_digest(masked, index) == manifest_digest(records, index)


def test_unchanged_files_are_read_once(
    records: list[ImageRecord], index: FileIndex, reads: list[Path]
) -> None:
    first = manifest_digest(records, index)
    assert sorted(reads) == [r.path for r in records]
    reads.clear()
    assert manifest_digest(records, FileIndex(index.path)) == first
    assert reads == []
    os.utime(records[2].path, (5.0, 5.0))
    assert manifest_digest(records, index) == first
    assert reads == [records[2].path]


def test_young_files_are_not_remembered(tmp_path: Path, index: FileIndex, reads: list[Path]) -> None:
    """A second write within one tick of the clock must not go unseen."""
    young = record(tmp_path, "young.png", b"one", age=0.0)
    before = manifest_digest([young], index)
    stamp = young.path.stat()
    young.path.write_bytes(b"two")
    os.utime(young.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert manifest_digest([young], index) != before
    assert len(reads) == 2


def test_more_files_than_sql_parameters(tmp_path: Path, index: FileIndex) -> None:
    path = record(tmp_path, "a.png", b"1").path
    assert len(index.lookup([path] * 40_000)) == 40_000


def test_names_that_are_not_unicode(tmp_path: Path, index: FileIndex, reads: list[Path]) -> None:
    name = os.fsdecode(b"bad\xff.png")
    try:
        odd = record(tmp_path, name, b"1")
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    assert manifest_digest([odd], index) == manifest_digest([odd], index)
    assert len(reads) == 1


def test_missing_file_is_named(records: list[ImageRecord], index: FileIndex) -> None:
    records[3].path.unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*3\.png"):
        manifest_digest(records, index)


def test_unreadable_file_is_named(tmp_path: Path, records: list[ImageRecord], index: FileIndex) -> None:
    folder = tmp_path / "data" / "folder.png"
    folder.mkdir()
    with pytest.raises(DatasetError, match=r"cannot read .*folder\.png"):
        manifest_digest([*records, ImageRecord(folder, "folder.png", "good")], index)


@pytest.mark.parametrize("whole", [True, False])
def test_damaged_index_is_rebuilt(
    records: list[ImageRecord], index: FileIndex, reads: list[Path], whole: bool
) -> None:
    first = manifest_digest(records, index)
    content = bytearray(index.path.read_bytes())
    if whole:
        content[:] = b"not a database at all" * 40
    else:  # the header survives, the pages do not
        content[100:] = os.urandom(len(content) - 100)
    index.path.write_bytes(content)
    reads.clear()
    assert manifest_digest(records, index) == first
    assert len(reads) == 5
    reads.clear()
    assert manifest_digest(records, index) == first
    assert reads == []


def test_unusable_index_is_named(tmp_path: Path, records: list[ImageRecord]) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"file index .*file/index\.sqlite"):
        manifest_digest(records, FileIndex(tmp_path / "file" / "index.sqlite"))


def _digest(arguments: tuple[list[ImageRecord], Path]) -> str:
    return manifest_digest(arguments[0], FileIndex(arguments[1]))


def test_several_processes_at_once(records: list[ImageRecord], index: FileIndex) -> None:
    index.path.parent.mkdir()
    index.path.write_bytes(b"damaged " * 100)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        digests = pool.map(_digest, [(records, index.path)] * 12)
    assert set(digests) == {manifest_digest(records, FileIndex(index.path.with_name("other.sqlite")))}
    with sqlite3.connect(index.path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
