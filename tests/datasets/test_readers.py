"""What single layouts have of their own: official counts, bad tables, odd places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_sweep import compose, long_table, run_configurations
from anomaly_sweep.datasets import (
    Category,
    ImageRecord,
    check_dataset,
    list_categories,
    read_category,
    reader_named,
    reader_names,
)
from anomaly_sweep.datasets.records import Saturation
from anomaly_sweep.errors import ConfigError, DatasetError
from anomaly_sweep.sweep.plan.planner import open_dataset
from tests.support.layouts import SHAPE, WRITERS, picture, save_mask

#: Training images that are good, good and anomalous test images; as each data set's authors publish them.
TOTALS = {
    "mvtec_ad": (3629, 467, 1258),
    "btad": (1799, 451, 290),
    "mpdd": (888, 176, 282),
    "mvtec_loco": (1772, 575, 993),
    "mvtec_3d": (2656, 249, 948),
    "visa": (8659, 962, 1200),
    "kolektor": (2085, 894, 110),
    "dagm": (7004, 6996, 1054),
}


@pytest.mark.parametrize("name", reader_names())
def test_official_counts_add_up_to_the_official_totals(name: str) -> None:
    counts = reader_named(name).counts
    assert (tuple(np.sum(list(counts.values()), axis=0)) if counts else None) == TOTALS.get(name)


@pytest.mark.parametrize("name", sorted(TOTALS.keys() - {"mvtec_ad"}))
def test_what_is_there_in_part_is_told(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = WRITERS[name](tmp_path)
    reader = reader_named(name)
    messages = [problem.message for problem in check_dataset(tmp_path, reader=name, input_size=32)]
    for category in reader.counts.keys() - written.keys():
        assert f"{tmp_path / category} is missing: {reader.title} has this category" in messages
    first = min(written)
    assert any(
        f"holds 3 good training images, {reader.title} has {reader.counts[first].train_good}" in message
        for message in messages
    )
    conf = compose(f"dataset={name}", f"dataset.root={tmp_path}").configurations[0].dataset
    assert sorted(open_dataset(conf)) == sorted(written)
    assert f"differences from {reader.title}: " in caplog.text


def write(name: str) -> Callable[[Path], Category]:
    def read(root: Path) -> Category:
        return read_category(root, min(WRITERS[name](root)), dataset=name, reader=name)

    return read


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CSV = "path,label,split\na.png,good,train\nb.png,good,train\nc.png,good,test\nd.png,hole,test\n"


def csv_set(root: Path, table: str, **options: Any) -> Category:
    for name in "abcd":
        picture(root / f"{name}.png")
    (root / "images.csv").write_text(table, encoding="utf-8")
    reader = reader_named("csv", options)
    (category,) = reader.categories(root)
    return reader.read(root, category, dataset="mine")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.upper().replace(".PNG", ".png").replace("HOLE", "hole").replace("A.p", "a.p")
        .replace("B.p", "b.p").replace("C.p", "c.p").replace("D.p", "d.p"),
        lambda text: text.replace("good", "0"),
        lambda text: text.replace("good", "OK"),
    ],
    ids=["plain", "mark", "semicolon", "tab", "blanks", "windows", "upper case", "0", "OK"],
)  # fmt: skip
def test_tables_of_every_spelling(tmp_path: Path, change: Callable[[str], str]) -> None:
    category = csv_set(tmp_path, change(CSV))
    assert category.name == tmp_path.name
    assert [record.relative for record in category.train] == ["a.png", "b.png"]
    assert [(record.relative, record.defect) for record in category.test] == [
        ("c.png", "good"),
        ("d.png", "hole"),
    ]


def test_paths_of_a_table_may_be_absolute(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / "elsewhere" / f"{name}.png")
    table = CSV.replace("a.png", str(tmp_path / "elsewhere" / "a.png"))
    (tmp_path / "set").mkdir()
    category = csv_set(tmp_path / "set", table)
    assert (tmp_path / "elsewhere" / "a.png") in {record.path for record in category.train}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("path,label,split", "file,label,split", r"images\.csv lacks the column\(s\) path: it has file"),
        ("path,label,split", "path,label", r"lacks the column\(s\) split"),
        ("a.png,good,train", "a.png,good,train,more", "row 2 has more values than there are columns"),
        ("a.png,good", ",good", "has a row without a path"),
        ("a.png,good", "a.png,", "has a row without a label"),
        ("a.png,good", "z.png,good", r"z\.png is missing: .*images\.csv names it"),
        ("a.png,good", "b.png,good", r"b\.png is named twice in .*images\.csv"),
        ("c.png,good", "b.png,good", r"b\.png is named both for training and for the test"),
        ("a.png,good", "a.png,hole", r"a\.png is anomalous \(hole\) and named for training"),
        (
            "b.png,good,train",
            "b.png,good,validation",
            r"has 1 training image\(s\): training needs at least 2",
        ),
        ("d.png,hole", "d.png,ok", "has no anomalous image; AUROC needs both kinds"),
        ("c.png,good", "c.png,dent", "has no good image; AUROC needs both kinds"),
        (CSV, "", r"lacks the column\(s\) path, label, split: it has none"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        csv_set(tmp_path, CSV.replace(old, new))


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the table .*images\.csv: No such file"):
        list_categories(tmp_path, reader="csv")
    (tmp_path / "images.csv").write_bytes(b"path,label,split\n\xff\xfe")
    with pytest.raises(DatasetError, match=r"cannot read the table .*it is to be UTF-8 text"):
        list_categories(tmp_path, reader="csv")


def test_a_mask_that_is_not_there_is_told(tmp_path: Path) -> None:
    root = tmp_path
    WRITERS["csv"](root)
    (root / "marks" / "gear00.png").unlink()
    category = read_category(root, "gear", dataset="mine", reader="csv")
    (remark,) = category.remarks
    assert remark.path == root / "marks" / "gear00.png"
    assert sum(not record.masks for record in category.test if record.label) == 1


def test_visa_without_annotations_has_one_defect_type(tmp_path: Path) -> None:
    WRITERS["visa"](tmp_path)
    (tmp_path / "candle" / "image_anno.csv").unlink()
    category = read_category(tmp_path, "candle", dataset="visa", reader="visa")
    assert {record.defect for record in category.test} == {"good", "anomaly"}


def test_visa_has_no_other_splits(tmp_path: Path) -> None:
    WRITERS["visa"](tmp_path)
    edit(tmp_path / "split_csv" / "1cls.csv", "candle,train", "candle,val")
    with pytest.raises(DatasetError, match=r"is of the split 'val' in .*1cls\.csv"):
        read_category(tmp_path, "candle", dataset="visa", reader="visa")


def test_views_of_one_object_are_a_group(tmp_path: Path) -> None:
    written = WRITERS["real_iad"](tmp_path)
    assert {one.group for one in written["usb"].values()} >= {"OK/S0001", "NG/QS/S0001"}
    category = read_category(tmp_path, "usb", dataset="real_iad", reader="real_iad")
    assert {record.group for record in category.images} == {one.group for one in written["usb"].values()}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"train": [], "test": [3]}', '{"train": [{}], "test": []}']
)
def test_a_bad_json_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    WRITERS["real_iad"](tmp_path)
    path = tmp_path / "realiad_jsons" / "realiad_jsons" / "usb.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"usb\.json is not as Real-IAD's files are"):
        read_category(tmp_path, "usb", dataset="real_iad", reader="real_iad")


def test_other_resolutions_and_splits(tmp_path: Path) -> None:
    WRITERS["real_iad"](tmp_path)
    (tmp_path / "realiad_1024").rename(tmp_path / "realiad_256")
    jsons = tmp_path / "realiad_jsons"
    (jsons / "realiad_jsons").rename(jsons / "realiad_jsons_sv")
    with pytest.raises(DatasetError, match=r"no JSON file under .*realiad_jsons/realiad_jsons"):
        list_categories(tmp_path, reader="real_iad")
    options = ["dataset.options.resolution=256", "dataset.options.split=realiad_jsons_sv"]
    conf = compose("dataset=real_iad", f"dataset.root={tmp_path}", *options).configurations[0].dataset
    assert sorted(open_dataset(conf)) == ["audiojack", "usb"]


def test_saturations_are_those_of_the_file(tmp_path: Path) -> None:
    category = write("mvtec_loco")(tmp_path)
    assert category.saturations == (
        Saturation("missing", 255, 6.0, False),
        Saturation("broken", 254, 1.0, True),
        Saturation("twice", 253, 0.5, True),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[", "", "is no list of defects"),
        ('"pixel_value"', '"value"', "is no list of defects .*KeyError"),
        (": 6", ': "many"', "is no list of defects"),
        (": 6", ": 0", "saturation_threshold of missing is 0"),
        (": 0.5", ": 1.5", "saturation_threshold of twice is 1.5"),
        (": 254", ": 255", "has two defects of one pixel_value"),
    ],
)
def test_bad_saturations_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    WRITERS["mvtec_loco"](tmp_path)
    edit(tmp_path / "pushpins" / "defects_config.json", old, new)
    with pytest.raises(DatasetError, match=rf"defects_config\.json.*{message}"):
        read_category(tmp_path, "pushpins", dataset="mvtec_loco", reader="mvtec_loco")


def test_masks_of_no_image_are_told(tmp_path: Path) -> None:
    WRITERS["mvtec_loco"](tmp_path)
    folder = tmp_path / "pushpins" / "ground_truth" / "logical_anomalies"
    save_mask(folder / "007" / "000.png", np.eye(*SHAPE, dtype=bool))
    save_mask(folder / "000.png", np.eye(*SHAPE, dtype=bool))
    category = read_category(tmp_path, "pushpins", dataset="mvtec_loco", reader="mvtec_loco")
    assert [remark.path for remark in category.remarks] == [folder / "007", folder / "000.png"]


def test_the_first_kolektor_has_no_split(tmp_path: Path) -> None:
    picture(tmp_path / "kos01" / "Part0.jpg")
    with pytest.raises(DatasetError, match="is the first KolektorSDD, which has no split"):
        list_categories(tmp_path, reader="kolektor")


def test_an_image_without_a_mask_has_no_label_in_kolektor(tmp_path: Path) -> None:
    WRITERS["kolektor"](tmp_path)
    (tmp_path / "test" / "10010_GT.png").unlink()
    with pytest.raises(DatasetError, match=r"10010\.png has no mask 10010_GT\.png, which tells"):
        read_category(tmp_path, "kolektorsdd2", dataset="kolektor", reader="kolektor")


def test_a_label_of_no_image_is_refused_in_dagm(tmp_path: Path) -> None:
    WRITERS["dagm"](tmp_path)
    save_mask(tmp_path / "Class1" / "Test" / "Label" / "0777_label.PNG", np.eye(*SHAPE, dtype=bool))
    with pytest.raises(DatasetError, match=r"0777_label\.PNG is the label of no image"):
        read_category(tmp_path, "Class1", dataset="dagm", reader="dagm")


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_another_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetError, match=str(root)):
            list_categories(root, reader=name)


@pytest.mark.parametrize("name", ["viza", "", "os", "a b", "..visa", "anomaly_sweep.datasets.readers.base"])
def test_a_reader_that_is_not_there(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"there is no such reader .*btad, csv.*or name a module with a READER"
    ):
        reader_named(name)


@pytest.mark.parametrize("name", ["btad", "csv"])
def test_an_option_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"dataset\.options: .*see the reader {name}"):
        reader_named(name, {"colour": 3})


def test_a_leak_is_told_by_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In any layout: one image in training and test, under other names."""
    for name in sorted(WRITERS):
        root = tmp_path / name
        written = WRITERS[name](root)
        category = read_category(root, min(written), dataset=name, reader=name)
        train, test = category.train[0], next(record for record in category.test if not record.label)
        test.path.write_bytes(train.path.read_bytes())
        told = [p for p in check_dataset(root, [category.name], reader=name) if p.path == test.path]
        assert any("a test image that was trained on" in problem.message for problem in told), name


def test_a_record_may_have_many_masks(tmp_path: Path) -> None:
    written = WRITERS["mvtec_loco"](tmp_path)
    category = read_category(tmp_path, min(written), dataset="mvtec_loco", reader="mvtec_loco")
    many: list[ImageRecord] = [record for record in category.test if len(record.masks) > 1]
    assert [record.defect for record in many] == ["logical_anomalies"] * 2


SMALL = ("backbone=efficientnet_lite0", "layer=level4", "dataset.input_size=32", "runtime.workers=1")


@pytest.mark.parametrize("name", ["visa", "btad", "mvtec_loco", "real_iad", "csv"])
def test_a_sweep_over_each_task(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = WRITERS[name](tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    of = (f"dataset={name}", "dataset.root=data", "backbone.weights=random", *SMALL)
    for more in (("estimator=knn1",), ("task=localization", "localizer=padim", "localizer.levels=[level3]")):
        overrides = [o for o in of if more[0] == "estimator=knn1" or not o.startswith("layer=")]
        table = long_table(run_configurations(*compose(*overrides, *more)))
        assert set(table["status"]) == {"ok"}, table["reason"].to_list()
        assert sorted(table["category"]) == sorted(written)
        assert set(table["dataset"]) == {name}
        assert set(table["n_train"]) == {3}
        assert list(table["n_test"]) == [
            sum(not one.train for one in written[category].values()) for category in table["category"]
        ]
