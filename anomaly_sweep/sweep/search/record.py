"""A search on its parent run in MLflow: best so far, importances, every trial."""

from __future__ import annotations

import csv
import io
import re
import warnings
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from anomaly_sweep.sweep.search.study import REASON, Search
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.store import retrying, timestamp
from anomaly_sweep.tracking.writer import Recorder

_SHOWN = 20


def importances(search: Search) -> dict[str, dict[str, float]]:
    """Objective -> key -> share of its variation (fANOVA), as far as the trials can say."""
    done = [t for t in search.study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    found = {}
    for index, objective in enumerate(search.settings.objectives):
        if len({trial.values[index] for trial in done}) < 2:
            continue

        def value(trial: FrozenTrial, index: int = index) -> float:
            return float(trial.values[index])

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Optuna's default, PED-ANOVA, is about the best trials alone; a quarter of the usual trees
                # is enough for a share and four times as fast.
                evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)
                shares = optuna.importance.get_param_importances(
                    search.study, evaluator=evaluator, target=value
                )
        except (RuntimeError, ValueError):  # too few trials, or all of the same choices
            continue
        found[objective] = {key: float(share) for key, share in shares.items()}
    return found


def trials_csv(search: Search) -> str:
    """Every trial of the study as CSV: number, state, objectives, choices, why it failed."""
    out = io.StringIO()
    keys = list(search.space.params)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["number", "state", *search.settings.objectives, *keys, REASON])
    for trial in search.study.get_trials(deepcopy=False):
        values = trial.values if trial.values is not None else [""] * len(search.settings.objectives)
        reason = trial.user_attrs.get(REASON, "")
        params = [trial.params.get(key, "") for key in keys]
        writer.writerow([trial.number, trial.state.name.lower(), *values, *params, reason])
    return out.getvalue()


def best_line(search: Search) -> str:
    """The best so far in one line."""
    best = search.best()
    if not best:
        return "nothing has succeeded yet"
    choices = " ".join(f"{key}={value}" for key, value in best[0].params.items())
    if len(search.settings.objectives) > 1:
        return f"{len(best)} best trials, among them {_values(search, best[0])}: {choices}"
    return f"best {_values(search, best[0])} (trial {best[0].number}): {choices}"


def note(search: Search, shares: dict[str, dict[str, float]]) -> str:
    """The search as Markdown, which the run's page in the UI draws."""
    finished, best = search.finished, search.best()
    failed = sum(trial.state is TrialState.FAIL for trial in finished)
    objectives = ", ".join(
        f"{direction} {objective}"
        for objective, direction in zip(search.settings.objectives, search.settings.directions, strict=True)
    )
    keys = list(search.space.params)
    lines = [
        f"Search `{search.name}`: {objectives}; {len(finished)} of {search.total} trials, {failed} failed",
        "",
        best_line(search),
        "",
        *_table(["trial", *search.settings.objectives, *keys]),
    ]
    for trial in best[:_SHOWN]:
        cells = [str(trial.number), *(f"{value:.6g}" for value in trial.values)]
        lines.append(f"| {' | '.join([*cells, *(str(trial.params[key]) for key in keys)])} |")
    if len(best) > _SHOWN:
        lines += ["", f"and {len(best) - _SHOWN} more (see {names.SEARCH_TRIALS})"]
    for objective, own in shares.items():
        lines += ["", f"Importance for {objective}:", "", *_table(["choice", "share"])]
        lines += [f"| {key} | {share:.3f} |" for key, share in own.items()]
    return "\n".join(lines)


def record_progress(search: Search, recorder: Recorder, run_id: str, note_: str) -> None:
    """Put the best so far on the parent run."""
    from mlflow.entities import Metric, RunTag

    done = search.finished
    complete = [trial for trial in done if trial.state is TrialState.COMPLETE]
    metrics = []
    for index, (objective, direction) in enumerate(
        zip(search.settings.objectives, search.settings.directions, strict=True)
    ):
        values = [trial.values[index] for trial in complete]
        if values:
            best = max(values) if direction == "maximize" else min(values)
            metrics.append(Metric(names.BEST_PREFIX + objective, float(best), timestamp(), len(done)))
    tags = {names.TAG_NOTE: note_}
    for trial in search.best()[:1]:
        tags[f"{names.TAG_BEST_PREFIX}trial"] = str(trial.number)
        tags |= {f"{names.TAG_BEST_PREFIX}{_named(key)}": str(value) for key, value in trial.params.items()}
    run_tags = [RunTag(key, value) for key, value in tags.items()]
    retrying(lambda: recorder.client.log_batch(run_id, metrics=metrics, tags=run_tags), recorder.tracking.uri)


def record_end(search: Search, recorder: Recorder, run_id: str) -> None:
    """Put importances and every trial on the parent run."""
    shares = importances(search)
    record_progress(search, recorder, run_id, note(search, shares))
    recorder.log_json(run_id, names.SEARCH_IMPORTANCES, shares)
    text = trials_csv(search)
    retrying(lambda: recorder.client.log_text(run_id, text, names.SEARCH_TRIALS), recorder.tracking.uri)


def results(search: Search) -> dict[str, Any]:
    """What Hydra's Optuna sweeper writes into the sweep's folder."""
    best = search.best()
    if len(search.settings.objectives) == 1:
        if not best:
            return {"name": "optuna"}
        return {"name": "optuna", "best_params": best[0].params, "best_value": best[0].values[0]}
    return {
        "name": "optuna",
        "solutions": [{"params": trial.params, "values": list(trial.values)} for trial in best],
    }


def _named(key: str) -> str:
    """A key as MLflow takes it: without Hydra's ``+``, and other signs as ``_``."""
    return re.sub(r"[^\w./ -]", "_", key.lstrip("+~"))


def _values(search: Search, trial: FrozenTrial) -> str:
    return ", ".join(
        f"{objective} {value:.4f}"
        for objective, value in zip(search.settings.objectives, trial.values, strict=True)
    )


def _table(columns: list[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
