"""What an experiment says is swept: alone, several at once, narrowed by the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from anomaly_sweep.cli.overrides import check_overrides
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.datasets.synthetic import CATEGORIES
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.launch.experiments import check_no_grids, expand_all
from anomaly_sweep.launch.grids import as_overrides, expand
from tests.support.multirun import Multirun

UNION = [{"b": "r", "l": ["1", "2", "all"]}, {"b": "e", "l": ["1", "2", "3", "all"]}]
COMMON = {"m": ["x", "y"]}


def expanded(*arguments: str) -> list[str]:
    jobs = expand(UNION, COMMON, arguments, OverridesParser.create())
    return [" ".join(o.split("=")[1].strip("'") for o in sorted(job)) for job in jobs]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("m=x", "r 1 x/r 2 x/r all x/e 1 x/e 2 x/e 3 x/e all x"),
        ("b=r m=x", "r 1 x/r 2 x/r all x"),
        ("b='e' m=x", "e 1 x/e 2 x/e 3 x/e all x"),
        ("l=3 m=x", "e 3 x"),
        ("l=3,1 m=x", "r 1 x/e 3 x/e 1 x"),
        ("b=r,e l=2,3 m=x", "r 2 x/e 2 x/e 3 x"),
        ("b=other m=x", "other 1 x/other 2 x/other all x/other 3 x"),
        ("b=other,r m=x l=1,2", "other 1 x/other 2 x/r 1 x/r 2 x"),
        ("b=other l=3 m=z", "other 3 z"),
        ("l=choice(1,9) m=x", "r 1 x/r 9 x/e 1 x/e 9 x"),
        ("b=r l=3 m=x", "r 3 x"),  # nothing is left of the union: as it was said
        ("m=x,x b=r l=1,1", "r 1 x"),
    ],
)
def test_narrowing(line: str, wanted: str) -> None:
    got = expanded(*line.split())
    assert sorted(got) == sorted(wanted.split("/"))


def test_shipped_grid() -> None:
    def layers(*arguments: str) -> Counter[str]:
        jobs = Multirun("experiment=ono_mori_grid", *arguments).jobs()
        return Counter(next(o for o in job if o.startswith("backbone=")).split("=")[1] for job in jobs)

    assert layers() == {"resnet18": 330, "efficientnet_b5": 440}
    assert layers("backbone=resnet18") == {"resnet18": 330}
    assert layers("layer=level6") == {"efficientnet_b5": 55}
    assert layers("backbone=mobilenetv2_035", "estimator=mvg") == {"mobilenetv2_035": 88}
    assert layers("layer=level1,level2", "estimator=mvg") == {"resnet18": 22, "efficientnet_b5": 22}


def _name(choice: Any) -> str:
    """Of a group's choice: a mapping for what is made by ``_target_``, else an object."""
    return str(choice["name"] if isinstance(choice, Mapping) else choice.name)


def test_embedded_grid() -> None:
    """Table 1's 55 cells a layer on 16 layers, and the two studies; each configuration once."""
    run = Multirun("experiment=embedded_grid")
    nodes = run.composer().jobs(run.jobs())
    groups = ("backbone", "layer", "pooling", "augmentation", "pca_mode", "estimator")
    jobs = [tuple(_name(node[group]) for group in groups) for node in nodes]
    assert len(set(jobs)) == len(jobs)
    grid = [job for job in jobs if job[2:4] == ("avg", "none")]
    assert len(grid) == 16 * 11 * 5
    assert len({job[:2] for job in grid}) == 16
    assert len(grid) * len(CATEGORIES) >= 11_550
    assert {node["backbone"].weights for node in nodes} == {"packaged"}
    augmented = {"efficientnet_lite0": {"none"}, "efficientnet_lite1": {"none", "noise", "standard"}}
    for backbone, augmentations in augmented.items():
        for estimator in ("mvg", "knn1"):
            own = [j for j in jobs if (j[0], j[1], *j[4:]) == (backbone, "level7", "npca50", estimator)]
            assert len({job[2] for job in own if job[3] == "none"}) == 7
            assert {job[3] for job in own if job[2] == "avg"} == augmentations


def test_embedded_localization() -> None:
    run = Multirun("experiment=embedded_localize")
    nodes = run.composer().jobs(run.jobs())
    assert [_name(node["localizer"]) for node in nodes] == [
        "ridge",
        "ridge_shared",
        "ridge_plus",
        "patchcore",
        "padim",
    ]
    for node in nodes:
        assert node["task"].name == "localization"
        assert node["backbone"].weights == "packaged"
        assert node["dataset"].name == "synthetic"


def test_entries_of_a_config() -> None:
    params = {"a": [["x", "y"], ["z"]], "b": {"k": ["u", 1]}, "c": [True, None, "ä"], "d": "range(1,3)"}
    assert as_overrides(params) == ["a=[x,y],[z]", "b={k:[u,1]}", "c=true,null,'ä'", "d=range(1,3)"]
    with pytest.raises(ConfigError, match="a: an empty list"):
        as_overrides({"a": []})


@pytest.mark.parametrize("line", ["experiment=glob(nothing*)", "k=range(3,3)"])
def test_no_values_are_told(line: str) -> None:
    run = Multirun()
    with pytest.raises(ConfigError, match="gives no value"):
        expand([], {}, [line], OverridesParser.create(config_loader=run.loader))


def union(run: Multirun) -> list[list[str]]:
    sweeper = run.config.hydra.sweeper
    return expand_all(run.config, run.loader, run.arguments, sweeper.grids, sweeper.params)


def test_several_experiments_are_the_sum_of_each() -> None:
    together = union(Multirun("experiment=ono_mori_pooling,ono_mori_augmentation"))
    alone = [Multirun(f"experiment={name}").jobs() for name in ("ono_mori_pooling", "ono_mori_augmentation")]
    assert together == alone[0] + alone[1]
    assert len(together) == 14 + 6
    by_glob = union(Multirun("experiment=glob(ono*)", "estimator=mvg"))
    assert len(by_glob) == 7 + 3 + 154


def test_tasks_of_several_experiments(tmp_path: Path) -> None:
    run = Multirun("experiment=ridge_table1,ono_mori_pooling")
    nodes = run.composer().jobs(union(run))
    assert Counter(job["task"].name for job in nodes) == {"localization": 5, "detection": 14}
    assert {job["dataset"].input_size for job in nodes if job["task"].name == "localization"} == {256}
    assert run.composed < 30  # each option of each experiment once


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package _global_\n{text}")


def test_plain_experiments(tmp_path: Path) -> None:
    """Experiments in Hydra's usual form: values, no sweep."""
    write(tmp_path, "one", "layer:\n  name: one\n  levels: [level1]\n")
    write(tmp_path, "two", "pca_mode:\n  rate: 0.25\n")
    run = Multirun("experiment=one,two", "pooling=avg,max", extra_folder=tmp_path)
    nodes = run.composer().jobs(union(run))
    got = [(job["layer"].levels, job["pca_mode"].rate, job["pooling"].name) for job in nodes]
    one, two = (["level1"], 0.5), (["level4"], 0.25)
    assert got == [(*one, "avg"), (*one, "max"), (*two, "avg"), (*two, "max")]


def test_an_experiment_chooses_sweeper_and_launcher(tmp_path: Path) -> None:
    write(
        tmp_path,
        "search",
        "defaults:\n  - override /hydra/sweeper: optuna\n  - override /hydra/launcher: basic\n"
        "hydra:\n  sweeper:\n    n_trials: 3\n    params:\n      layer: level1,level2\n",
    )
    config = Multirun("experiment=search", extra_folder=tmp_path).config
    assert config.hydra.sweeper._target_.endswith("OptunaSweeper")
    assert config.hydra.sweeper.n_trials == 3
    assert config.hydra.launcher._target_.endswith("BasicLauncher")
    config = Multirun("experiment=search", "hydra/launcher=grid", extra_folder=tmp_path).config
    assert config.hydra.launcher._target_.endswith("GridLauncher")
    with pytest.raises(ConfigError, match=r"experiment=search sets hydra\.\w+.*launch it by itself"):
        union(Multirun("experiment=ono_mori_pooling,search", extra_folder=tmp_path))


def test_a_search_has_one_space() -> None:
    run = Multirun("experiment=ono_mori_pooling,ono_mori_augmentation", "hydra/sweeper=optuna")
    with pytest.raises(ConfigError, match="experiment=ono_mori_pooling has choices of its own"):
        check_no_grids(run.config, run.loader, run.arguments)
    with pytest.raises(ConfigError, match="takes no experiment's choices"):
        check_overrides(["experiment=a,b", "hydra/sweeper=basic"], config_folder())


@pytest.mark.parametrize(
    "name",
    [
        "embedded_grid",
        "embedded_localize",
        "ono_mori_augmentation",
        "ono_mori_grid",
        "ono_mori_pooling",
        "ridge_table1",
    ],
)
def test_shipped_experiments_are_sweeps_without_a_flag(name: str) -> None:
    assert Multirun(f"experiment={name}").config.hydra.mode.name == "MULTIRUN"
