"""The state of the data that sweeps are applied to: root -> task's kind -> category -> digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

State: TypeAlias = Mapping[str, Mapping[str, Mapping[str, str]]]

_SHOWN = 5


def changed(then: State, now: State) -> list[str]:
    """Categories whose data differs between two states, as ``root/category``.

    A task that only one of them has says nothing.
    """
    found: dict[str, None] = {}  # a set that keeps the order
    for root in dict.fromkeys([*then, *now]):
        before_by_task, after_by_task = then.get(root, {}), now.get(root, {})
        tasks = [task for task in before_by_task if task in after_by_task or not after_by_task]
        tasks += [task for task in after_by_task if not before_by_task]
        for task in tasks:
            before, after = before_by_task.get(task, {}), after_by_task.get(task, {})
            for category in dict.fromkeys([*before, *after]):
                if before.get(category) != after.get(category):
                    found[f"{root}/{category}"] = None
    return list(found)


def in_words(categories: list[str]) -> str:
    """Names, of a long list the first and that there are more."""
    return ", ".join(categories[:_SHOWN]) + (", ..." if len(categories) > _SHOWN else "")
