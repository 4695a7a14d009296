"""How figures look, and how they are written."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's colours, ordered so that neighbours differ in lightness too.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells of each glyph of a PDF

_SPACES = {"": "http://www.w3.org/2000/svg", "xlink": "http://www.w3.org/1999/xlink"}
_XLINK = f"{{{_SPACES['xlink']}}}href"
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

    @cached_property
    def figure(self) -> Figure:
        """The figure, drawn once for all formats."""
        with matplotlib.rc_context(SETTINGS):
            return self.draw()

    @cached_property
    def svg(self) -> str:
        """It as SVG, as its file and the pages have it."""
        buffer = io.StringIO()
        with matplotlib.rc_context(SETTINGS):
            self.figure.savefig(buffer, format="svg", metadata=METADATA[".svg"])
        return buffer.getvalue()


def save(picture: Picture, folder: Path, note: str = "") -> list[Path]:
    """Write a figure in every format; ``note`` is printed under it (such as a warning)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{picture.name}{suffix}" for suffix in SUFFIXES]
    with matplotlib.rc_context(SETTINGS):
        figure = drawn(picture, note) if note else picture.figure
        for path in paths:
            if path.suffix == ".svg" and not note:
                path.write_text(picture.svg, encoding="utf-8")
            else:
                figure.savefig(path, metadata=METADATA[path.suffix])
    return paths


def inline_svg(picture: Picture, prefix: str = "") -> str:
    """A figure as an ``svg`` element for a page, named; its ids begin with the prefix and its name."""
    root = ElementTree.fromstring(picture.svg)
    id_prefix = f"{prefix}{picture.name}-"
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, id_prefix + value)
            elif key in ("href", _XLINK) and value.startswith("#"):
                element.set(key, f"#{id_prefix}{value[1:]}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{id_prefix}{value[5:]}")
    root.set("role", "img")
    root.set("aria-label", picture.title)
    for space, name in _SPACES.items():
        ElementTree.register_namespace(space, name)
    return ElementTree.tostring(root, encoding="unicode")


def drawn(picture: Picture, note: str) -> Figure:
    """Draw a figure with a note under it."""
    figure = picture.draw()
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
