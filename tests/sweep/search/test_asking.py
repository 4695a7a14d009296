"""The search: its space, and asking and telling in batches, without running anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.sweep.search.record import best_line, importances, note, results, trials_csv
from anomaly_sweep.sweep.search.settings import Settings, make_sampler
from anomaly_sweep.sweep.search.space import Space, parse_space
from anomaly_sweep.sweep.search.study import Result, Search

TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 0}
RANDOM = {"_target_": "optuna.samplers.RandomSampler", "seed": 0}
GRID = {"_target_": "optuna.samplers.GridSampler"}


def space(*arguments: str, params: dict[str, Any] | None = None) -> Space:
    return parse_space(params or {}, arguments, OverridesParser.create())


class Evaluate:
    """Counts what it is asked; the objective is a function of the job's overrides as a dict."""

    def __init__(self, value: Callable[[dict[str, str]], Result]) -> None:
        self.value = value
        self.batches: list[list[list[str]]] = []

    def __call__(self, jobs: list[list[str]]) -> list[Result]:
        self.batches.append(jobs)
        return [self.value(dict(o.split("=", 1) for o in job)) for job in jobs]

    @property
    def jobs(self) -> list[tuple[str, ...]]:
        return [tuple(job) for batch in self.batches for job in batch]


def run(search: Search, evaluate: Evaluate) -> None:
    while search.step(evaluate):
        pass


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("a=x,y", CategoricalDistribution(("x", "y"))),
        ("a=choice(x,y,x)", CategoricalDistribution(("x", "y"))),
        ("a=choice([l1,l2],{k:1},true,1.5)", CategoricalDistribution(("[l1,l2]", "{k:1}", "True", "1.5"))),
        ("a=range(1,10)", IntDistribution(1, 9)),
        ("a=range(10,1,-3)", IntDistribution(4, 10, step=3)),
        ("a=range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=tag(log,range(1,100))", IntDistribution(1, 99, log=True)),
        ("a=interval(0.1,0.9)", FloatDistribution(0.1, 0.9)),
        ("a=interval(1,9)", FloatDistribution(1, 9)),
        ("a=tag(log,interval(0.001,1))", FloatDistribution(0.001, 1, log=True)),
        ("a=int(interval(1,9))", IntDistribution(1, 9)),
        ("a=tag(log,int(interval(1,9)))", IntDistribution(1, 9, log=True)),
    ],
)
def test_space_from_text(text: str, distribution: optuna.distributions.BaseDistribution) -> None:
    assert space(text).params == {"a": distribution}
    key, _, sweep = text.partition("=")
    assert space(params={key: sweep}).params == {"a": distribution}  # and from hydra.sweeper.params


def test_command_line_replaces_params_and_fixes() -> None:
    own = space("a=1", "b=2,3", params={"a": ["x", "y"], "c": "interval(0,1)", "d": 5})
    assert own.fixed == {"a": "a=1", "d": "d=5"}
    assert set(own.params) == {"b", "c"}
    assert sorted(own.job({"b": "2", "c": 0.5})) == ["a=1", "b=2", "c=0.5", "d=5"]
    assert space("g.k=1", "g=x,y").job({"g": "x"}) == ["g=x", "g.k=1"]  # groups first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=1"], "nothing to search"),
        (["a=interval(2,1)"], r"a=interval\(2,1\)"),
        (["a=range(1,1)"], "the range is empty"),
        (["a=tag(log,interval(0,1))"], "log"),
    ],
)
def test_space_that_makes_no_sense(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space(*arguments)


def test_corners_show_every_choice_and_both_ends() -> None:
    corners = list(space("a=x,y,z", "b=interval(1,2)", "c=range(1,1000)").corners())
    assert len(corners) == 1 + 2 + 1 + 1
    assert {c["a"] for c in corners} == {"x", "y", "z"}
    assert {c["b"] for c in corners} == {1.0, 2.0}
    assert {c["c"] for c in corners} == {1, 999}


def test_finds_the_best_of_a_simple_objective() -> None:
    def value(job: dict[str, str]) -> Result:
        return (1 - (float(job["x"]) - 0.3) ** 2 - (job["g"] != "b"),)

    search = Search(space("g=a,b,c", "x=interval(0,1)"), Settings(TPE, n_trials=80), "id")
    run(search, Evaluate(value))
    (best,) = search.best()
    assert best.params["g"] == "b"
    assert abs(best.params["x"] - 0.3) < 0.1
    shares = importances(search)["auc"]
    assert shares["g"] > shares["x"]
    assert "g=b" in best_line(search)
    assert results(search)["best_value"] == best.values[0]
    assert len(trials_csv(search).splitlines()) == 81
    assert "80 of 80 trials, 0 failed" in note(search, importances(search))


def test_asks_in_batches_and_runs_duplicates_once() -> None:
    evaluate = Evaluate(lambda job: (float(job["a"]),))
    search = Search(space("a=1,2,3", "fixed=7"), Settings(RANDOM, n_trials=20, batch_size=8), "id")
    run(search, evaluate)
    assert sorted(evaluate.jobs) == [("fixed=7", f"a={a}") for a in (1, 2, 3)]
    done = search.study.get_trials(states=[TrialState.COMPLETE])
    assert len(done) == 20
    assert all(trial.values == [float(trial.params["a"])] for trial in done)


def test_failed_points_are_failed_trials_and_the_search_goes_on() -> None:
    evaluate = Evaluate(lambda job: "broken" if job["a"] == "2" else (float(job["a"]),))
    search = Search(space("a=1,2,3"), Settings(RANDOM, n_trials=20, batch_size=4), "id")
    run(search, evaluate)
    assert evaluate.jobs.count(("a=2",)) == 1
    assert search.failures == {("a=2",): "broken"}
    states = {trial.params["a"]: trial.state for trial in search.finished}
    assert states == {"1": TrialState.COMPLETE, "2": TrialState.FAIL, "3": TrialState.COMPLETE}
    assert search.best()[0].params == {"a": "3"}
    assert "broken" in trials_csv(search)
    nothing = Search(space("a=1,2"), Settings(RANDOM, n_trials=4), "other")
    run(nothing, Evaluate(lambda job: "broken"))
    assert best_line(nothing) == "nothing has succeeded yet"
    assert importances(nothing) == {}
    assert results(nothing) == {"name": "optuna"}


def test_two_objectives() -> None:
    evaluate = Evaluate(lambda job: (float(job["a"]), 10 * float(job["a"]) if job["a"] != "2" else 90.0))
    settings = Settings(GRID, objectives=["auc", "score_seconds"])
    assert settings.directions == ["maximize", "minimize"]
    search = Search(space("a=1,2,3"), settings, "id")
    run(search, evaluate)
    assert [trial.params["a"] for trial in search.best()] == ["1", "3"]  # 2 is worse than 3 in both
    assert len(results(search)["solutions"]) == 2


def test_grid_is_every_point_once() -> None:
    evaluate = Evaluate(lambda job: (0.0,))
    search = Search(space("a=x,y", "b=range(1,4)"), Settings(GRID, n_trials=100, batch_size=4), "id")
    run(search, evaluate)
    assert sorted(evaluate.jobs) == sorted((f"a={a}", f"b={b}") for a in "xy" for b in (1, 2, 3))
    assert [len(batch) for batch in evaluate.batches] == [4, 2]
    with pytest.raises(ConfigError, match="b: a grid takes"):
        Search(space("b=interval(0,1)"), Settings(GRID), "id")


@pytest.mark.parametrize("sampler", [TPE, RANDOM, GRID], ids=["tpe", "random", "grid"])
def test_a_stored_study_goes_on(sampler: dict[str, Any], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    own = space("a=range(0,10)", "b=x,y")
    jobs = []
    for n_trials in (6, 6, 11):
        evaluate = Evaluate(lambda job: (float(job["a"]),))
        search = Search(own, Settings(sampler, storage=storage, n_trials=n_trials, batch_size=3), "same")
        run(search, evaluate)
        jobs.append(evaluate.jobs)
        assert len(search.finished) == n_trials
    assert not jobs[1]
    assert jobs[0]
    assert jobs[2]
    assert not set(jobs[0]) & set(jobs[2])  # a point that is known is not run again


def test_same_seed_same_points_and_going_on_draws_others() -> None:
    def points(seed: int) -> list[tuple[str, ...]]:
        evaluate = Evaluate(lambda job: (float(job["a"]),))
        settings = Settings({**TPE, "seed": seed}, n_trials=15)
        run(Search(space("a=interval(0,1)"), settings, "id"), evaluate)
        return evaluate.jobs

    assert points(1) == points(1)
    assert points(1) != points(2)
    first, later = make_sampler(RANDOM, 0), make_sampler(RANDOM, 5)
    study = optuna.create_study()
    one = FloatDistribution(0, 1)
    drawn = [s.sample_independent(study, study.ask()._get_latest_trial(), "a", one) for s in (first, later)]
    assert drawn[0] != drawn[1]


def test_points_of_a_killed_process_are_tried_again(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    code = (
        "import os\n"
        "from hydra.core.override_parser.overrides_parser import OverridesParser\n"
        "from anomaly_sweep.sweep.search.space import parse_space\n"
        "from anomaly_sweep.sweep.search.settings import Settings\n"
        "from anomaly_sweep.sweep.search.study import Search\n"
        "space = parse_space({}, ['a=interval(0,1)'], OverridesParser.create())\n"
        f"settings = Settings({TPE!r}, storage={storage!r}, n_trials=6, batch_size=3)\n"
        "def die(jobs):\n"
        "    print(*[job[0] for job in jobs], flush=True)\n"
        "    os._exit(9)\n"
        "Search(space, settings, 'same').step(die)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == 9, killed.stderr
    in_flight = set(killed.stdout.split())
    assert len(in_flight) == 3
    evaluate = Evaluate(lambda job: (float(job["a"]),))
    search = Search(
        space("a=interval(0,1)"), Settings(TPE, storage=storage, n_trials=6, batch_size=3), "same"
    )
    run(search, evaluate)
    assert in_flight < {job[0] for job in evaluate.jobs}
    assert len(search.finished) == 6
    assert not search.study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])


def test_another_search_under_the_same_name_is_refused(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"

    def search(*arguments: str, **settings: Any) -> Search:
        return Search(
            space(*arguments), Settings(RANDOM, storage=storage, study_name="s", n_trials=2, **settings), "id"
        )

    run(search("a=1,2"), Evaluate(lambda job: (0.0,)))
    for message, make in (
        ("has other choices for a", lambda: search("a=1,3")),
        ("searches a, not b", lambda: search("b=1,2")),
        ("has the directions", lambda: search("a=1,2", direction="minimize")),
    ):
        with pytest.raises(ConfigError, match=f"{message}.*choose another hydra.sweeper.study_name"):
            make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials=0"),
        ({"batch_size": 0}, "hydra.sweeper.batch_size=0"),
        ({"direction": "up"}, "hydra.sweeper.direction=up is not allowed"),
        ({"direction": ["maximize", "minimize"]}, "has 2 entries for 1 objectives"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(TPE, **settings)


def test_wrong_samplers_and_storages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"optuna.samplers.Tpe cannot be made"):
        make_sampler({"_target_": "optuna.samplers.Tpe"}, 0)
    with pytest.raises(ConfigError, match=r"choose its option: hydra/sweeper/sampler=cmaes"):
        make_sampler("cmaes", 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"cannot be made .*sed"):
        make_sampler({"_target_": "optuna.samplers.TPESampler", "sed": 1}, 0)
    with pytest.raises(ConfigError, match=r"hydra.sweeper.storage=foo cannot be used"):
        Search(space("a=1,2"), Settings(TPE, storage="foo"), "id")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package cmaes: pip install cmaes"):
        make_sampler({"_target_": "optuna.samplers.CmaEsSampler", "seed": 0}, 0)
