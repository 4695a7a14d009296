"""The long table: types, files, and which of several recordings stands."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_sweep.tracking.names import TRIAL_COLUMNS
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.duplicates import drop_duplicates
from multirun_analysis.trials.long_table import as_trials, load_trials, save_trials
from multirun_analysis.trials.run_info import RunEnd
from tests.support.trials import make_frame, make_rows

ONE = {"layer": ("level7",), "pca_mode": ("none",), "estimator": ("mvg",)}
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=3, max_size=3),
    category=WORDS,
    reason=WORDS | st.just(""),
)
def test_files_give_back_what_was_saved(
    tmp_path: Path, suffix: str, values: list[float | None], category: str, reason: str
) -> None:
    rows = make_rows(ONE, reason=reason)
    for row, value in zip(rows, values, strict=True):
        row |= {"image_auroc": value, "status": "ok" if value is not None else "failed", "weights": None}
    rows[0]["category"] = category
    frame = as_trials(pd.DataFrame(rows))
    path = tmp_path / f"trials{suffix}"
    save_trials(frame, path)
    pd.testing.assert_frame_equal(load_trials(path), frame)


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "007"])
def test_words_that_look_like_something_else_stay_words(tmp_path: Path, word: str) -> None:
    frame = make_frame(ONE, categories=[word])
    save_trials(frame, tmp_path / "t.csv")
    assert load_trials(tmp_path / "t.csv")["category"].tolist() == [word]


def test_other_suffixes_and_other_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"\.csv or \.parquet"):
        save_trials(make_frame(ONE), tmp_path / "trials.xlsx")
    with pytest.raises(AnalysisError, match=r"\.csv or \.parquet"):
        load_trials(tmp_path / "trials.json")
    with pytest.raises(AnalysisError, match="cannot read"):
        load_trials(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(AnalysisError, match="no column category"):
        load_trials(tmp_path / "other.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(AnalysisError, match="cannot read"):
        load_trials(tmp_path / "empty.csv")


def test_rows_get_the_contracts_columns_and_types() -> None:
    frame = as_trials(pd.DataFrame([{"category": "a", "image_auroc": "0.5", "status": "ok", "extra": 1}]))
    assert tuple(frame.columns) == (*TRIAL_COLUMNS, "extra")  # a label of a task from elsewhere: a text
    assert frame["extra"].to_list() == ["1"]
    assert frame.at[0, "image_auroc"] == 0.5
    assert frame["input_size"].isna().all()
    assert frame.at[0, "reason"] == ""
    assert list(as_trials(pd.DataFrame()).columns) == list(TRIAL_COLUMNS)


def test_a_failed_trial_has_no_value_whatever_was_recorded() -> None:
    frame = make_frame(ONE, status="failed", image_auroc=0.9)
    assert frame["image_auroc"].isna().all()


def test_choices_with_another_label_are_other_trials_even_with_one_fingerprint() -> None:
    frame = make_frame(ONE | {"layer": ("level1", "all")}, fingerprint="same")
    kept, dropped = drop_duplicates(frame, {})
    assert (len(kept), dropped) == (len(frame), 0)


def test_a_run_that_finished_stands_before_one_that_did_not() -> None:
    done, killed = (make_frame(ONE, run_id=name, fingerprint=name) for name in ("done", "killed"))
    ends = {"done": RunEnd(True, 1), "killed": RunEnd(False, 2)}
    kept, dropped = drop_duplicates(pd.concat([done, killed], ignore_index=True), ends)
    assert set(kept["run_id"]) == {"done"}
    assert dropped == 3


def test_the_same_row_read_twice_is_no_duplicate() -> None:
    frame = make_frame(ONE)
    kept, dropped = drop_duplicates(pd.concat([frame, frame], ignore_index=True), {})
    assert (len(kept), dropped) == (3, 0)
