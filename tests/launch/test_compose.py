"""Composing a sweep's configs cheaply equals Hydra's own composing of each."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.tasks import configuration_of, parse
from tests.support.multirun import Multirun


def assert_equal(run: Multirun, jobs: list[list[str]]) -> None:
    for job, nodes in zip(jobs, run.composer().jobs(jobs), strict=True):
        own, tracking, runtime = parse(run.compose(job))
        assert configuration_of(nodes) == own, job
        assert (nodes["tracking"], nodes["runtime"]) == (tracking, runtime), job


def test_sample_of_the_grid_with_every_option() -> None:
    run = Multirun("experiment=ono_mori_grid", "backbone.weights=random")
    jobs = run.jobs()
    chosen = random.Random(0).sample(jobs, 60)
    seen = {override for job in chosen for override in job}
    for job in jobs:  # the sample, and each option that it lacks
        if not set(job) <= seen:
            chosen.append(job)
            seen |= set(job)
    assert seen == {override for job in jobs for override in job}
    assert_equal(run, chosen)


def test_composes_each_option_once() -> None:
    run = Multirun("experiment=ono_mori_grid")
    jobs = run.jobs()
    composer = run.composer()
    composer.jobs(jobs)
    options = {override for job in jobs for override in job}
    assert run.composed <= len(options)
    before = run.composed
    composer.jobs(jobs)  # a second batch
    assert run.composed == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["pca_mode=pca10,npca10", "pca_mode.rate=0.2,0.3"],
        ["pca_mode.rate=0.2,0.3", "pca_mode=pca10,npca10"],
        ["dataset.categories=[linen],[washer,gear],null", "dataset.input_size=64,null"],
        ["dataset.generate.size=64,128", "dataset.generate.seed=1"],
        ["estimator=knn1,knn5", "estimator.aggregation=mean,kth"],
        ["+estimator.n_jobs=1,2", "estimator=isolation_forest"],
        ["augmentation=standard", "augmentation.exclude.capsule=[flip],[]"],
        ["layer=level4", "layer.levels=[level1],[level2,level3]"],
        ["runtime.batch_size=1,2"],
        ["backbone.kwargs={zero_init_last:true},{}"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_settings(arguments: list[str]) -> None:
    run = Multirun(*arguments)
    jobs = run.jobs()
    assert len(jobs) > 1
    assert_equal(run, jobs)


def test_order_of_overrides_does_not_matter_to_hydra() -> None:
    run = Multirun()
    one = run.compose(["pca_mode.rate=0.2", "pca_mode=pca10"])
    other = run.compose(["pca_mode=pca10", "pca_mode.rate=0.2"])
    assert parse(one)[0] == parse(other)[0]
    assert parse(one)[0].labels["pca_mode"] == "pca20"


def test_jobs_about_different_nodes() -> None:
    jobs = [["layer=level1"], ["estimator=knn1"], [], ["layer=level1", "pca_mode.rate=0.1"]]
    jobs += [["estimator=isolation_forest", "+estimator.n_jobs=2"], ["~experiment"], ["~estimator.shrinkage"]]
    assert_equal(Multirun(), jobs)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_option_that_touches_other_nodes(tmp_path: Path) -> None:
    text = "# @package _global_\nestimator:\n  name: far\npca_mode:\n  rate: 0.35\n"
    _write(tmp_path / "estimator" / "far.yaml", text)
    for order in (["far", "mvg"], ["mvg", "far"]):
        run = Multirun(extra_folder=tmp_path)
        jobs = [[f"estimator={e}", f"layer={layer}"] for e in order for layer in ("level1", "level2")]
        if "far" in order:  # it says nothing but its name and the rate: the rest must be given
            target = "+estimator._target_=anomaly_sweep.estimators.gaussian.MultivariateGaussian"
            jobs = [[*job, target] if "estimator=far" in job else job for job in jobs]
        assert_equal(run, jobs)
        rates = [nodes["pca_mode"].rate for nodes in run.composer().jobs(jobs)]
        assert sorted(rates) == [0.35, 0.35, 0.5, 0.5]


@pytest.mark.parametrize(
    "text",
    [
        "name: tied\nlevels: ['level${oc.select:pca_mode.mode,1}']\n",
        "name: tied\nlevels: ['${pooling.name}']\n",
    ],
    ids=["resolver", "reference"],
)
def test_option_that_refers_to_other_nodes(tmp_path: Path, text: str) -> None:
    _write(tmp_path / "layer" / "tied.yaml", text)
    run = Multirun(extra_folder=tmp_path)
    jobs = [
        ["layer=tied", f"pooling={p}", f"pca_mode={m}"] for p in ("avg", "max") for m in ("none", "pca10")
    ]
    parsed = [nodes["layer"].levels for nodes in run.composer().jobs(jobs)]
    assert parsed == [list(run.compose(job).layer.levels) for job in jobs]
    assert len({tuple(levels) for levels in parsed}) == 2


def test_wrong_values_are_told() -> None:
    run = Multirun()
    composer = run.composer()
    composer.job(["layer=level1"])
    with pytest.raises(ConfigError, match=r"pca_mode\.rate=2\.0 is outside"):
        composer.job(["pca_mode.rate=2"])
    with pytest.raises(ConfigCompositionException, match=r"pca_mode\.rat"):
        composer.job(["pca_mode.rat=0.2"])
    with pytest.raises(ConfigCompositionException, match=r"pca_mode\.rate=x"):
        composer.job(["pca_mode.rate=x"])
    composer.job(["layer=level2"])  # and it still works
