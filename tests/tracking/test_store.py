"""Where runs and their artifacts go, and what the code that wrote them was."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from anomaly_sweep.config import TrackingConf, parse_node
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.reader import Reader
from anomaly_sweep.tracking.source import revisions
from anomaly_sweep.tracking.store import _location, quiet
from anomaly_sweep.tracking.writer import Recorder
from multirun_analysis.cli import _parser


def test_a_server_chooses_the_place_of_its_artifacts() -> None:
    server = "http://127.0.0.1:5000"
    assert _location(TrackingConf(uri=server)) is None
    assert _location(TrackingConf(uri="databricks")) is None
    assert _location(TrackingConf(uri=server, artifacts="s3://bucket/x")) == "s3://bucket/x"
    assert _location(TrackingConf(uri=server, artifacts="/shared/x")) == "file:///shared/x"
    with pytest.raises(TrackingError, match=r"artifacts=mine would be a folder of this machine"):
        _location(TrackingConf(uri=server, artifacts="mine"))


def test_without_a_server_artifacts_are_beside_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path.as_uri()
    assert _location(TrackingConf()) == f"{here}/mlartifacts"
    assert _location(TrackingConf(uri=f"sqlite:///{tmp_path}/a/m.db")) == f"{here}/a/mlartifacts"
    assert _location(TrackingConf(uri="postgresql://host/db")) == f"{here}/mlartifacts"
    assert _location(TrackingConf(artifacts="x")) == f"{here}/x"


@pytest.mark.parametrize(
    ("set_to", "uri", "experiment"),
    [
        (None, "sqlite:///mlflow.db", "anomaly_sweep"),
        ("", "sqlite:///mlflow.db", "anomaly_sweep"),
        ("sqlite:///x.db", "sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_mlflows_variables_are_the_defaults(
    set_to: str | None, uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        if set_to is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, set_to)
    node = OmegaConf.load(config_folder() / "tracking" / "mlflow.yaml")
    conf: TrackingConf = parse_node("tracking", node)
    assert (conf.uri, conf.experiment) == (uri, experiment)
    args = _parser().parse_args(["trials", "--out", "x.csv"])
    assert (args.tracking_uri, args.experiment) == (uri, experiment if set_to else None)
    args = _parser().parse_args(["ui"])
    assert (args.tracking_uri, args.experiment) == (uri, experiment)
    given = _parser().parse_args(["ui", "--tracking-uri", "http://h", "--experiment", "e"])
    assert (given.tracking_uri, given.experiment) == ("http://h", "e")


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    before = dict(os.environ)
    with quiet():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
        assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"
    assert dict(os.environ) == before


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=600
    )
    return done.stdout.strip()


def repository(folder: Path) -> str:
    """A repository with one file; its commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    (folder / "file").write_text("1")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@needs_git
def test_a_package_installed_in_a_users_repository_has_no_revision_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "user" / ".venv" / "site-packages" / "anomaly_sweep"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    commit = repository(tmp_path / "user")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert revisions(package, elsewhere) == {}
    assert revisions(package, tmp_path / "user") == {
        names.TAG_SOURCE_GIT: commit,
        names.TAG_SOURCE_GIT_DIRTY: "false",
    }


@needs_git
def test_a_checkout_of_this_project_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "checkout" / "anomaly_sweep"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "checkout" / "pyproject.toml").write_text('[project]\nname = "anomaly-sweep"\n')
    commit = repository(tmp_path / "checkout")
    theirs = repository(tmp_path / "user")
    (tmp_path / "user" / "file").write_text("2")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "user" / ".git"))  # as in a hook
    assert revisions(package, tmp_path / "user") == {
        names.TAG_GIT: commit,
        names.TAG_GIT_DIRTY: "false",
        names.TAG_SOURCE_GIT: theirs,
        names.TAG_SOURCE_GIT_DIRTY: "true",
    }
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "checkout" / "pyproject.toml").write_text('[project]\nname = "fork-of-another"\n')
    assert names.TAG_GIT not in revisions(package, tmp_path)


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revisions(Path(__file__).parent, tmp_path) == {}


def test_one_relative_uri_in_two_folders_is_two_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, as in a notebook: MLflow itself goes on in the first folder's file."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Recorder(TrackingConf(uri="sqlite:///mlflow.db", experiment=folder))
        assert folder in Reader.open("sqlite:///mlflow.db").experiments()
        other = Reader.open(f"sqlite:///{tmp_path / folder}/mlflow.db")
        assert set(other.experiments()) - {"Default"} == {folder}
