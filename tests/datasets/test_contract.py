"""What every way of reading a data set keeps to. A new one is a line in ``READERS``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_sweep.config import DatasetConf, GenerateConf
from anomaly_sweep.datasets import (
    Category,
    FileIndex,
    ImageRecord,
    Problem,
    check_dataset,
    contents_digest,
    copied_files,
    count_images,
    file_index,
    list_categories,
    listing,
    manifest_digest,
    masks_digest,
    read_category,
    read_image,
    reader_named,
    reader_names,
)
from anomaly_sweep.datasets.masks import read_mask
from anomaly_sweep.datasets.records import GOOD
from anomaly_sweep.datasets.synthetic import PRODUCTS, generate
from anomaly_sweep.datasets.synthetic.render import render_defective
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.sweep.plan.planner import open_dataset
from tests.support.layouts import SIZE, WRITERS, Expected, Written, picture, write_folder_without_masks

SYNTHETIC = {"size": SIZE, "n_train": 2, "n_test_good": 1, "n_per_defect": 2}


def write_synthetic(root: Path) -> Written:
    """The drawn set; the truth from its renderer."""
    generate(root, **SYNTHETIC)
    written: Written = {}
    for place, product in enumerate(PRODUCTS):
        found = written[product.name] = {}
        for part, count in (("train", SYNTHETIC["n_train"]), ("test", SYNTHETIC["n_test_good"])):
            for number in range(count):
                found[f"{product.name}/{part}/{GOOD}/{number:03d}.png"] = Expected(part == "train", GOOD)
        for split, defect in enumerate(product.defects, 2):
            for number in range(SYNTHETIC["n_per_defect"]):
                marks = render_defective(product, defect, SIZE, (0, place, split, number)).mask
                found[f"{product.name}/test/{defect}/{number:03d}.png"] = Expected(False, defect, marks)
    return written


#: In what tells of the files: an image gets a new name, or one beside it (``keep``), or goes.
Rename = Callable[[Path, str, str, bool], None]


def nothing(root: Path, old: str, new: str, keep: bool) -> None:
    """The folder is the list."""


def in_lines(table: str) -> Rename:
    """In a table with a line an image."""

    def rename(root: Path, old: str, new: str, keep: bool) -> None:
        path = root / table
        lines = path.read_text().splitlines(keepends=True)
        others = [line for line in lines if old not in line]
        changed = [line.replace(old, new) for line in lines if old in line and new]
        path.write_text("".join([*(lines if keep else others), *changed]))

    return rename


def in_json(root: Path, old: str, new: str, keep: bool) -> None:
    """In Real-IAD's, whose paths begin below the category."""
    old, new = Path(old).name, Path(new).name
    for path in root.glob("realiad_jsons/realiad_jsons/*.json"):
        parts = json.loads(path.read_text())
        for split in ("train", "test"):
            named = [one for one in parts[split] if one["image_path"].endswith(old)]
            others = [one for one in parts[split] if one not in named]
            changed = [one | {"image_path": one["image_path"].replace(old, new)} for one in named if new]
            parts[split] = [*(parts[split] if keep else others), *changed]
        path.write_text(json.dumps(parts))


def with_mask(root: Path, old: str, new: str, keep: bool) -> None:
    """Its mask is called as it is."""
    mask = root / old.replace(".png", "_GT.png")
    if new:
        shutil.copyfile(mask, root / new.replace(".png", "_GT.png"))
    if not keep:
        mask.unlink()


@dataclass(frozen=True)
class Reader:
    """A way of reading, with a data set for it and its truth."""

    name: str
    write: Callable[[Path], Written]
    conf: dict[str, Any]  # of the dataset group, beside reader and root
    parts: tuple[str, ...]  # without which a category is refused; by its folder
    rename: Rename

    def categories(self, root: Path) -> list[str]:
        return list_categories(root, reader=self.name)

    def read(self, root: Path, *names: str) -> list[Category]:
        return [
            read_category(root, name, dataset="set", reader=self.name)
            for name in names or self.categories(root)
        ]


def line(
    name: str,
    write: Callable[[Path], Written] | None = None,
    *,
    reader: str = "",
    parts: tuple[str, ...] = ("{}/train", "{}/test"),
    rename: Rename = nothing,
    **conf: Any,
) -> Any:
    reader = reader or name
    return pytest.param(Reader(reader, write or WRITERS[reader], conf, parts, rename), id=name)


READERS = [
    line("mvtec_ad"),
    line("folder"),
    line("folder_without_masks", write_folder_without_masks, reader="folder"),
    line("synthetic", write_synthetic, reader="folder", generate=GenerateConf(**SYNTHETIC)),
    line("btad"),
    line("mpdd"),
    line("mvtec_loco"),
    line("mvtec_ad_2", parts=("{}/train", "{}/test_public")),
    line("mvtec_3d"),
    line("visa", parts=("{}/Data/Images/Normal", "{}/Data"), rename=in_lines("split_csv/1cls.csv")),
    line("csv", parts=("shots",), rename=in_lines("images.csv")),
    line("real_iad", parts=("realiad_1024/{}/OK", "realiad_1024/{}/NG"), rename=in_json),
    line("kolektor", parts=("train", "test"), rename=with_mask),
    line("dagm", parts=("{}/Train", "{}/Test")),
]


def test_every_reader_is_here() -> None:
    assert {param.values[0].name for param in READERS} == set(reader_names())


@dataclass(frozen=True)
class DataSet:
    """One on disk, that may be changed."""

    reader: Reader
    root: Path
    written: Written

    @property
    def first(self) -> str:
        return min(self.written)

    def check(self, *names: str) -> list[Problem]:
        """Of all, or some categories; of a few images, whose number is not the official one."""
        found = check_dataset(self.root, names or None, reader=self.reader.name, input_size=SIZE)
        title = reader_named(self.reader.name).title
        return [p for p in found if f"{title} has" not in p.message]

    @property
    def home(self) -> Path:
        """What the first category lies in."""
        folder = self.root / self.first
        return folder if folder.is_dir() else self.root

    def rename(self, path: Path, name: str, *, keep: bool = False) -> None:
        """Call an image otherwise, or add one of that name (no file yet), or leave it out (no name)."""
        new = path.with_name(name) if name else None
        if not keep:
            path.rename(new) if new else path.unlink()
        old = path.relative_to(self.root).as_posix()
        self.reader.rename(self.root, old, new.relative_to(self.root).as_posix() if new else "", keep)

    def read(self) -> Category:
        """The first category."""
        return self.reader.read(self.root, self.first)[0]


@pytest.fixture(scope="module", params=READERS)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    root = tmp_path_factory.mktemp("original") / "set"
    return DataSet(request.param, root, request.param.write(root))


@pytest.fixture
def data(original: DataSet, tmp_path: Path) -> DataSet:
    shutil.copytree(original.root, tmp_path / "set")
    return DataSet(original.reader, tmp_path / "set", original.written)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileIndex:
    """One that remembers files however young they are."""
    monkeypatch.setattr(file_index, "_SETTLED_NS", -(10**12))
    return FileIndex(tmp_path / "files.sqlite")


def names(categories: list[Category]) -> list[tuple[str, list[str], list[str], list[str]]]:
    """What is read, wherever it lies."""
    return [
        (
            category.name,
            [record.relative for record in category.train],
            [record.relative for record in category.test],
            [" ".join(mask.name for mask in record.masks) for record in category.test],
        )
        for category in categories
    ]


def digests(category: Category, index: FileIndex) -> tuple[str, str, str]:
    return tuple(of(category.images, index) for of in (manifest_digest, contents_digest, masks_digest))


def test_categories_are_those_written(original: DataSet) -> None:
    assert original.reader.categories(original.root) == sorted(original.written)


def test_images_labels_and_defect_types_are_those_written(original: DataSet) -> None:
    for category in original.reader.read(original.root):
        expected = original.written[category.name]
        for records, train in ((category.train, True), (category.test, False)):
            wanted = sorted(
                (name, one.defect, one.group) for name, one in expected.items() if one.train == train
            )
            assert [(record.relative, record.defect, record.group) for record in records] == wanted
        assert category.test_labels.dtype == np.int64
        assert category.test_labels.tolist() == [int(record.defect != GOOD) for record in category.test]
        counts = count_images(category)
        assert sum(counts) == len(expected)
        assert counts.test_defect == sum(one.defect != GOOD for one in expected.values())
        assert (category.dataset, category.root, category.remarks) == ("set", original.root, ())


def test_every_image_can_be_opened(original: DataSet) -> None:
    for record in original.read().images:
        assert record.path == original.root / record.relative
        assert read_image(record.path).mode == "RGB"


def test_masks_lie_over_their_images(original: DataSet) -> None:
    for category in original.reader.read(original.root):
        for record in category.images:
            marks = original.written[category.name][record.relative].marks
            if marks is None:
                assert record.masks == ()
                continue
            assert record.masks
            assert all(mask.is_absolute() for mask in record.masks)
            masks = [read_mask(mask) for mask in record.masks]
            assert {mask.size for mask in masks} == {read_image(record.path).size}
            np.testing.assert_array_equal(np.any([mask.marked for mask in masks], axis=0), marks)


def test_nothing_is_wrong_with_it(original: DataSet) -> None:
    lacking = {
        original.root / name
        for images in original.written.values()
        for name, one in images.items()
        if one.defect != GOOD and one.marks is None
    }
    problems = original.check()
    assert {problem.path for problem in problems} == lacking
    assert all("has no mask" in problem.message for problem in problems)


def test_no_test_image_was_trained_on(original: DataSet, index: FileIndex) -> None:
    for category in original.reader.read(original.root):
        assert copied_files(category, index) == []


def test_a_sweep_reads_the_same(original: DataSet) -> None:
    conf = DatasetConf(
        name="set", root=str(original.root), reader=original.reader.name, **original.reader.conf
    )
    read = original.reader.read(original.root)
    assert open_dataset(conf) == {category.name: category for category in read}


@contextmanager
def backwards(path: Path) -> Iterator[list[os.DirEntry[str]]]:
    with _scandir(path) as entries:
        yield sorted(entries, key=lambda entry: entry.name, reverse=True)


_scandir = os.scandir


def test_order_on_disk_changes_nothing(
    original: DataSet, index: FileIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = original.reader.read(original.root)
    monkeypatch.setattr(listing.os, "scandir", backwards)
    assert original.reader.read(original.root) == expected
    first = expected[0]
    turned = Category(first.dataset, first.name, first.root, first.train[::-1], first.test[::-1])
    assert digests(turned, index) == digests(first, index)


def test_a_relative_root_gives_absolute_paths(original: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original.root.parent)
    assert original.reader.read(Path("set")) == original.reader.read(original.root)


def test_a_copy_is_the_same_data(data: DataSet, original: DataSet, index: FileIndex) -> None:
    here, there = (one.reader.read(one.root) for one in (data, original))
    assert names(here) == names(there)
    assert [digests(category, index) for category in here] == [digests(category, index) for category in there]


def link_root(data: DataSet) -> None:
    data.root.rename(data.root.with_name("real"))
    data.root.symlink_to("real")


def link_category(data: DataSet) -> None:
    data.home.rename(data.root.parent / "elsewhere")
    (data.root / data.first if data.root.exists() else data.root).symlink_to(data.root.parent / "elsewhere")


def link_parts(data: DataSet) -> None:
    for part in sorted(data.home.iterdir()):
        part.rename(data.root.parent / part.name)
        part.symlink_to(data.root.parent / part.name)


def link_files(data: DataSet) -> None:
    for number, path in enumerate(sorted(data.home.rglob("*.*"))):
        path.rename(data.root.parent / f"{number} of the store")
        path.symlink_to(Path(os.path.relpath(data.root.parent, path.parent), f"{number} of the store"))


def link_hard(data: DataSet) -> None:
    for number, path in enumerate(sorted(data.home.rglob("*.*"))):
        path.rename(data.root.parent / f"{number} of the store")
        path.hardlink_to(data.root.parent / f"{number} of the store")


@pytest.mark.parametrize("link", [link_root, link_category, link_parts, link_files, link_hard])
def test_links_are_what_they_lead_to(
    data: DataSet, original: DataSet, index: FileIndex, link: Callable[[DataSet], None]
) -> None:
    link(data)
    category, expected = data.read(), original.read()
    assert names([category]) == names([expected])
    assert digests(category, index) == digests(expected, index)


def places(category: Category) -> dict[str, ImageRecord]:
    """One image of each kind."""
    return {
        "training image": category.train[-1],
        "good test image": next(record for record in category.test if not record.label),
        "defective image": next(record for record in category.test if record.label),
    }


KINDS = ["training image", "good test image", "defective image"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut off"])
def test_a_broken_image_is_refused_by_name(data: DataSet, kind: str, content: bytes | None) -> None:
    """A listing opens no file; who opens it, and the check, names it."""
    before = data.read()
    path = places(before)[kind].path
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    assert data.read() == before
    with pytest.raises(DatasetError, match=rf"cannot decode .*{path.name}"):
        read_image(path)
    told = [p for p in data.check(data.first) if p.path == path]
    assert any("cannot decode" in problem.message and problem.serious for problem in told)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_that_leads_nowhere_is_refused_by_name(data: DataSet, kind: str) -> None:
    path = places(data.read())[kind].path
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DatasetError) as raised:
        data.read()
    assert f"{path} is a link that leads nowhere" in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_goes_away_while_it_is_read_is_named(
    data: DataSet, index: FileIndex, kind: str
) -> None:
    category = data.read()
    path = places(category)[kind].path
    path.unlink()
    with pytest.raises(DatasetError, match=rf"cannot read .*{path.name}"):
        digests(category, index)


def test_a_broken_mask_is_refused_by_name(data: DataSet) -> None:
    masks = [mask for record in data.read().test for mask in record.masks]
    if not masks:
        pytest.skip("it has no masks")
    masks[0].write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"cannot decode .*{masks[0].name}"):
        read_mask(masks[0])
    assert {problem.path for problem in data.check(data.first)} >= {masks[0]}


def test_a_category_that_lacks_a_part_is_refused_by_name(original: DataSet, tmp_path: Path) -> None:
    for number, part in enumerate(original.reader.parts):
        data = DataSet(original.reader, tmp_path / str(number), original.written)
        shutil.copytree(original.root, data.root)
        shutil.rmtree(data.root / part.format(data.first))
        with pytest.raises(DatasetError, match=str(data.root / part.format(data.first))):
            data.read()
        assert data.first in data.reader.categories(data.root)  # not left out unseen


def test_a_category_that_is_not_there_names_those_that_are(data: DataSet) -> None:
    with pytest.raises(DatasetError, match=rf"no category 'absent' under .*there are .*{data.first}"):
        data.reader.read(data.root, "absent")


def overwrite(path: Path) -> None:
    """Another content of the same size and time of modification."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock's tick may be 10 ms
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_image_is_seen(data: DataSet, index: FileIndex, kind: str) -> None:
    manifest, contents, masks = digests(data.read(), index)
    assert digests(data.read(), FileIndex(index.path)) == (manifest, contents, masks)
    overwrite(places(data.read())[kind].path)
    after = digests(data.read(), FileIndex(index.path))
    assert after[0] != manifest
    assert after[1] != contents
    assert after[2] == masks


def test_a_changed_mask_is_seen_where_masks_count(data: DataSet, index: FileIndex) -> None:
    category = data.read()
    before = digests(category, index)
    masks = [mask for record in category.test for mask in record.masks]
    if not masks:
        pytest.skip("it has no masks")
    overwrite(masks[0])
    after = digests(data.read(), FileIndex(index.path))
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_a_new_name_is_other_data_with_the_same_contents(data: DataSet, index: FileIndex) -> None:
    before = digests(data.read(), index)
    last = data.read().train[-1].path
    data.rename(last, f"zz{last.suffix}")  # the last one still
    after = digests(data.read(), index)
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_an_image_more_or_less_is_other_data(data: DataSet, index: FileIndex) -> None:
    found = {digests(data.read(), index)[:2]}
    last = data.read().train[-1].path
    data.rename(last, f"zz{last.suffix}", keep=True)
    picture(last.with_name(f"zz{last.suffix}"))
    assert len(data.read().train) == sum(one.train for one in data.written[data.first].values()) + 1
    found.add(digests(data.read(), index)[:2])
    data.rename(last, "")
    found.add(digests(data.read(), index)[:2])
    assert len(found) == 3
