"""The single writer of a sweep's runs."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_sweep import __version__
from anomaly_sweep.config import TrackingConf
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.client import Rows, local_artifacts, open_client, retrying, timestamp

if TYPE_CHECKING:
    from mlflow.entities import Run

_LIBRARIES = ("torch", "timm", "scikit-learn", "numpy", "hydra-core", "mlflow")
_PAGE = 1000


@cache
def common_tags() -> dict[str, str]:
    """Tags of every run: versions and, in a checkout, the git revision."""
    found = []
    for library in _LIBRARIES:
        try:
            found.append(f"{library}=={version(library)}")
        except PackageNotFoundError:
            continue
    tags = {names.TAG_VERSION: __version__, names.TAG_VERSIONS: ", ".join(found)}
    here = Path(__file__).parent
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=False
        )
        if git.returncode == 0:
            tags[names.TAG_GIT] = git.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return tags


def per_class_note(rows: Rows, headline: str) -> str:
    """The per-class table as Markdown, which the run's page in the UI draws."""
    lines = [headline, "", "| category | image AUROC | train | test | note |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda r: r["category"]):
        auc = "-" if row["image_auroc"] is None else f"{row['image_auroc']:.4f}"
        sizes = [str(row[key]) if row[key] is not None else "" for key in ("n_train", "n_test")]
        reason = str(row["reason"]).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row['category']} | {auc} | {sizes[0]} | {sizes[1]} | {reason} |")
    mean = mean_auc(rows)
    shown = f"{mean:.4f}" if mean is not None else "- (a mean needs every category)"
    lines.append(f"| **mean** | **{shown}** | | | |")
    return "\n".join(lines)


def mean_auc(rows: Rows) -> float | None:
    """Mean AUROC over the categories; None if one of them is missing."""
    values = [row["image_auroc"] for row in rows]
    return None if not values or None in values else math.fsum(values) / len(values)


class Recorder:
    """Writes sweep and configuration runs.

    Parameters
    ----------
    tracking : TrackingConf

    Raises
    ------
    TrackingError
        If the store cannot be reached or written (here, and in every method).
    """

    def __init__(self, tracking: TrackingConf) -> None:
        self.tracking = tracking
        self.client, self.experiment = open_client(tracking)
        self._uris: dict[str, str] = {}  # run id -> where its artifacts are

    def start_sweep(self, name: str, identity: str, note: str, *, resume: bool) -> str:
        """The sweep's parent run: the latest one of the same identity when resuming, else a new one."""
        if resume:
            earlier = self._search(
                f"tags.`{names.TAG_KIND}` = '{names.KIND_SWEEP}' "
                f"and tags.`{names.TAG_FINGERPRINT}` = '{identity}'"
            )
            if earlier:
                run_id = str(earlier[0].info.run_id)
                retrying(lambda: self.client.update_run(run_id, status="RUNNING"), self.tracking.uri)
                return run_id
        tags = {
            **common_tags(),
            names.TAG_KIND: names.KIND_SWEEP,
            names.TAG_SWEEP: name,
            names.TAG_FINGERPRINT: identity,
            names.TAG_NOTE: note,
        }
        return self._create(name, tags)

    def sweep_name(self, run_id: str) -> str:
        """The name of a sweep's parent run."""
        run = retrying(lambda: self.client.get_run(run_id), self.tracking.uri)
        return str(run.data.tags[names.TAG_SWEEP])

    def recorded(self, parent: str) -> dict[str, tuple[str, str]]:
        """Configuration fingerprint -> (run id, status) of a sweep's child runs that were ended."""
        found: dict[str, tuple[str, str]] = {}
        for run in self._search(f"tags.`{names.TAG_PARENT}` = '{parent}'"):
            print_ = run.data.tags.get(names.TAG_FINGERPRINT)
            if print_ is not None and run.info.status != "RUNNING":
                found.setdefault(print_, (str(run.info.run_id), str(run.info.status)))
        return found

    def drop_unfinished(self, parent: str) -> None:
        """Take back child runs that a killed process had begun to write."""
        for run in self._search(f"tags.`{names.TAG_PARENT}` = '{parent}'"):
            if run.info.status == "RUNNING":
                self.drop(str(run.info.run_id))

    def drop(self, run_id: str) -> None:
        """Take back a run that is being replaced (MLflow keeps it as deleted)."""
        retrying(lambda: self.client.delete_run(run_id), self.tracking.uri)

    def record_configuration(
        self,
        *,
        labels: Mapping[str, str],
        context: Mapping[str, str],
        rows: Rows,
        fingerprint: str,
        sweep: str,
        parent: str | None,
        config: Mapping[str, Any],
        warning: str | None,
    ) -> str:
        """Write one configuration as one run. It is ended last: one left running was never finished.

        Parameters
        ----------
        rows : list of dict
            One per category, keys as ``names.TRIAL_COLUMNS`` (``run_id`` is filled in here).
        """
        from mlflow.entities import Metric, Param

        headline = " · ".join(labels[group] for group in names.GROUPS)
        note = per_class_note(rows, headline if warning is None else f"{headline}\n\n**{warning}**")
        tags = {
            **common_tags(),
            names.TAG_KIND: names.KIND_CONFIGURATION,
            names.TAG_FINGERPRINT: fingerprint,
            names.TAG_SWEEP: sweep,
            names.TAG_NOTE: note,
        }
        if warning is not None:
            tags[names.TAG_WARNING] = warning
        if parent is not None:
            tags[names.TAG_PARENT] = parent
        run_id = self._create(headline, tags)
        for row in rows:
            row["run_id"] = run_id
        now = timestamp()
        values = {
            names.AUC_PREFIX + r["category"]: r["image_auroc"] for r in rows if r["image_auroc"] is not None
        }
        mean = mean_auc(rows)
        if mean is not None:
            values[names.AUC_MEAN] = mean
        values[names.FAILED_TRIALS] = sum(row["status"] != names.STATUS_OK for row in rows)
        for total in (names.FIT_SECONDS, names.SCORE_SECONDS):
            values[total] = math.fsum(row[total] or 0.0 for row in rows)
        metrics = [Metric(key, float(value), now, 0) for key, value in values.items()]
        params = [Param(key, value) for key, value in {**labels, **context}.items()]
        self.log_json(run_id, names.PER_CLASS_TABLE, rows)
        self.log_json(run_id, "config.json", config)
        retrying(lambda: self.client.log_batch(run_id, metrics=metrics, params=params), self.tracking.uri)
        self.finish(run_id, failed=mean is None)
        return run_id

    def log_long_table(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The sweep's long table as Parquet on its parent run."""
        import pandas as pd

        frame = pd.DataFrame(list(rows), columns=list(names.TRIAL_COLUMNS))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / names.LONG_TABLE
            frame.to_parquet(path, index=False)
            retrying(lambda: self.client.log_artifact(run_id, str(path)), self.tracking.uri)

    def log_json(self, run_id: str, name: str, content: Any) -> None:
        """A JSON artifact."""
        folder = local_artifacts(self._artifact_uri(run_id))
        text = json.dumps(content, indent=1)
        if folder is not None:  # a file is a file: MLflow's copy of a temporary one costs ten times more
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            return
        retrying(lambda: self.client.log_text(run_id, text, name), self.tracking.uri)

    def rows_of(self, parent: str) -> Rows:
        """The per-class rows of a sweep's child runs, read back."""
        rows: Rows = []
        for run_id, _status in self.recorded(parent).values():
            rows.extend(self.read_rows(run_id))
        return rows

    def read_rows(self, run_id: str) -> Rows:
        """The per-class rows of one run."""
        folder = local_artifacts(self._artifact_uri(run_id))
        if folder is not None:
            path = folder / names.PER_CLASS_TABLE
        else:
            from mlflow.artifacts import download_artifacts

            path = Path(
                download_artifacts(
                    run_id=run_id, artifact_path=names.PER_CLASS_TABLE, tracking_uri=self.tracking.uri
                )
            )
        found: Rows = json.loads(path.read_text())
        return found

    def finish(self, run_id: str, *, failed: bool) -> None:
        """End a run."""
        status = "FAILED" if failed else "FINISHED"
        retrying(lambda: self.client.set_terminated(run_id, status), self.tracking.uri)

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = retrying(
            lambda: self.client.create_run(self.experiment, tags=dict(tags), run_name=name), self.tracking.uri
        )
        self._uris[str(run.info.run_id)] = str(run.info.artifact_uri)
        return str(run.info.run_id)

    def _artifact_uri(self, run_id: str) -> str:
        if run_id not in self._uris:
            run = retrying(lambda: self.client.get_run(run_id), self.tracking.uri)
            self._uris[run_id] = str(run.info.artifact_uri)
        return self._uris[run_id]

    def _search(self, query: str) -> list[Run]:
        """All runs that match, newest first, page by page."""
        runs: list[Run] = []
        token = None
        while True:
            search = partial(
                self.client.search_runs,
                [self.experiment],
                query,
                max_results=_PAGE,
                order_by=["start_time DESC"],
                page_token=token,
            )
            page = retrying(search, self.tracking.uri)
            for run in page:
                self._uris[str(run.info.run_id)] = str(run.info.artifact_uri)
            runs.extend(page)
            token = page.token
            if not token:
                return runs
