"""What a sweep ends with: its best configurations, how to run the best one again, and where to look."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly_sweep import terminal
from anomaly_sweep.config import (
    OBJECTIVES,
    RANDOM,
    AnyConfiguration,
    TrackingConf,
)
from anomaly_sweep.tasks import task_of

_BEST = 5
_SELECTED = "chosen on the test images: the best of many looks better than it is"
_RANDOM = "random weights: these numbers say nothing about ImageNet features"
#: Options of Hydra that say where configs are found.
_WHERE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")


@dataclass(frozen=True)
class Candidate:
    """A configuration that has what the sweep was for.

    Parameters
    ----------
    configuration : Configuration
    overrides : sequence of str
        Of its job.
    value : float
        The (first) objective.
    """

    configuration: AnyConfiguration
    overrides: Sequence[str]
    value: float

    @property
    def labels(self) -> dict[str, str]:
        """What it is, and what it was applied to."""
        own = self.configuration
        return {**own.labels, "task": own.task_label, "data set": own.dataset_label}


def summary(
    candidates: Sequence[Candidate],
    *,
    objective: str,
    failed: int,
    lost: int,
    sweep: str,
    tracking: TrackingConf,
    log_file: Path | None,
    width: int = terminal.UNLIMITED,
) -> str:
    """The end of a sweep in words.

    Parameters
    ----------
    candidates : sequence of Candidate
    objective : str
        What ``value`` is, of ``config.OBJECTIVES``: the higher the better, but for seconds.
    failed : int
        Configurations without a value.
    lost : int
        Trials that have failed in them.
    sweep : str
        Its name.
    width : int
        Columns of the terminal.
    """
    lines = []
    if candidates:
        lines += _ranking(candidates, objective, failed, lost, width)
    elif failed:
        lines.append(f"no configuration has a mean over all categories ({_failures(failed, lost)})")
    if candidates:
        lines += ["", "the best one again:", f"  {command(_sorted(candidates, objective)[0])}"]
    store = _store(tracking)
    paper = task_of(candidates[0].configuration).paper if candidates else "ono_mori"
    lines += ["the runs, in MLflow's UI:", f"  multirun-analysis ui{store}"]
    if paper is not None:
        options = f"--paper {paper} --sweep {shlex.quote(sweep)} --out results{store}"
        lines += ["the tables:", f"  multirun-analysis tables {options}"]
    if log_file is not None:
        lines += ["the log:", f"  {terminal.near(log_file)}"]
    return "\n".join(lines)


def _ranking(
    candidates: Sequence[Candidate], objective: str, failed: int, lost: int, width: int
) -> list[str]:
    ordered = _sorted(candidates, objective)
    labels = [candidate.labels for candidate in ordered]
    keys = list(dict.fromkeys(key for own in labels for key in own))
    varying = [key for key in keys if len({own.get(key) for own in labels}) > 1]
    common = [labels[0][key] for key in keys if key not in varying]
    many = len(ordered)
    what = "" if many + failed == 1 else f", best of {many + failed} configurations"
    lines = _wrapped(f"{_NAMES.get(objective, objective)}{what}", "", width)
    if many + failed > 1 and common:
        lines += _wrapped(f"all: {' · '.join(common)}", "", width)
    form = ".3f" if _least(objective) else ".4f"
    shown = ordered[:_BEST]
    values = [format(candidate.value, form) for candidate in shown]
    most = max(map(len, values))
    for value, own in zip(values, labels[:_BEST], strict=True):
        named = " · ".join(own[key] for key in varying or keys if key in own)
        lines += _wrapped(named, f"  {value:>{most}}  ", width)
    notes = []
    weights = [candidate.configuration.backbone.weights == RANDOM for candidate in shown]
    if any(weights):
        notes.append(_RANDOM if all(weights) else f"{sum(weights)} of these with {_RANDOM}")
    if failed:
        notes.append(f"incomplete: {_failures(failed, lost)}; no mean is shown for them")
    if not _least(objective) and many + failed > 1:
        notes.append(_SELECTED)
    for note in notes:
        lines += _wrapped(note, "  ! ", width)
    return lines


_NAMES = {"auc": "mean image AUROC", "pixel_auroc": "mean pixel AUROC", "aupro": "mean AUPRO"}


def _sorted(candidates: Sequence[Candidate], objective: str) -> list[Candidate]:
    """The best first; equals in the sweep's order."""
    return sorted(candidates, key=lambda one: one.value if _least(objective) else -one.value)


def _least(objective: str) -> bool:
    """Whether the lowest value is the best: seconds."""
    return OBJECTIVES[objective] == "minimize"


def _failures(failed: int, lost: int) -> str:
    configurations = "1 configuration has" if failed == 1 else f"{failed} configurations have"
    return f"{configurations} failed trials" + (f", {lost} in all" if lost else "")


def command(candidate: Candidate) -> str:
    """The shell command that runs a configuration again; its trials are known, so it shows its table."""
    given = iter(sys.argv[1:])
    where = []
    for argument in given:
        if argument in _WHERE:
            where += [argument, next(given, "")]
        elif argument.startswith(tuple(f"{option}=" for option in _WHERE if option.startswith("--"))):
            where.append(argument)
    # An experiment says what to sweep over: without -m there is nothing that could narrow it.
    many = ["-m"] if any(override.startswith("experiment=") for override in candidate.overrides) else []
    return shlex.join(["anomaly-sweep", *many, *where, *candidate.overrides])


def _store(tracking: TrackingConf) -> str:
    """Options of ``multirun-analysis`` for a store that is not the usual one."""
    usual = TrackingConf()
    options: Mapping[str, tuple[str, str]] = {
        "--tracking-uri": (tracking.uri, usual.uri),
        "--experiment": (tracking.experiment, usual.experiment),
    }
    return "".join(
        f" {name} {shlex.quote(own)}" for name, (own, default) in options.items() if own != default
    )


def _wrapped(text: str, head: str, width: int) -> list[str]:
    text = terminal.visible(text)
    available = max(20, width - len(head))
    lines = textwrap.wrap(text, available, break_on_hyphens=False) or [""]
    return [f"{head if i == 0 else ' ' * len(head)}{line}" for i, line in enumerate(lines)]
