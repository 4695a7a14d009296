"""What a plan makes of the data on disk: where the synthetic set is drawn, what is read again."""

from __future__ import annotations

import inspect
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from anomaly_sweep.config import DatasetConf, GenerateConf, LayerConf
from anomaly_sweep.datasets import Category
from anomaly_sweep.datasets import file_index as manifest
from anomaly_sweep.datasets.synthetic import generate
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.features.pooled import features_of
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.sweep.plan.planner import DEFAULT_ROOT, open_dataset
from anomaly_sweep.sweep.run.configurations import _prepare
from anomaly_sweep.tasks.localization.run import masks_of
from tests.support.localizers import localization, localizer
from tests.support.paths import ROOT
from tests.support.sweeps import configuration, runtime

SMALL = GenerateConf(size=32, n_train=2, n_test_good=1, n_per_defect=1)


def test_default_root_is_the_configuration_s() -> None:
    conf = OmegaConf.load(ROOT / "conf" / "dataset" / "synthetic.yaml")
    assert Path(conf.root) == DEFAULT_ROOT
    assert GenerateConf(**conf.generate) == GenerateConf()
    parameters = inspect.signature(generate).parameters
    assert {name: parameters[name].default for name in conf.generate} == dict(conf.generate)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where the synthetic set was asked for; drawn small."""
    from anomaly_sweep.datasets import synthetic

    asked: list[Path] = []
    real = synthetic.generate

    def spy(root: Path, **parameters: int) -> None:
        asked.append(root)
        real(root, **{**parameters, "size": 32, "n_train": 2, "n_test_good": 1, "n_per_defect": 1})

    monkeypatch.setattr(synthetic, "generate", spy)
    return asked


@pytest.mark.parametrize(
    "name", ["typo", "typo/deep", "dätä", "a b", "it's", 'quo"te', "new\nline", "data", "synthetic", "link"]
)
def test_mistyped_root_is_not_drawn_in(tmp_path: Path, drawn: list[Path], name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    root = tmp_path / name
    with pytest.raises(DatasetError) as raised:
        open_dataset(DatasetConf(name="synthetic", root=str(root), generate=GenerateConf()))
    assert f"dataset.root={root}: there is no such folder" in str(raised.value)
    assert "dataset=folder" in str(raised.value)
    assert drawn == []
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_default_place_is_drawn_in(
    tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset(DatasetConf("synthetic", str(DEFAULT_ROOT), generate=GenerateConf()))) == 15
    absolute = DatasetConf("synthetic", str(tmp_path / "x" / DEFAULT_ROOT), generate=GenerateConf())
    assert len(open_dataset(absolute)) == 15


def test_empty_or_own_folder_is_drawn_in(tmp_path: Path, drawn: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    conf = DatasetConf("synthetic", str(tmp_path / "empty"), generate=GenerateConf())
    assert len(open_dataset(conf)) == 15
    assert len(open_dataset(conf)) == 15


def test_other_parameters_say_what_is_meant(tmp_path: Path) -> None:
    assert len(open_dataset(DatasetConf("synthetic", str(tmp_path / "new"), generate=SMALL))) == 15


def test_own_images_under_dataset_synthetic(tiny_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_dataset / "linen", tmp_path / "mine" / "linen")
    with pytest.raises(DatasetError, match=r"is not a synthetic data set.*give dataset=folder"):
        open_dataset(DatasetConf("synthetic", str(tmp_path / "mine"), generate=GenerateConf()))


def test_swapped_files_are_another_data_set(tiny_dataset: Path, tmp_path: Path) -> None:
    """Equal size and time, other places: without and with ``resume``."""
    shutil.copytree(tiny_dataset / "linen", tmp_path / "data" / "linen")
    good = tmp_path / "data" / "linen" / "train" / "good"
    conf = DatasetConf("tiny", str(tmp_path / "data"), input_size=64)
    for number in (0, 1):
        path = good / f"00{number}.png"
        path.write_bytes(path.read_bytes().ljust(20_000, b"\0"))  # what stands behind the end is not read
        os.utime(path, (1_600_000_000, 1_600_000_000))
    chosen = configuration(tmp_path / "data", dataset=conf)
    manifest_of = [next(iter(_prepare([chosen], runtime(tmp_path))[0].works)).shard.train_manifest]
    (good / "000.png").rename(good / "spare")
    (good / "001.png").rename(good / "000.png")
    (good / "spare").rename(good / "001.png")
    for resume in (True, False):
        work = _prepare([chosen], runtime(tmp_path, resume=resume))[0].works[0]
        manifest_of.append(work.shard.train_manifest)
    assert manifest_of[0] != manifest_of[1] == manifest_of[2]


def test_no_resume_reads_again(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells a change, ``resume=false`` sees it nevertheless, reading each file once."""
    monkeypatch.setattr(manifest, "_stat", lambda path: manifest._Stat(9, 1, 1, "1"))
    shutil.copytree(tiny_dataset / "linen", tmp_path / "data" / "linen")
    image = tmp_path / "data" / "linen" / "train" / "good" / "000.png"
    conf = DatasetConf("tiny", str(tmp_path / "data"), input_size=64)
    chosen = [configuration(tmp_path / "data", dataset=conf)]

    def prints(**changes: bool) -> set[str]:
        return _prepare(chosen, runtime(tmp_path, **changes))[0].fingerprints

    before = prints()
    shutil.copyfile(image.with_name("001.png"), image)
    assert prints() == before
    reads: list[Path] = []
    real = manifest.hash_file
    monkeypatch.setattr(manifest, "hash_file", lambda path: reads.append(path) or real(path))
    assert prints(resume=False) != before
    assert len(reads) == len(set(reads)) == 16
    prints(resume=False)  # as the next batch of a search does
    assert len(reads) == 16


# What is not read is told when a sweep is planned.


@pytest.fixture
def own(tiny_dataset: Path, tmp_path: Path) -> DatasetConf:
    """Two categories of one's own."""
    for name in ("linen", "washer"):
        shutil.copytree(tiny_dataset / name, tmp_path / "own" / name)
    return DatasetConf("mine", str(tmp_path / "own"), input_size=64)


def test_a_plain_data_set_has_nothing_told(own: DatasetConf, caplog: pytest.LogCaptureFixture) -> None:
    assert all(isinstance(category, Category) for category in open_dataset(own).values())
    assert caplog.messages == []


def test_one_line_a_kind(own: DatasetConf, caplog: pytest.LogCaptureFixture) -> None:
    root = Path(own.root)
    for name in ("linen", "washer"):
        for number in range(3):
            (root / name / "train" / "good" / f"batch{number}").mkdir()
        (root / name / "train" / "stray.png").write_bytes(b"")
    (root / "notes").mkdir()
    (root / "linen" / "ground_truth" / "tear").mkdir(exist_ok=True)
    (root / "linen" / "ground_truth" / "tear" / "000_seg.png").write_bytes(b"")
    assert all(isinstance(category, Category) for category in open_dataset(own).values())
    lines = caplog.messages
    assert len(lines) == 4
    told = "\n".join(lines)
    listed = "(anomaly-sweep-data check lists them); the first"
    assert f"mine: sub-folders of folders of images: 6 {listed}: {root}/linen/train/good/batch0 and" in told
    assert f"mine: images outside the folders of images: 2 {listed}: {root}/linen/train/stray.png" in told
    assert f"mine: folders that are no category: 1; the first: {root}/notes is not read" in told
    assert "mine: masks that belong to no image: 1; the first: mask" in told
    open_dataset(own)
    assert len(caplog.messages) == 4  # once
    caplog.clear()
    open_dataset(replace(own, categories=["washer"]))  # what else the root holds was not asked for
    assert sorted(line.partition(";")[0] for line in caplog.messages) == [
        "mine: images outside the folders of images: 1",
        "mine: sub-folders of folders of images: 3 (anomaly-sweep-data check lists them)",
    ]


def test_copies_of_training_images_are_told(
    own: DatasetConf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(own.root)
    chosen = [configuration(root, dataset=own, layer=LayerConf(f"level{i}", [f"level{i}"])) for i in (1, 2)]
    _prepare(chosen, runtime(tmp_path))
    assert caplog.messages == []
    for number in (0, 1):
        copy = root / "linen" / "test" / "good" / f"9{number}.png"
        shutil.copyfile(root / "linen" / "train" / "good" / f"00{number}.png", copy)
    _prepare(chosen, runtime(tmp_path))
    (line,) = caplog.messages
    assert "linen: test images that are copies of training images: 2; the first: " in line
    assert f"{root}/linen/test/good/90.png of {root}/linen/train/good/000.png" in line


def test_a_link_that_leads_nowhere_is_a_hole(own: DatasetConf, tmp_path: Path) -> None:
    """Of an image, its category; of a category, itself: neither is left out unseen."""
    root = Path(own.root)
    (root / "washer" / "test" / "good" / "x.png").symlink_to("away.png")
    (root / "bottle").symlink_to("nowhere")
    found = open_dataset(own)
    assert isinstance(found["linen"], Category)
    assert "x.png is a link that leads nowhere (away.png)" in str(found["washer"])
    assert "bottle is a link that leads nowhere" in str(found["bottle"])


def test_orphan_masks_stop_localization_only(own: DatasetConf, tmp_path: Path) -> None:
    root = Path(own.root)
    mask = next((root / "linen" / "ground_truth").glob("*/000_mask.png"))
    mask.rename(mask.with_name("000_seg.png"))
    conf = replace(own, categories=["linen"])
    plan, works, *_ = _prepare([configuration(root, dataset=conf)], runtime(tmp_path))
    assert plan.failed == {}
    assert len(works) == 1
    plan, works, *_ = _prepare([replace(localization(root, localizer()), dataset=conf)], runtime(tmp_path))
    (failed,) = plan.failed.values()
    assert works == []
    assert "1 anomalous test images have no mask" in failed.reason
    assert "000_seg.png has no image" in failed.reason
    assert "rename it to 000_mask.png" in failed.reason


def first_mask(own: DatasetConf) -> Path:
    return next((Path(own.root) / "linen" / "ground_truth").glob("*/000_mask.png"))


def shard_of(own: DatasetConf, tmp_path: Path, size: int = 64) -> Shard:
    conf = replace(own, categories=["linen"], input_size=size)
    root = Path(own.root)
    return _prepare([replace(localization(root, localizer()), dataset=conf)], runtime(tmp_path))[1][0].shard


def test_masks_that_vanish_are_told(
    own: DatasetConf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marks = np.zeros((64, 64), np.uint8)
    marks[0, 0] = 255
    Image.fromarray(marks).save(first_mask(own))
    masks_of(shard_of(own, tmp_path))
    assert caplog.messages == []
    masks_of(shard_of(own, tmp_path, 32))  # which takes every second pixel, from the second
    (line,) = caplog.messages
    assert "linen: 1 mask(s) mark nothing at 32 x 32 pixels" in line
    assert str(first_mask(own)) in line


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((64, 64), True),
        ((32, 32), True),
        ((128, 128), True),
        ((64, 32), False),
        ((63, 64), True),
        ((48, 64), False),
    ],
)
def test_masks_of_another_shape_are_refused(
    own: DatasetConf, tmp_path: Path, size: tuple[int, int], fits: bool
) -> None:
    Image.new("L", size, 255).save(first_mask(own))
    if fits:
        masks_of(shard_of(own, tmp_path))
        return
    with pytest.raises(
        DatasetError, match=rf"000_mask\.png is {size[0]} x {size[1]}, its image .* is 64 x 64"
    ):
        masks_of(shard_of(own, tmp_path))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_mask_of_a_turned_image_is_as_the_image_is_seen(
    own: DatasetConf, tmp_path: Path, suffix: str
) -> None:
    mask = first_mask(own)
    image = Path(own.root) / "linen" / "test" / mask.parent.name / "000.png"
    image.unlink()
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (64, 40)).save(image.with_suffix(f".{suffix}"), exif=tags)
    Image.new("L", (40, 64), 255).save(mask)
    masks_of(shard_of(own, tmp_path))
    Image.new("L", (64, 40), 255).save(mask)
    with pytest.raises(
        DatasetError, match=r"is 64 x 40, its image .* is 40 x 64 \(turned as its EXIF data say\)"
    ):
        masks_of(shard_of(own, tmp_path))


@pytest.mark.parametrize(
    "name", ["dätä", "a b", "it's", 'quo"te', "new\nline", "日本 😀", "x" * 200, "a,b=c", "$HOME"]
)
def test_names_of_any_kind_in_data_and_cache(tiny_dataset: Path, tmp_path: Path, name: str) -> None:
    """From the images to the features in the cache and back."""
    base = tmp_path / name / "linen"
    shutil.copytree(tiny_dataset / "linen", base)
    for path in sorted(base.glob("train/good/*")):
        path.rename(path.with_name(f"{name}{path.name}"))
    defect = next(path for path in (base / "test").iterdir() if path.name != "good")
    (base / "ground_truth" / defect.name).rename(base / "ground_truth" / name)
    defect.rename(base / "test" / name)
    conf = DatasetConf(name, str(tmp_path / name), input_size=64)
    where = runtime(tmp_path, cache_dir=str(tmp_path / name / "cache"))
    shutil.rmtree(tmp_path / name / "cache", ignore_errors=True)
    work = _prepare([configuration(base.parent, dataset=conf)], where)[1][0]
    made = features_of(work.shard, ["level2"], cache_at(where.cache_dir), device="cpu")
    again = features_of(work.shard, ["level2"], cache_at(where.cache_dir), device="cpu")
    for split in ("train", "test"):
        np.testing.assert_array_equal(
            getattr(made, split)["level2"]["avg"], getattr(again, split)["level2"]["avg"]
        )
