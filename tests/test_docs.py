"""README and site: links and anchors resolve, commands are ones the programs take, Python blocks run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

import anomaly_sweep
import multirun_analysis
from anomaly_sweep import compose
from anomaly_sweep.cli import cache, data
from anomaly_sweep.datasets.synthetic.generate import CARD
from multirun_analysis.cli import main as analysis

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: A page that is another file: where its links lead, and what its headings are.
INCLUDE = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
PROGRAMS = ("anomaly-sweep", "anomaly-sweep-data", "anomaly-sweep-cache", "multirun-analysis")
#: Of Hydra, not of a configuration. A launcher may be a package that is not installed here.
HYDRAS = ("hydra/", "hydra.")


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return INCLUDE.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), text)


def blocks(path: Path, *languages: str) -> list[str]:
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [
        re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        for indent, kind, body in found
        if kind in languages
    ]


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and Python-Markdown agree on it for what is used here."""
    plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain))


def anchors(path: Path) -> set[str]:
    prose = FENCE.sub("", text_of(path))
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}


def commands() -> list[str]:
    """The lines of all shell blocks that call one of the programs, each once, comments cut.

    Those of CONTRIBUTING.md are run by `tests/test_contributing.py`.
    """
    found: dict[str, None] = {}
    for path in PAGES:
        if path.name == "CONTRIBUTING.md":
            continue
        for body in blocks(path, "sh"):
            for line in body.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and Path(words[0]).name in PROGRAMS:
                    found[shlex.join([Path(words[0]).name, *words[1:]])] = None
    return list(found)


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_links_resolve(path: Path) -> None:
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    for link in (first or second for first, second in LINK.findall(prose)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in PAGES[2:]:
        assert f": {path.relative_to(ROOT / 'docs')}\n" in navigation, path


def test_every_picture_is_shown() -> None:
    shown = {Path(a or b).name for path in PAGES for a, b in LINK.findall(path.read_text(encoding="utf-8"))}
    pictures = [p for p in (ROOT / "docs").rglob("*") if p.suffix in {".png", ".svg"}]
    assert {p.name for p in pictures} <= shown
    assert sum(p.stat().st_size for p in pictures) < 3_000_000


@pytest.mark.parametrize("package", [anomaly_sweep, multirun_analysis], ids=lambda p: str(p.__name__))
def test_the_reference_has_every_public_name(package: object) -> None:
    name: str = package.__name__  # type: ignore[attr-defined]
    text = (ROOT / "docs" / "api" / f"{name}.md").read_text(encoding="utf-8")
    documented = set(re.findall(rf"^::: {name}\.(\w+)$", text, re.MULTILINE))
    assert documented == {public for public in package.__all__ if public != "__version__"}  # type: ignore[attr-defined]


def test_there_are_commands_of_every_program() -> None:
    assert {command.split()[0] for command in commands()} == set(PROGRAMS)


@pytest.mark.parametrize("command", commands())
def test_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the line says is composed, or its arguments are read, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(command)
    if "--help" in words or "-sc" in words:
        return
    if program == "anomaly-sweep":
        composes(words)
    elif program == "multirun-analysis":
        # An argument that there is not ends in SystemExit; a database that is not there in an exit code.
        if words[0] == "ui":
            with pytest.raises(SystemExit) as ended:
                analysis([*words, "--help"])
            assert ended.value.code == 0
        else:
            assert analysis(words) == 2
            assert "mlflow.db" in capsys.readouterr().err
    else:
        assert (data if program == "anomaly-sweep-data" else cache).main(words) in {0, 1, 2}


def composes(words: list[str]) -> None:
    config_dir = None
    if "--config-dir" in words:
        place = words.index("--config-dir")
        config_dir = words[place + 1]
        del words[place : place + 2]
        for path in PAGES:
            for body in blocks(path, "yaml"):
                named = re.match(r"# (my_conf/\S+)\n", body)
                if named:
                    file = Path(named[1])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(body, encoding="utf-8")
    overrides = [word for word in words if word != "-m"]
    searched = "hydra/sweeper=optuna" in overrides
    kept = [
        word for word in overrides if not word.startswith(HYDRAS) and not (searched and "interval(" in word)
    ]
    if "experiment=ono_mori_grid" in kept:  # a part of it says as much
        groups = {word.partition("=")[0] for word in kept}
        kept += [part for part in ("pca_mode=npca50", "layer=level3") if part.partition("=")[0] not in groups]
    assert compose(*kept, config_dir=config_dir).configurations


@pytest.fixture(scope="module")
def session_folder(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples: features and runs are there for the next page.

    Small images stand in for the embedded data set, which takes long to draw.
    """
    folder = tmp_path_factory.mktemp("session")
    root = folder / "data" / "synthetic"
    shutil.copytree(tiny_dataset, root)
    asked = compose("dataset=synthetic").configurations[0].dataset.generate
    card = json.loads((root / CARD).read_text()) | asdict(asked)
    (root / CARD).write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(
    "path", [p for p in PAGES if blocks(p, "python") and p.name != "CONTRIBUTING.md"], ids=page_name
)
def test_python(path: Path, session_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session_folder)
    namespace: dict[str, object] = {}
    for body in blocks(path, "python"):
        exec(compile(body, page_name(path), "exec"), namespace)
