"""Results of one configuration on a terminal."""

from __future__ import annotations

from anomaly_sweep import terminal
from anomaly_sweep.features.backbone.weights import is_random
from anomaly_sweep.sweep.record.recording import RANDOM_WARNING, Outcome
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.content import mean_of

_METRIC, _SECONDS = ".4f", ".3f"
#: Column of the long table, its heading, its format; the last are left out first where room is short.
_COLUMNS = (
    ("image_auroc", "image AUROC", _METRIC),
    ("image_auroc_sd", "SD", _METRIC),
    ("pixel_auroc", "pixel AUROC", _METRIC),
    ("pixel_auroc_sd", "SD", _METRIC),
    ("aupro", "AUPRO", _METRIC),
    ("aupro_sd", "SD", _METRIC),
    ("n_features", "features", "d"),
    ("n_train", "train", "d"),
    ("n_test", "test", "d"),
    ("fit_seconds", "fit s", _SECONDS),
    ("score_seconds", "score s", _SECONDS),
    ("map_seconds", "map s", _SECONDS),
    ("backbone_seconds", "net s", _SECONDS),
)
_ALWAYS = ("image_auroc",)
_LEAST_CATEGORY = 8


def _is_there(outcome: Outcome, column: str) -> bool:
    return any(row[column] is not None for row in outcome.rows)


def show_outcome(outcome: Outcome) -> None:
    """Print a configuration's per-class table: on a terminal as wide as it is, elsewhere with all columns."""
    from rich import box
    from rich.table import Table

    console = terminal.console()
    labels = " · ".join(outcome.configuration.labels.values())
    console.print(terminal.visible(f"{outcome.configuration.dataset_label}: {labels}"))
    available = [column for column in _COLUMNS if column[0] in _ALWAYS or _is_there(outcome, column[0])]
    cells = {
        key: ["" if row[key] is None else format(row[key], form) for row in outcome.rows]
        for key, _, form in available
    }
    cells["image_auroc"] = [cell or "failed" for cell in cells["image_auroc"]]
    categories = [terminal.visible(row["category"]) for row in outcome.rows]
    remaining = console.width - 4 - max(_LEAST_CATEGORY, min(24, max(map(len, categories), default=0)))
    shown: list[tuple[str, str, str]] = []
    for column in available:  # a number is never cut short: a heading may be broken, and a column left out
        remaining -= 2 + max(map(len, [*cells[column[0]], *column[1].split()]))
        if shown and remaining < 0:
            break
        shown.append(column)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("category", overflow="fold", min_width=_LEAST_CATEGORY)
    for key, heading, _ in shown:
        least = max(map(len, [*cells[key], *heading.split()]))
        table.add_column(heading, justify="right", min_width=least)
    for i, name in enumerate(categories):
        table.add_row(name, *(cells[key][i] for key, _, _ in shown))
    means = [mean_of(outcome.rows, key) for key, _, form in shown if form == _METRIC]
    table.add_section()
    table.add_row("mean", *("-" if mean is None else format(mean, _METRIC) for mean in means))
    console.print(table)
    if len(shown) < len(available):
        left_out = ", ".join(heading for _, heading, _ in available[len(shown) :])
        console.print(f"no room for: {left_out}", style="dim")
    first = outcome.rows[0]
    crop = f", cropped to {first['center_crop']} px" if first["center_crop"] is not None else ""
    weights = terminal.visible(first["weights"])
    chosen = "".join(f", {name}={first[name]}" for name in names.SUBSET_PARAMS if first[name] is not None)
    console.print(f"weights {weights}, input {first['input_size']} px{crop}{chosen}", style="dim")
    if is_random(first["weights"]):
        console.print(RANDOM_WARNING)
    if None in [row["image_auroc"] for row in outcome.rows]:
        console.print("a mean needs every category; the reasons of failures are below")
    if outcome.run_id is not None:
        console.print(f"MLflow run {outcome.run_id}", style="dim")
