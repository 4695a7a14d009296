"""Conditions on trials, as a user writes them: ``estimator=mvg|knn1 & pca_mode=npca50``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.labels import ordered
from multirun_analysis.trials.long_table import dimensions


def parse_where(text: str, frame: pd.DataFrame, option: str = "--where") -> dict[str, tuple[Any, ...]]:
    """Columns and the values they may have.

    Parameters
    ----------
    text
        ``name=value`` joined by ``&``; alternatives of one name are joined by ``|``. Empty for none.
    frame
        The trials; a value that none of them has is an error, so that a slip is not an empty table.
    option
        Where the user wrote it, for the messages.

    Raises
    ------
    AnalysisError
        If the text is not of that form, or names a column or a value that is not there.
    """
    conditions: dict[str, tuple[Any, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split("&"))):
        name, equals, values = part.partition("=")
        name = check_column(name.strip(), frame)
        if not equals or not values.strip():
            raise AnalysisError(f"{option} {part!r}: write name=value, alternatives as name=value|value")
        if name in conditions:
            raise AnalysisError(f"{option} names {name} twice: write {name}=value|value")
        recorded = {str(value): value for value in frame[name].dropna().unique()}
        requested = [value.strip() for value in values.split("|")]
        unknown = [value for value in requested if value not in recorded]
        if unknown:
            known = ", ".join(ordered(name, recorded))
            raise AnalysisError(
                f"{option} {part!r}: no trial has {name}={unknown[0]}; there are: {known or 'none'}"
            )
        conditions[name] = tuple(dict.fromkeys(recorded[value] for value in requested))
    return conditions


def check_column(name: str, frame: pd.DataFrame) -> str:
    """A column trials can be chosen or arranged by.

    Raises
    ------
    AnalysisError
        If it is not one; the message names them all.
    """
    columns = ("sweep", "category", *dimensions(frame))
    if name not in columns:
        raise AnalysisError(f"trials have no dimension {name!r}; there are: {', '.join(columns)}")
    return name


def matching(frame: pd.DataFrame, conditions: dict[str, tuple[Any, ...]]) -> pd.DataFrame:
    """The trials that meet all conditions."""
    for name, values in conditions.items():
        frame = frame[frame[name].isin(values)]
    return frame
