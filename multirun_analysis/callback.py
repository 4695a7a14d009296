"""The Hydra callback by which a sweep's page gets its results. Imported at every start: keep it light."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepAnalysis(Callback):
    """Analyses a sweep when it ends: ``hydra.callbacks.analysis``.

    Tables, figures and the report go to the sweep's folder and its parent run, the tables also to the run's
    description and the terminal. Whatever goes wrong here costs one line: the sweep is recorded already.

    Parameters
    ----------
    enabled : bool
        ``hydra.callbacks.analysis.enabled=false`` turns it off.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Analyse the sweep that has ended in this process, if one has."""
        if not self.enabled:
            return
        from anomaly_sweep import terminal

        try:
            with terminal.busy("analysing the sweep"):
                from multirun_analysis.sweep_page import analyse_sweep

                text = analyse_sweep(config)
        except Exception as error:  # the sweep is recorded, and is not to fail by its analysis
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            terminal.say(
                f"note: the sweep is recorded, but not analysed ({type(error).__name__}: {reason}); "
                "multirun-analysis report makes its page",
                error=True,
            )
        else:
            if text:
                terminal.say(text)
