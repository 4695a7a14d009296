"""What the code was: this project's revision from its own checkout, and the launch folder's apart from it."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

from anomaly_sweep.tracking import names

_SECONDS = 10.0


def revisions(package: Path, launched_in: Path) -> dict[str, str]:
    """Tags of git revisions, as far as there are any.

    Parameters
    ----------
    package : Path
        Folder of this package. A repository that it was only installed into (a virtual environment inside a
        user's project) says nothing about it: its top has to be this project's own.
    launched_in : Path
        A folder of the user's; the names of its tags are MLflow's.
    """
    tags: dict[str, str] = {}
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is not None and Path(top).resolve() == package.resolve().parent and _is_this_project(Path(top)):
        tags |= _revision(package, names.TAG_GIT, names.TAG_GIT_DIRTY)
    return tags | _revision(launched_in, names.TAG_SOURCE_GIT, names.TAG_SOURCE_GIT_DIRTY)


def _is_this_project(top: Path) -> bool:
    try:
        project = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(project.get("project", {}).get("name", "").replace("-", "_") == "anomaly_sweep")


def _revision(folder: Path, commit_tag: str, dirty_tag: str) -> dict[str, str]:
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {commit_tag: commit} | ({} if changes is None else {dirty_tag: str(changes != "").lower()})


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says of a folder, whatever repository the environment names; None if it says nothing."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
