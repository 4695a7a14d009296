"""Writing tables to a folder, each in every format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multirun_analysis.rendering.table import Absent, Table
from multirun_analysis.rendering.text import RENDERERS, latex_document

DOCUMENT = "document.tex"


def write_tables(tables: Sequence[Table | Absent], folder: Path, document: str = DOCUMENT) -> list[str]:
    """Write the tables there are, and return lines that say where they lie.

    All of them together are in ``document``. A file of an earlier run, of a table that is absent now, is
    left alone and named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for table in tables:
        paths = [folder / f"{table.name}{suffix}" for suffix in RENDERERS]
        if isinstance(table, Table):
            for path, render in zip(paths, RENDERERS.values(), strict=True):
                path.write_text(render(table), encoding="utf-8")
            lines.append(f"wrote {folder / table.name}.{{{','.join(s[1:] for s in RENDERERS)}}}")
        elif old := [str(path) for path in paths if path.exists()]:
            lines.append(f"not made now, from an earlier run: {', '.join(old)}")
    present = [table for table in tables if isinstance(table, Table)]
    if present:
        (folder / document).write_text(latex_document(present), encoding="utf-8")
        lines.append(f"wrote {folder / document} (all of them, to compile)")
    return lines


def table_files(tables: Sequence[Table | Absent], folder: Path, document: str = DOCUMENT) -> list[Path]:
    """The files that `write_tables` writes."""
    present = [table for table in tables if isinstance(table, Table)]
    files = [folder / f"{table.name}{suffix}" for table in present for suffix in RENDERERS]
    return [*files, folder / document] if present else []
