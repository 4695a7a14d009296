"""How figures look, and how they are written."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's colours, ordered so that neighbours differ in lightness too.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
GREY = "#8a8a8a"
#: Dark to light without a break in lightness, the same to every kind of colour vision.
MAP = "cividis"
SUFFIXES = (".pdf", ".svg", ".png")
SETTINGS: Any = {  # matplotlib types its settings by their literal names
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "anomaly_sweep",  # the same figure, the same file
}
#: No date inside, so that the same figure is the same file.
METADATA: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}


@dataclass(frozen=True)
class Picture:
    """A figure: its file's stem, what it shows, and how it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def save(picture: Picture, folder: Path, note: str = "") -> list[Path]:
    """Write a figure in every format; ``note`` is printed under it (such as a warning)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{picture.name}{suffix}" for suffix in SUFFIXES]
    with matplotlib.rc_context(SETTINGS):
        figure = drawn(picture, note)
        for path in paths:
            figure.savefig(path, metadata=METADATA[path.suffix])
    return paths


def inline_svg(picture: Picture, note: str = "") -> str:
    """A figure as an ``svg`` element whose ids are its own, so that several can be on one page."""
    buffer = io.StringIO()
    with matplotlib.rc_context(SETTINGS):
        drawn(picture, note).savefig(buffer, format="svg", metadata=METADATA[".svg"])
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{picture.name}-', text)
    return re.sub(r'(href="#|url\(#)', rf"\1{picture.name}-", text)


def drawn(picture: Picture, note: str = "") -> Figure:
    """Draw a figure, with its note under it."""
    figure = picture.draw()
    if note:
        figure.text(0.5, -0.02, note, ha="center", va="top", fontsize=7, color="#b45309", wrap=True)
    return figure


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure in inches with a grid of axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def lines_of(names: list[str]) -> Mapping[str, dict[str, Any]]:
    """A colour, a marker and a line style for each name: two of them alone tell the names apart."""
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i % len(LINES)],
        }
        for i, name in enumerate(names)
    }
