"""What a configuration's run holds: its tags, params and metrics, from its per-class rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_sweep import __version__
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.source import revisions

Rows = list[dict[str, Any]]

_LIBRARIES = ("torch", "timm", "scikit-learn", "numpy", "hydra-core", "mlflow")
#: What MLflow's columns hold. SQLite does not mind more, other databases do.
_NAME_LENGTH = 250
_TAG_LENGTH = 8000

#: Metric columns of a run's per-class table -> their headings.
_SHOWN = {
    "image_auroc": "image AUROC",
    "image_auroc_sd": "its SD of seeds",
    "image_ap": "AP",
    "image_f1max": "F1max",
    "image_fpr95": "FPR95",
    "pixel_auroc": "pixel AUROC",
    "pixel_auroc_sd": "its SD of seeds",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1max",
    "aupro": "AUPRO",
    "aupro_sd": "its SD of seeds",
    "au_spro": "AU-sPRO",
    "au_spro_logical": "of logical",
    "au_spro_structural": "of structural anomalies",
}


class UsedData(NamedTuple):
    """A data set that trials were applied to; ``categories``: name -> digest of its data."""

    name: str
    root: str
    categories: dict[str, str]


def used_data(rows: Rows) -> list[UsedData]:
    """The data sets of rows, each with its categories."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        digests = found.setdefault((str(row["dataset"]), str(row.get("root"))), {})
        digests.setdefault(row["category"], row.get("data") or "")
    return [UsedData(*place, digests) for place, digests in found.items()]


@dataclass(frozen=True)
class ConfigurationRun:
    """All there is to record of one configuration.

    Parameters
    ----------
    labels, context : mapping of str to str
        The params: the configuration's choices, then what they were applied to.
    rows : list of dict
        One per category, keys as ``names.TRIAL_COLUMNS``. Whoever records it fills in ``run_id``.
    fingerprint : str
        Identity of the configuration.
    sweep : str
    parent : str or None
        Run id of the sweep.
    config : mapping
        The whole configuration.
    warning : str or None
    files : mapping of str to Path
        Further artifacts: path in the run -> local file.
    replaces : str or None
        Run id of an earlier record of the same configuration, which is taken back.
    """

    labels: Mapping[str, str]
    context: Mapping[str, str]
    rows: Rows
    fingerprint: str
    sweep: str
    parent: str | None
    config: Mapping[str, Any]
    warning: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    replaces: str | None = None

    @property
    def name(self) -> str:
        """The choices in one line."""
        return " · ".join(self.labels.values())[:_NAME_LENGTH]

    @property
    def status(self) -> str:
        """``FAILED`` unless there is a mean."""
        return "FAILED" if mean_auc(self.rows) is None else "FINISHED"

    @property
    def params(self) -> dict[str, str]:
        """The choices, what they were applied to, and the choices that are numbers."""
        numbers = {name: f"{value:.10g}" for name, value in numbers_of(self.labels).items()}
        return {**self.labels, **self.context, **numbers}

    @property
    def seconds(self) -> float:
        """What its trials took: fit, score, maps, the backbone on the test images."""
        return math.fsum(row[total] or 0.0 for total in names.TOTALS for row in self.rows)

    @cached_property
    def tags(self) -> dict[str, str]:
        """Tags, the per-class table as Markdown among them."""
        headline = self.name if self.warning is None else f"{self.name}\n\n**{self.warning}**"
        tags = {
            **common_tags(),
            names.TAG_KIND: names.KIND_CONFIGURATION,
            names.TAG_FINGERPRINT: self.fingerprint,
            names.TAG_SWEEP: self.sweep,
            names.TAG_NOTE: per_class_note(self.rows, headline)[:_TAG_LENGTH],
        }
        if self.warning is not None:
            tags[names.TAG_WARNING] = self.warning
        if self.parent is not None:
            tags[names.TAG_PARENT] = self.parent
        return tags

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Values a category and means, the number of failed trials, seconds in all."""
        values: dict[str, float] = {}
        for column, prefix in names.PREFIXES.items():
            values |= {
                prefix + row["category"]: float(row[column]) for row in self.rows if row[column] is not None
            }
            mean = mean_of(self.rows, column)
            if mean is not None:
                values[prefix + names.MEAN] = mean
        values[names.FAILED_TRIALS] = float(sum(row["status"] != names.STATUS_OK for row in self.rows))
        for total in names.TOTALS:
            always = total in (names.FIT_SECONDS, names.SCORE_SECONDS)
            if always or any(row[total] is not None for row in self.rows):
                values[total] = math.fsum(row[total] or 0.0 for row in self.rows)
        return values


#: Label -> its number; one with changed settings has none.
_NUMBERS = {
    "level": ("layer", re.compile(r"level(\d+)")),
    "rate": ("pca_mode", re.compile(r"n?pca([\d.]+)")),
    "k": ("estimator", re.compile(r"knn(\d+)")),
}


def numbers_of(labels: Mapping[str, Any]) -> dict[str, float]:
    """Choices that are numbers (``names.NUMBERS``); no reduction keeps 100 percent."""
    found = {}
    for name, (group, pattern) in _NUMBERS.items():
        match = pattern.fullmatch(str(labels.get(group)))
        if match is not None:
            found[name] = float(match[1])
    if labels.get("pca_mode") == "none":
        found["rate"] = 100.0
    return found


@cache
def common_tags() -> dict[str, str]:
    """Tags of every run: versions, and git revisions where there are any."""
    found = []
    for library in _LIBRARIES:
        try:
            found.append(f"{library}=={version(library)}")
        except PackageNotFoundError:
            continue
    tags = {names.TAG_VERSION: __version__, names.TAG_VERSIONS: ", ".join(found)}
    return tags | revisions(Path(__file__).parent.parent, Path.cwd())


def per_class_note(rows: Rows, headline: str) -> str:
    """The per-class table as Markdown, which the run's page in the UI draws."""
    shown = {c: t for c, t in _SHOWN.items() if c == "image_auroc" or any(r[c] is not None for r in rows)}
    head = ["category", *shown.values(), "train", "test", "note"]
    lines = [headline, "", markdown_row(head), markdown_row(["---"] * len(head))]
    for row in sorted(rows, key=lambda r: r["category"]):
        figures = ["-" if row[column] is None else f"{row[column]:.4f}" for column in shown]
        sizes = [str(row[key]) if row[key] is not None else "" for key in ("n_train", "n_test")]
        reason = str(row["reason"]).replace("|", "\\|").replace("\n", " ")
        lines.append(markdown_row([row["category"], *figures, *sizes, reason]))
    means = [mean_of(rows, column) for column in shown]
    bold = ["**-** (a mean needs every category)" if m is None else f"**{m:.4f}**" for m in means]
    lines.append(markdown_row(["**mean**", *bold, "", "", ""]))
    return "\n".join(lines)


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def mean_of(rows: Rows, column: str) -> float | None:
    """Mean of a column over the categories; None if one of them is missing."""
    values = [row[column] for row in rows]
    return None if not values or None in values else math.fsum(values) / len(values)


def mean_auc(rows: Rows) -> float | None:
    """Mean image AUROC over the categories; None if one of them is missing."""
    return mean_of(rows, "image_auroc")
