"""Every option composes into a checked config; the experiments are the sweeps they say."""

from __future__ import annotations

import pytest

from anomaly_sweep.config import Configuration
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.launch.compose import configurations_of
from anomaly_sweep.sweep.plan.checks import check_settings
from anomaly_sweep.tasks import parse
from tests.support.multirun import Multirun

GROUPS = (
    "backbone",
    "layer",
    "pooling",
    "pca_mode",
    "augmentation",
    "dataset",
    "task",
    "tracking",
    "runtime",
)
OPTIONS = [
    (group, path.stem)
    for group in (*GROUPS, "estimator", "localizer")
    for path in sorted((config_folder() / group).glob("*.yaml"))
]
#: The public interface: these names must stay.
PROMISED = {
    "backbone": {"resnet18", "efficientnet_b5", "wide_resnet50_2", "wide_resnet101_2", "mobilenetv2_035"},
    "layer": {*(f"level{i}" for i in range(1, 8)), "all"},
    "pooling": {"avg", "max", "min", "min_max", "min_avg", "max_avg", "min_max_avg"},
    "pca_mode": {"none", *(f"{m}{r}" for m in ("pca", "npca") for r in (10, 20, 30, 40, 50))},
    "estimator": {"mvg", "knn1", "knn5", "knn10", "flow", "isolation_forest", "one_class_svm"},
    "augmentation": {"none", "noise", "standard"},
    "dataset": {"synthetic", "mvtec_ad", "folder", "csv", "visa", "btad", "mpdd", "mvtec_loco"},
    "task": {"detection", "localization"},
    "localizer": {"ridge", "patchcore", "padim"},
}
#: Of networks with a class token, or of so many levels.
ABOUT_TRANSFORMERS = {("pooling", "cls"), *(("layer", f"level{i}") for i in range(8, 13))}


@pytest.fixture(scope="module")
def plain() -> Multirun:
    return Multirun()


def test_promised_names_are_there() -> None:
    for group, names in PROMISED.items():
        assert names <= {option for own, option in OPTIONS if own == group}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_option_composes_and_parses(plain: Multirun, group: str, option: str) -> None:
    job = [f"{group}={option}"]
    if option in ("folder", "csv"):
        job.append("dataset.root=somewhere")
    if (group, option) in (("layer", "level6"), ("layer", "level7")):
        job.append("backbone=mobilenetv2_035")
    if group == "localizer":
        job.append("task=localization")
    if option == "timm":
        job.append("backbone.model=test_vit")
    if (group, option) in ABOUT_TRANSFORMERS:
        job += ["backbone=timm", "backbone.model=vit_tiny_patch16_224"]
    configuration, _, _ = parse(plain.compose(job))
    if option == "timm":
        assert configuration.labels[group] == "test_vit"
    elif group in configuration.labels:
        assert configuration.labels[group] == option  # the name, and nothing changed
    if group == "task":
        assert configuration.task_label == option
    check_settings([configuration])


@pytest.mark.parametrize(
    ("experiment", "count"),
    [("ono_mori_grid", 770), ("ono_mori_pooling", 14), ("ono_mori_augmentation", 6), ("ridge_table1", 5)],
)
def test_experiments(experiment: str, count: int) -> None:
    run = Multirun(f"experiment={experiment}")
    configurations = configurations_of(run.composer().jobs(run.jobs()))
    assert len(configurations) == count
    assert len({_identity(configuration) for configuration in configurations}) == count

    if experiment == "ono_mori_grid":
        assert_is_the_papers(configurations)


def assert_is_the_papers(found: list[Configuration]) -> None:
    layers = {(c.backbone.name, c.layer.name) for c in found}
    assert len(layers) == 14
    assert ("efficientnet_b5", "level7") in layers
    assert ("resnet18", "level6") not in layers
    for index, names in ((4, 11), (5, 5)):
        assert len({_identity(c)[index] for c in found}) == names


def test_command_line_replaces_choices() -> None:
    run = Multirun("experiment=ono_mori_grid", "estimator=mvg,knn1", "backbone=mobilenetv2_035")
    jobs = run.jobs()
    found = configurations_of(run.composer().jobs(jobs))
    # Both grids now have the one backbone, whose layers in the two overlap: the distinct ones are left.
    assert len(jobs) == 8 * 11 * 2
    assert {c.backbone.name for c in found} == {"mobilenetv2_035"}
    assert {c.labels["estimator"] for c in found} == {"mvg", "knn1"}


def test_duplicates_are_one_job() -> None:
    run = Multirun("estimator=mvg,knn1,mvg", "layer=level1,level1")
    assert len(run.jobs()) == 2


def _identity(configuration: Configuration) -> tuple[str, ...]:
    return tuple(configuration.labels.values())


def test_ridge_table1() -> None:
    run = Multirun("experiment=ridge_table1")
    configurations = configurations_of(run.composer().jobs(run.jobs()))
    assert [c.labels["localizer"] for c in configurations] == [
        "ridge",
        "ridge_shared",
        "ridge_plus",
        "patchcore",
        "padim",
    ]
    assert {(c.labels["backbone"], c.input_size, c.task_label) for c in configurations} == {
        ("wide_resnet101_2", 256, "localization")
    }


@pytest.mark.parametrize(
    ("job", "label"),
    [
        (["task.sigma=2"], "localization[sigma=2.0]"),
        (["task.images=anomalous", "task.fpr_limit=0.05"], "localization[fpr_limit=0.05,images=anomalous]"),
        (["task.save_maps=true", "task.figure=false", "task.cache_maps=true"], "localization"),
    ],
)
def test_task_labels(plain: Multirun, job: list[str], label: str) -> None:
    configuration, _, _ = parse(plain.compose(["task=localization", *job]))
    assert configuration.task_label == label


def test_localization_wants_no_augmentation(plain: Multirun) -> None:
    with pytest.raises(ConfigError, match="augmentation=noise has no meaning with task=localization"):
        parse(plain.compose(["task=localization", "augmentation=noise"]))


def test_a_crop_fits_its_image(plain: Multirun) -> None:
    configuration, _, _ = parse(plain.compose(["dataset.input_size=224", "dataset.center_crop=200"]))
    assert configuration.dataset.center_crop == 200
    with pytest.raises(ConfigError, match=r"dataset\.center_crop=225 is larger than the image.*224"):
        parse(plain.compose(["dataset.input_size=224", "dataset.center_crop=225"]))
