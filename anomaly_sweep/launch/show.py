"""Results on a terminal."""

from __future__ import annotations

from anomaly_sweep.sweep.record.recording import Outcome
from anomaly_sweep.tracking.content import mean_of

_METRIC, _SECONDS = ".4f", ".3f"
#: Column of the long table, its heading, its format.
_COLUMNS = (
    ("image_auroc", "image AUROC", _METRIC),
    ("pixel_auroc", "pixel AUROC", _METRIC),
    ("aupro", "AUPRO", _METRIC),
    ("n_features", "features", "d"),
    ("n_train", "train", "d"),
    ("n_test", "test", "d"),
    ("fit_seconds", "fit s", _SECONDS),
    ("score_seconds", "score s", _SECONDS),
    ("map_seconds", "map s", _SECONDS),
    ("backbone_seconds", "net s", _SECONDS),
)
_ALWAYS = ("image_auroc",)


def _is_there(outcome: Outcome, column: str) -> bool:
    return any(row[column] is not None for row in outcome.rows)


def show_outcome(outcome: Outcome) -> None:
    """Print a configuration's per-class table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    labels = " · ".join(outcome.configuration.labels.values())
    table = Table(
        title=f"{outcome.configuration.dataset.name}: {labels}",
        title_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("category", no_wrap=True)
    columns = [column for column in _COLUMNS if column[0] in _ALWAYS or _is_there(outcome, column[0])]
    for _, heading, form in columns:  # a number is never cut short
        table.add_column(heading, justify="right", min_width=6 if form == _METRIC else 5)
    for row in outcome.rows:
        shown = ["" if row[key] is None else format(row[key], form) for key, _, form in columns]
        if row["image_auroc"] is None:
            shown[0] = "failed"
        table.add_row(row["category"], *shown)
    means = [mean_of(outcome.rows, key) for key, _, form in columns if form == _METRIC]
    table.add_section()
    table.add_row("mean", *("-" if mean is None else format(mean, _METRIC) for mean in means))
    console = Console()
    console.print(table)
    about = outcome.rows[0]
    crop = f", cropped to {about['center_crop']} px" if about["center_crop"] is not None else ""
    console.print(f"weights {about['weights']}, input {about['input_size']} px{crop}", style="dim")
    if outcome.run_id is not None:
        console.print(f"MLflow run {outcome.run_id}", style="dim")
