"""Text on a terminal: other people's names are shown as they are, one line says what goes on."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from anomaly_sweep import terminal
from anomaly_sweep.launch.show import show_outcome
from anomaly_sweep.sweep.record.recording import Outcome
from anomaly_sweep.tracking import names

#: What a name can hold that rich, a terminal or a line would take for something else.
NAMES = (
    "knn1[aggregation=kth]",
    "mvg[shrinkage=oas]",
    "[/]",
    "[bold]loud[/bold]",
    "[link=https://example.org]here[/link]",
    "back\\[slash",
    "C:\\parts\\new",
    ":warning:",
    "[red]",
    "a]b[c",
    "flow[steps=100,betas=0.9+0.999]",
    "prüfling·ß",
    "部品",
)


class Screen(io.StringIO):
    """A terminal of so many columns."""

    def isatty(self) -> bool:
        return True


def outcome(category: str, label: str, *, localization: bool = False, failed: bool = False) -> Outcome:
    """An outcome of one category, with a label for every choice."""
    row: dict[str, Any] = dict.fromkeys(names.TRIAL_COLUMNS)
    row |= {"category": category, "weights": "pretrained", "input_size": 224, "reason": "[no] reason"}
    if not failed:
        row |= {"image_auroc": 0.98765, "n_train": 209, "n_test": 83, "n_features": 128}
        row |= {"fit_seconds": 1234.5678, "score_seconds": 0.5}
    if localization:
        row |= {"pixel_auroc": 0.91234, "aupro": 0.81234, "map_seconds": 1.0, "backbone_seconds": 12.3456}

    labels = {"backbone": label, "estimator": label}
    configuration: Any = SimpleNamespace(dataset_label=label, labels=labels)
    return Outcome(configuration, [row, dict(row, category="bolt")], "run[1]")


def printed(monkeypatch: pytest.MonkeyPatch, width: int | None, one: Outcome) -> str:
    stream = io.StringIO() if width is None else Screen()
    monkeypatch.setenv("COLUMNS", str(width or 80))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stream)
    show_outcome(one)
    return re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [None, 80, 200])
def test_names_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch, name: str, width: int | None) -> None:
    text = printed(monkeypatch, width, outcome(name, name))
    first = re.sub(r" *\n *", " ", text.split(" category")[0]).replace(" ", "")
    assert first.count(name) == 3  # the data set's name and both labels
    if width != 80 or len(name) <= 24:  # a longer one is folded
        assert name in text.split(" category")[1]


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 100, 200])
@pytest.mark.parametrize("category", ["b", "bottle", "a rather long name of a category " * 3, "x" * 90])
@pytest.mark.parametrize("localization", [False, True])
def test_a_table_fits_and_cuts_no_number(
    monkeypatch: pytest.MonkeyPatch, width: int, category: str, localization: bool
) -> None:
    text = printed(monkeypatch, width, outcome(category, "mvg", localization=localization))
    assert max(map(cell_len, text.splitlines())) <= width
    assert "0.9877" in text
    assert "…" not in text
    table, _, rest = text.partition("no room for:")
    rest = " ".join(rest.split())
    for heading, value in (("fit s", "1234.568"), ("AUPRO", "0.8123"), ("net s", "12.346")):
        assert value in table or heading in rest or not (localization or heading == "fit s")


def test_off_a_terminal_nothing_is_wrapped_cut_or_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    one = outcome("x" * 150, "label" * 40, localization=True)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    show_outcome(one)
    text = stream.getvalue()
    assert "x" * 150 in text
    assert "label" * 40 in text
    assert "12.346" in text
    assert "\x1b" not in text


def test_a_failed_trial_has_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, 80, outcome("bottle", "mvg", failed=True))
    assert text.count("failed") == 2
    assert re.search(r"mean +-", text)


@given(st.text(st.characters(), max_size=40))
def test_visible_text_cannot_act(text: str) -> None:
    shown = terminal.visible(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]", shown)
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines", "two\\nlines"),
        ("over\rwritten", "over\\rwritten"),
        ("be\x07ll", "be\\x07ll"),
        ("tab\tbed", "tab\\tbed"),
        ("nul\x00", "nul\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("bad\udcffname", "bad\\udcffname"),
        ("\x7f", "\\x7f"),
        ("plain ü 部 [x]\\", "plain ü 部 [x]\\"),
    ],
)
def test_known_control_characters(text: str, expected: str) -> None:
    assert terminal.visible(text) == expected


@given(st.text(max_size=60), st.integers(0, 40))
def test_a_line_fits(text: str, width: int) -> None:
    assert cell_len(terminal.fit(text, width)) <= width


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (11100, "3:05:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert terminal.clock(seconds) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_the_output_cannot_hold_does_not_end_a_command(encoding: str) -> None:
    code = "from anomaly_sweep import terminal; terminal.run(lambda: print('\\udcff · 部') or 0)"
    environment = dict(os.environ, PYTHONIOENCODING=encoding)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.startswith(b"\\udcff ")


class _Terminal:
    """Runs code with standard streams on a terminal of its own."""

    def __init__(self, code: str, **environment: str) -> None:
        master, slave = pty.openpty()
        env = {**os.environ, "COLUMNS": "60", "TERM": "xterm", **environment}
        process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=slave, stderr=slave)
        os.close(slave)
        received = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            received += chunk
        process.wait()
        os.close(master)
        self.text = received.decode()

    def lines(self) -> list[str]:
        """What is on the screen at the end."""
        screen: list[str] = []
        for row in self.text.split("\r\n"):
            shown = ""
            for part in row.split("\r"):
                body, erased, rest = part.partition("\x1b[K")
                shown = body + rest if erased else body + shown[len(body) :]
            screen.append(shown)
        return screen


_LIVE = """
import logging, sys
from anomaly_sweep import terminal
logging.basicConfig(stream=sys.stdout, format="%(message)s")
with terminal.busy("planning [bold]"):
    logging.warning("a line of the log")
    print("half a ", end="")
    print("printed line")
    for _ in terminal.counted(range(3), "images", 3):
        pass
    print("to the end", file=sys.stderr)
print("afterwards")
"""


def test_what_is_printed_stands_above_the_live_line() -> None:
    screen = _Terminal(_LIVE)
    assert "planning [bold] ... 0:00" in screen.text
    assert "images 0/3" in screen.text
    assert screen.lines() == ["a line of the log", "half a printed line", "to the end", "afterwards", ""]
    assert "\x1b[?25l" not in screen.text  # a killed process must not leave the cursor hidden


def test_a_dumb_terminal_gets_lines_only() -> None:
    screen = _Terminal(_LIVE, TERM="dumb")
    assert "\x1b" not in screen.text
    assert screen.lines() == ["a line of the log", "half a printed line", "to the end", "afterwards", ""]


def test_off_a_terminal_nothing_live_is_written() -> None:
    done = subprocess.run([sys.executable, "-c", _LIVE], capture_output=True, text=True, check=True)
    assert "\r" not in done.stdout + done.stderr
    assert "planning" not in done.stdout + done.stderr


def test_a_log_hears_of_long_work(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    for _ in terminal.counted(range(100), "reading", 100):
        now[0] += 2.0
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "reading: 10 of 100"
    assert len(told) == 9
    caplog.clear()
    for _ in terminal.counted(range(1000), "reading", 1000):
        now[0] += 6.1  # a hundredth takes a minute
    assert len(caplog.records) in range(95, 103)
    caplog.clear()
    for _ in terminal.counted(range(100), "reading", 100):
        now[0] += 0.01
    assert not caplog.records


def test_a_folder_with_markup_in_its_name(tiny_dataset: Path, tmp_path: Path) -> None:
    from anomaly_sweep.cli.data import main

    folder = tmp_path / "[bold]x[link=a]"
    folder.mkdir()
    (folder / "part[red]").symlink_to(tiny_dataset / "washer")
    code = f"from anomaly_sweep.cli.data import main; raise SystemExit(main(['check', {str(folder)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "part[red] " in done.stdout
    assert main(["check", str(folder / "absent[/]")]) == 2
