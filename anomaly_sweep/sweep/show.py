"""Results on a terminal."""

from __future__ import annotations

from anomaly_sweep.sweep.recording import Outcome


def show_outcome(outcome: Outcome) -> None:
    """Print a configuration's per-class table."""
    from rich.console import Console
    from rich.table import Table

    labels = " · ".join(outcome.configuration.labels.values())
    table = Table(title=f"{outcome.configuration.dataset.name}: {labels}", title_justify="left")
    table.add_column("category")
    for column in ("image AUROC", "features", "train", "test", "fit s", "score s"):
        table.add_column(column, justify="right")
    for row in outcome.rows:
        auc = row["image_auroc"]
        table.add_row(
            row["category"],
            "failed" if auc is None else f"{auc:.4f}",
            *("" if row[key] is None else str(row[key]) for key in ("n_features", "n_train", "n_test")),
            *("" if row[key] is None else f"{row[key]:.3f}" for key in ("fit_seconds", "score_seconds")),
        )
    mean = outcome.mean_auc
    table.add_section()
    table.add_row("mean", "-" if mean is None else f"{mean:.4f}")
    console = Console()
    console.print(table)
    console.print(
        f"weights {outcome.rows[0]['weights']}, input {outcome.rows[0]['input_size']} px", style="dim"
    )
    if outcome.run_id is not None:
        console.print(f"MLflow run {outcome.run_id}", style="dim")
