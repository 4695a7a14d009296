"""What a plan makes of the data on disk: where the synthetic set is drawn, what is read again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sweep_cases import configuration, runtime

from anomaly_sweep.config import DatasetConf, GenerateConf
from anomaly_sweep.datasets import file_index as manifest
from anomaly_sweep.errors import DatasetError
from anomaly_sweep.sweep.plan.planner import DEFAULT_ROOT, open_dataset
from anomaly_sweep.sweep.run.configurations import _prepare

SMALL = GenerateConf(size=32, n_train=2, n_test_good=1, n_per_defect=1)


def test_default_root_is_the_configuration_s() -> None:
    conf = OmegaConf.load(Path(__file__).parents[2] / "conf" / "dataset" / "synthetic.yaml")
    assert Path(conf.root) == DEFAULT_ROOT
    assert GenerateConf(**conf.generate) == GenerateConf()


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
