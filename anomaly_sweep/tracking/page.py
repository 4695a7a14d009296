"""The page of a sweep: what its parent run shows, from the rows of its long table. Values in, values out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.content import Rows, markdown_row, mean_auc, numbers_of

_BEST = 10
_TAG_LENGTH = 8000
_PARAM_LENGTH = 500
#: Columns whose values are the sweep's parameters.
_CHOICES = tuple(dict.fromkeys((*names.CONTEXT_PARAMS, "root", *names.GROUPS, *names.LOCALIZATION_GROUPS)))


class Point(NamedTuple):
    """One value of a curve."""

    key: str
    step: int
    value: float


@dataclass(frozen=True)
class Launch:
    """How a sweep was launched, and how long that took.

    Parameters
    ----------
    experiment : str
        The ``experiment=`` it was, or what stands for it.
    command : str
    seconds : float or None
        From its launch to its end.
    computed : int or None
        Trials computed in that time; None where other processes have computed them.
    """

    experiment: str
    command: str
    seconds: float | None = None
    computed: int | None = None


@dataclass(frozen=True)
class SweepPage:
    """A sweep at its end.

    Parameters
    ----------
    name : str
    rows : list of dict
        Of its long table.
    launch : Launch
    """

    name: str
    rows: Rows
    launch: Launch
    _runs: dict[str, Rows] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            self._runs.setdefault(row["run_id"], []).append(row)

    @property
    def params(self) -> dict[str, str]:
        """The experiment and every choice that its configurations make."""
        params = {"experiment": self.launch.experiment}
        for column in _CHOICES:
            values = _values(self.rows, column)
            if values:
                params[column] = _listed(values)
        categories = _values(self.rows, "category")
        return {**params, "categories": _listed(categories)}

    @property
    def metrics(self) -> dict[str, float]:
        """Best and median mean AUROC, how much there is, how long it took."""
        aucs = list(self._aucs().values())
        values = {
            names.CONFIGURATIONS: float(len(self._runs)),
            names.TRIALS: float(len(self.rows)),
            names.FAILED_TRIALS: float(sum(row["status"] != names.STATUS_OK for row in self.rows)),
        }
        if aucs:
            values |= {names.BEST_AUC: max(aucs), names.MEDIAN_AUC: statistics.median(aucs)}
        seconds, computed = self.launch.seconds, self.launch.computed
        if seconds and computed != 0:  # nothing was computed: an earlier launch's figures say more
            values[names.SECONDS] = seconds
            if computed is not None:
                values[names.TRIALS_PER_SECOND] = computed / seconds
        return values

    @property
    def curves(self) -> list[Point]:
        """Mean AUROC over the levels and over the rates, of all configurations that have a value there.

        A curve is one backbone's on one data set: over levels of each estimator, over rates of PCA and of
        NPCA; over numbers of training images without contamination, and over percent of contamination of all
        training images. Levels and rates are those of all training images as they are, if there are such.
        """
        found: dict[tuple[str, int], list[float]] = {}
        aucs = self._aucs()
        several = len(_values(self.rows, "dataset")) > 1
        whole = [run_id for run_id in aucs if not _is_subset(self._runs[run_id][0])]
        for run_id, auc in aucs.items():
            row = self._runs[run_id][0]
            own = f"{row['dataset']}/{row['backbone']}" if several else row["backbone"]
            images, share = row.get("train_images"), row.get("contamination")
            if images is not None and share is None:
                found.setdefault((f"{names.BY_TRAIN_IMAGES}{own}", int(images)), []).append(auc)
            if images is None and len(whole) < len(aucs):
                percent = round(100 * (share or 0))
                found.setdefault((f"{names.BY_CONTAMINATION}{own}", percent), []).append(auc)
            if whole and _is_subset(row):
                continue
            numbers = numbers_of(row)
            if "level" in numbers:
                key = f"{names.BY_LEVEL}{own}/{row['estimator']}"
                found.setdefault((key, int(numbers["level"])), []).append(auc)
            rate = numbers.get("rate")
            if rate is not None and rate.is_integer() and row["pca_mode"] != "none":
                mode = "npca" if row["pca_mode"].startswith("npca") else "pca"
                key = f"{names.BY_RATE}{own}/{mode}"
                found.setdefault((key, int(rate)), []).append(auc)
        steps: dict[str, int] = {}
        for key, _ in found:
            steps[key] = steps.get(key, 0) + 1
        return [
            Point(_metric_name(key), step, math.fsum(values) / len(values))
            for (key, step), values in sorted(found.items())
            if steps[key] > 1
        ]

    def note(self, experiment_id: str) -> str:
        """The description as Markdown: figures, the best configurations with links, how to run it again."""
        figures = self.metrics
        head = f"{len(self._runs)} configurations, {len(self.rows)} trials"
        failed = int(figures[names.FAILED_TRIALS])
        lines = [f"`{self.launch.command}`", "", f"{head}, {failed} failed" if failed else head]
        best = sorted(self._aucs().items(), key=lambda item: -item[1])[:_BEST]
        if best:
            rows = {run_id: self._runs[run_id][0] for run_id, _ in best}
            shown = [
                column
                for column in _CHOICES
                if len(_values(self.rows, column)) > 1 and not self._by_backbone(column)
            ]
            lines += [
                "",
                f"Best mean image AUROC (median {figures[names.MEDIAN_AUC]:.4f}), chosen on test images:",
            ]
            lines += ["", markdown_row(["AUROC", *shown]), markdown_row(["---"] * (1 + len(shown)))]
            for run_id, auc in best:
                link = f"[{auc:.4f}](#/experiments/{experiment_id}/runs/{run_id})"
                own = (rows[run_id].get(column) for column in shown)
                lines.append(markdown_row([link, *("" if value is None else str(value) for value in own)]))
        lines += ["", "Run again (what is known is not computed again), and its tables:", ""]
        tables = f"multirun-analysis tables --sweep {self.name} --out results"
        lines += ["```", self.launch.command, tables, "```"]
        return "\n".join(lines)[:_TAG_LENGTH]

    def _by_backbone(self, column: str) -> bool:
        """Whether the backbone settles a context column, such as its weights, which then says nothing new."""
        if column not in names.CONTEXT_PARAMS:
            return False
        pairs = {(row.get("backbone"), row.get(column)) for row in self.rows}
        return len(pairs) == len({backbone for backbone, _ in pairs})

    def _aucs(self) -> dict[str, float]:
        """Run id -> mean AUROC of the configurations that have one."""
        means = {run_id: mean_auc(rows) for run_id, rows in self._runs.items()}
        return {run_id: mean for run_id, mean in means.items() if mean is not None}


def varying(runs: Iterable[Mapping[str, str]], columns: Sequence[str]) -> list[str]:
    """Those params that are not the same in all runs; a list of several values varies by itself."""
    params = list(runs)
    return [
        column
        for column in columns
        if len({run.get(column) for run in params}) > 1 or any(", " in run.get(column, "") for run in params)
    ]


def _is_subset(row: Mapping[str, Any]) -> bool:
    return any(row.get(name) is not None for name in names.SUBSET_PARAMS)


def _values(rows: Rows, column: str) -> list[Any]:
    """The distinct values of a column, in their order."""
    return list(dict.fromkeys(row[column] for row in rows if row.get(column) is not None))


def _listed(values: Sequence[Any]) -> str:
    text = ", ".join(map(str, values))
    return text if len(text) <= _PARAM_LENGTH else f"{len(values)}: {text[: _PARAM_LENGTH - 10]}..."


def _metric_name(key: str) -> str:
    """A key as MLflow takes it."""
    return "".join(sign if sign.isalnum() or sign in "_-./ " else "_" for sign in key)
