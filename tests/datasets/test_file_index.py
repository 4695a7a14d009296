"""Content identity: what changes it, what does not, and how often a file is read."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly_sweep.datasets import FileIndex, ImageRecord, Snapshot, manifest_digest
from anomaly_sweep.datasets import file_index as manifest
from anomaly_sweep.errors import DatasetError

SETTLED_NS = manifest._SETTLED_NS
STAMP = 1_600_000_000


@pytest.fixture(autouse=True)
def no_file_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's files have just been made, and nothing can set the time of a change."""
    monkeypatch.setattr(manifest, "_SETTLED_NS", -(10**12))


def record(root: Path, name: str, content: bytes) -> ImageRecord:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (STAMP, STAMP))
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
    masked = [ImageRecord(r.path, r.relative, r.defect, (tmp_path / "absent.png",)) for r in records]
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


@pytest.mark.parametrize("young", ["mtime_ns", "ctime_ns"])
def test_young_files_are_not_remembered(
    tmp_path: Path, index: FileIndex, reads: list[Path], monkeypatch: pytest.MonkeyPatch, young: str
) -> None:
    """A second write within one tick of the clock must not go unseen."""
    monkeypatch.setattr(manifest, "_SETTLED_NS", SETTLED_NS)
    stat = manifest._Stat(3, 1, 1, "1")._replace(**{young: time.time_ns()})
    monkeypatch.setattr(manifest, "_stat", lambda _path: stat)
    one = record(tmp_path, "young.png", b"one")
    before = manifest_digest([one], index)
    one.path.write_bytes(b"two")
    assert manifest_digest([one], index) != before
    assert len(reads) == 2


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file and put its time of modification back, as ``cp -p`` and archives do."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock's tick may be 10 ms
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def swap(path: Path) -> None:
    other, spare = path.with_name("1.png"), path.with_name("spare")
    path.rename(spare)
    other.rename(path)
    spare.rename(other)


def copy_over(path: Path) -> None:
    source = path.with_name("source.png")
    source.write_bytes(b"picture X")
    os.utime(source, (STAMP, STAMP))
    shutil.copy2(source, path)


def replace_by_copy(path: Path) -> None:
    copy_over(path.with_name("new.png"))
    path.with_name("new.png").replace(path)


def replace_folder(path: Path) -> None:
    """``mv data old; cp -rp other data``."""
    other = path.parent.with_name("other")
    shutil.copytree(path.parent, other)
    keep_times(other / path.name, lambda p: p.write_bytes(b"picture X"))
    path.parent.rename(path.parent.with_name("old"))
    other.rename(path.parent)


def relink(path: Path) -> None:
    """A symbolic link, as data version control and content stores leave, that points elsewhere now."""
    copy_over(path.with_name("pointed.png"))
    path.unlink()
    path.symlink_to(path.with_name("pointed.png"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda path: path.write_bytes(b"picture X"),
    "grow and shrink": lambda path: (path.write_bytes(b"longer than it was"), path.write_bytes(b"picture X")),
    "swap": swap,
    "swap with exchange of hard links": lambda path: (
        path.unlink(),
        path.hardlink_to(path.with_name("1.png")),
    ),
    "cp -p over it": copy_over,
    "rename a cp -p over it": replace_by_copy,
    "replace the folder": replace_folder,
    "link elsewhere": relink,
    "write through a hard link": lambda path: (
        path.with_name("twin").hardlink_to(path),
        path.with_name("twin").write_bytes(b"picture X"),
    ),
    "write by memory map": lambda path: write_by_map(path),
    "delete and make again": lambda path: (path.unlink(), path.write_bytes(b"picture X")),
}


def write_by_map(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:] = b"picture X"


@pytest.mark.parametrize("how", CHANGES)
def test_changes_of_equal_size_and_time_are_seen(
    records: list[ImageRecord], index: FileIndex, reads: list[Path], how: str
) -> None:
    before = manifest_digest(records, index)
    reads.clear()
    keep_times(records[0].path, CHANGES[how])
    status = records[0].path.stat()
    assert (status.st_size, status.st_mtime) == (len(b"picture 0"), STAMP)
    assert manifest_digest(records, FileIndex(index.path)) != before
    assert records[0].path in reads


def test_reread_trusts_only_itself(
    records: list[ImageRecord], index: FileIndex, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that tells no change at all: what is asked for anew is read anew, once."""
    monkeypatch.setattr(manifest, "_stat", lambda path: manifest._Stat(9, 1, 1, "1"))
    before = manifest_digest(records, index)
    records[0].path.write_bytes(b"picture X")
    assert manifest_digest(records, FileIndex(index.path)) == before
    reads.clear()
    fresh = FileIndex(index.path, reread=True)
    after = manifest_digest(records, fresh)
    assert after != before
    assert manifest_digest(records, fresh) == after
    assert sorted(reads) == [r.path for r in records]
    assert manifest_digest(records, FileIndex(index.path)) == after  # remembered for the next one


def test_a_snapshot_keeps_what_it_saw(records: list[ImageRecord], index: FileIndex) -> None:
    before = manifest_digest(records, index)
    snapshot = Snapshot(index)
    assert manifest_digest(records[:3], snapshot) == manifest_digest(records[:3], index)
    record(records[0].path.parent, "0.png", b"another")
    record(records[4].path.parent, "4.png", b"another")
    after = manifest_digest(records, index)
    seen = manifest_digest(
        records, snapshot
    )  # the first as it was, the last as it is: it had not been asked for
    assert len({before, after, seen}) == 3
    assert manifest_digest(records, snapshot) == seen
    paths = [record.path for record in reversed([*records, *records])]
    assert snapshot.lookup(paths)[:4] == index.lookup(paths)[:4]


def test_verify_finds_what_no_listing_tells(
    records: list[ImageRecord], index: FileIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [r.path for r in records]
    assert index.verify(paths) == []
    manifest_digest(records, index)
    with monkeypatch.context() as blind:
        blind.setattr(manifest, "_stat", lambda path: manifest._Stat(9, 1, 1, "1"))
        before = manifest_digest(records, index)
        records[3].path.write_bytes(b"picture X")
        assert index.verify(paths) == [records[3].path]
        assert index.verify(paths) == []  # set right
        assert manifest_digest(records, index) != before
    assert index.verify(paths) == []  # a change that a listing tells is no surprise


def test_unstable_inodes_cost_a_reading_only(
    records: list[ImageRecord], index: FileIndex, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems number inodes at each mount, and beyond 64 bits."""
    before = manifest_digest(records, index)
    real = manifest._stat
    monkeypatch.setattr(manifest, "_stat", lambda path: real(path)._replace(inode=str(2**100)))
    reads.clear()
    assert manifest_digest(records, index) == before
    assert len(reads) == 5
    assert manifest_digest(records, index) == before
    assert len(reads) == 5


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
