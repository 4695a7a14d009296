"""Our values against the published ones."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from multirun_analysis.figures.style import COLOURS, GREY, MARKERS, Picture, panels
from multirun_analysis.rendering.table import Absent, Table

#: Points of one table: their name, and (published, ours).
Points = dict[str, list[tuple[float, float]]]


def published_scatter(tables: Sequence[Table | Absent], comparison: str) -> Picture | Absent:
    """Every cell that both have, by table; ``comparison`` says what the published values are of."""
    name, title = "against_published", "Ours against the published values"
    points = {table.title.split(":")[0]: paired(table) for table in tables if isinstance(table, Table)}
    points = {key: pairs for key, pairs in points.items() if pairs and "not in the paper" not in key}
    if not points:
        return Absent(name, title, "no table has a cell that the paper prints too")
    caption = f"One mark a cell; on the line both are the same. {comparison}"
    return Picture(name, title, caption, lambda: _draw(points))


def paired(table: Table) -> list[tuple[float, float]]:
    """Published and our values of the cells that the table's difference block compares."""
    blocks = {block.label: block for block in table.blocks}
    differences = next((block for label, block in blocks.items() if label.startswith("difference (")), None)
    theirs = blocks.get("published")
    if differences is None or theirs is None:
        return []
    return [
        (b.value, b.value + d.value)
        for differing, row in zip(differences.rows, theirs.rows, strict=True)
        for d, b in zip(differing.cells, row.cells, strict=True)
        if d.value is not None and b.value is not None
    ]


def _draw(points: Points) -> Figure:
    figure, (axes,) = panels(1, 1, 4.2, 4.0)
    every = [value for pairs in points.values() for pair in pairs for value in pair]
    low, high = min(every) - 0.02, max(*every, 1.0) + 0.01
    axes.plot([low, high], [low, high], color=GREY, linewidth=1)
    for i, (name, pairs) in enumerate(points.items()):
        axes.scatter(
            [x for x, _ in pairs],
            [y for _, y in pairs],
            s=20,
            marker=MARKERS[i],
            facecolors="none",
            edgecolors=COLOURS[(0, 2, 4)[i % 3]],
            label=name,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel("published AUROC")
    axes.set_ylabel("our AUROC")
    axes.legend(fontsize=8, loc="upper left")
    return figure
