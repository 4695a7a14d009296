"""Relative paths count from the folder in which the command was launched (``hydra.job.chdir`` leaves it)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from anomaly_sweep.config.configuration import AnyConfiguration
from anomaly_sweep.config.groups import BackboneConf
from anomaly_sweep.config.runtime import RuntimeConf, TrackingConf

_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]+:", re.IGNORECASE)  # two letters at least: C:\ is a path
_FILE = "file:"


def anchored_configuration(configuration: AnyConfiguration, folder: Path) -> AnyConfiguration:
    """A configuration whose data set's root, and weight file if it is there, are taken from a folder."""
    dataset = configuration.dataset
    return replace(
        configuration,
        dataset=replace(dataset, root=_path(dataset.root, folder)),
        backbone=anchored_backbone(configuration.backbone, folder),
    )


def anchored_backbone(backbone: BackboneConf, folder: Path) -> BackboneConf:
    """A backbone whose weight file, if it is there, is taken from a folder."""
    weights = folder / Path(backbone.weights).expanduser()
    return replace(backbone, weights=str(weights) if weights.is_file() else backbone.weights)


def anchored_tracking(tracking: TrackingConf, folder: Path) -> TrackingConf:
    """Where runs go, with a SQLite file, a folder of runs and the artifacts' folder taken from a folder."""
    artifacts = tracking.artifacts
    return replace(
        tracking,
        uri=_uri(tracking.uri, folder),
        artifacts=artifacts if artifacts is None else _uri(artifacts, folder),
    )


def anchored_runtime(runtime: RuntimeConf, folder: Path) -> RuntimeConf:
    """How the work is done, with the cache (unless it is a URL) taken from a folder."""
    return replace(runtime, cache_dir=_uri(runtime.cache_dir, folder))


def _path(path: str, folder: Path) -> str:
    return str(folder / Path(path).expanduser())


def _uri(uri: str, folder: Path) -> str:
    """A URI, or a path, whose file is on this machine and relative: from a folder."""
    if uri.startswith(_SQLITE):
        file, mark, options = uri.removeprefix(_SQLITE).partition("?")
        if file in ("", ":memory:") or file.startswith("file:"):
            return uri
        return f"{_SQLITE}{folder / file}{mark}{options}"
    if uri.startswith(_FILE) and not uri.startswith(f"{_FILE}/"):
        return (folder / uri.removeprefix(_FILE)).as_uri()
    return uri if _SCHEME.match(uri) or uri in ("", "databricks") else _path(uri, folder)
