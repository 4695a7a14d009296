"""Optuna's ask and tell in batches: what to run next, and what it gave."""

from __future__ import annotations

import dataclasses
import os
import socket
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from anomaly_sweep.errors import ConfigError
from anomaly_sweep.sweep.search.settings import Settings, make_sampler
from anomaly_sweep.sweep.search.space import Space
from anomaly_sweep.tracking.sqlite import sqlite_path
from anomaly_sweep.tracking.state import State, changed, in_words

#: What a job came to: a value for each objective, or why there is none.
Result = tuple[float, ...] | str
Evaluate = Callable[[list[list[str]]], list[Result]]

REASON = "reason"
_OWNER = "anomaly_sweep.owner"
_INTERRUPTED = "anomaly_sweep.interrupted"
_ABOUT = "anomaly_sweep.about"


@dataclass(frozen=True)
class About:
    """What a study's values are of, beside what it searches: a study goes on only with the same.

    Attributes
    ----------
    config : str
        Fingerprint of the config that jobs start from.
    fixed : mapping of str to str
        Key -> override that every job has.
    objectives : sequence of str
    data : State
    """

    config: str
    fixed: Mapping[str, str]
    objectives: Sequence[str]
    data: State

    def difference(self, other: Mapping[str, Any]) -> str:
        """In what an earlier study (as ``asdict``) differs; empty if it does not."""
        if list(self.objectives) != other["objectives"]:
            return f"looks for {', '.join(other['objectives'])}, not {', '.join(self.objectives)}"
        then, now = other["fixed"], self.fixed
        for key in dict.fromkeys([*then, *now]):
            if then.get(key) != now.get(key):
                return f"has {then.get(key, f'no {key}')}, not {now.get(key, f'no {key}')}"
        differs = changed(other["data"], self.data)
        if differs:
            return f"is about other images (changed since: {in_words(differs)})"
        return "starts from another config" if self.config != other["config"] else ""


@dataclass
class Search:
    """A study and the space it is about.

    Parameters
    ----------
    space : Space
    settings : Settings
    identity : str
        Fingerprint of what is searched on what; names the study where the settings do not.
    about : About or None
        Kept with the study, and compared where it goes on.

    Raises
    ------
    ConfigError
        If the storage, the sampler or the study that is there already cannot be used.
    """

    space: Space
    settings: Settings
    identity: str
    about: About | None = None
    failures: dict[tuple[str, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings = self.settings
        self.name = settings.study_name or f"search-{self.identity[:12]}"
        # Made here first: a wrong sampler must not leave an empty study behind.
        make_sampler(settings.sampler, 0)
        self._grid = self.space.grid() if settings.is_grid else None
        try:
            _prepare(settings.storage)
            self.study = optuna.create_study(
                storage=settings.storage,
                study_name=self.name,
                directions=[StudyDirection[direction.upper()] for direction in settings.directions],
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy, its drivers and Optuna each raise their own
            raise ConfigError(
                f"hydra.sweeper.storage={settings.storage} cannot be used ({str(error).splitlines()[0]}); "
                "give a database URL such as sqlite:///optuna.db"
            ) from error
        self._check_same()
        self._take_over_interrupted()
        self.study.sampler = make_sampler(settings.sampler, len(self.study.trials))
        self._values = {
            tuple(self.space.job(trial.params)): tuple(trial.values)
            for trial in self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        }

    @property
    def total(self) -> int:
        """Trials the study will have."""
        return self.settings.n_trials if self._grid is None else min(self.settings.n_trials, len(self._grid))

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that are over, failed ones too."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.FAIL])
        return [trial for trial in trials if _INTERRUPTED not in trial.user_attrs]

    def best(self) -> list[FrozenTrial]:
        """The best trial, or with several objectives those that no other beats in all of them."""
        if len(self.settings.objectives) > 1:
            return sorted(self.study.best_trials, key=lambda trial: trial.number)
        try:
            return [self.study.best_trial]
        except ValueError:  # none is complete
            return []

    def step(self, evaluate: Evaluate) -> bool:
        """Run one batch; False if there was nothing left to do.

        A point that the study has seen already is told what it gave then.
        """
        left = self.total - len(self.finished)
        if left <= 0:
            return False
        trials = self._ask(min(left, self.settings.batch_size))
        jobs = {trial.number: tuple(self.space.job(trial.params)) for trial in trials}
        new = [
            job
            for job in dict.fromkeys(jobs.values())
            if job not in self._values and job not in self.failures
        ]
        for job, result in zip(new, evaluate([list(job) for job in new]) if new else [], strict=True):
            if isinstance(result, str):
                self.failures[job] = result
            else:
                self._values[job] = result
        for trial in trials:
            job = jobs[trial.number]
            if job in self._values:
                self.study.tell(trial, self._values[job])
            else:
                trial.set_user_attr(REASON, self.failures[job])
                self.study.tell(trial, state=TrialState.FAIL)
        return True

    def _ask(self, count: int) -> list[Trial]:
        if self._grid is not None:
            seen = {self._point(trial) for trial in self.finished}
            for point in [p for p in self._grid if tuple(self.space.job(p)) not in seen][:count]:
                self.study.enqueue_trial(point, skip_if_exists=False)
        trials = []
        for _ in range(count):
            trial = self.study.ask(self.space.params)
            trial.set_user_attr(_OWNER, f"{socket.gethostname()}:{os.getpid()}")
            trials.append(trial)
        return trials

    def _point(self, trial: FrozenTrial) -> tuple[str, ...]:
        return tuple(self.space.job(trial.params))

    def _check_same(self) -> None:
        found = [direction.name.lower() for direction in self.study.directions]
        this = f"the study {self.name} in {self.settings.storage}"
        hint = "choose another hydra.sweeper.study_name"
        if found != self.settings.directions:
            raise ConfigError(f"{this} has the directions {found}, not {self.settings.directions}; {hint}")
        self._check_about(this, hint)
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state is TrialState.WAITING:
                continue
            if set(trial.distributions) != set(self.space.params):
                raise ConfigError(
                    f"{this} searches {', '.join(trial.distributions)}, not {', '.join(self.space.params)}; "
                    f"{hint}"
                )
            for key, distribution in self.space.params.items():
                try:
                    check_distribution_compatibility(trial.distributions[key], distribution)
                except ValueError as error:
                    raise ConfigError(f"{this} has other choices for {key}; {hint}") from error

    def _check_about(self, this: str, hint: str) -> None:
        """Values of other images, or of another fixed choice, are no values of this search."""
        if self.about is None:
            return
        earlier = self.study.user_attrs.get(_ABOUT)
        if earlier is not None:
            differs = self.about.difference(earlier)
        else:
            done = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            differs = "does not say what its trials were about" if done else ""
        if differs:
            raise ConfigError(f"{this} {differs}; {hint}, or null for one named by what is searched")
        if earlier is None:
            self.study.set_user_attr(_ABOUT, dataclasses.asdict(self.about))

    def _take_over_interrupted(self) -> None:
        """Points that a process of this machine left unfinished when it was killed are tried again."""
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            host, _, process = str(trial.user_attrs.get(_OWNER, "")).partition(":")
            if host == socket.gethostname() and not _alive(int(process)):
                Trial(self.study, trial._trial_id).set_user_attr(_INTERRUPTED, True)
                self.study.tell(trial.number, state=TrialState.FAIL)
                if self._grid is None:
                    self.study.enqueue_trial(trial.params)


def _prepare(storage: str | None) -> None:
    """A SQLite file in WAL mode (kept in the file): Optuna commits several times a trial."""
    path = sqlite_path(storage) if storage is not None else None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=30)) as db:
            db.execute("PRAGMA journal_mode=WAL")


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # not to be told without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
