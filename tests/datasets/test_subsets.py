"""Few training images and contaminated ones: which are taken, and what cannot be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from anomaly_sweep.config import DatasetConf
from anomaly_sweep.datasets import Category, ImageRecord
from anomaly_sweep.datasets.subsets import contaminating, subset_of
from anomaly_sweep.errors import ConfigError, DatasetError


def category(n_train: int = 20, n_good: int = 5, n_bad: int = 12) -> Category:
    """Records alone: no file is looked at."""

    def record(place: str, number: int) -> ImageRecord:
        relative = f"part/{place}/{number:03d}.png"
        return ImageRecord(Path("/data") / relative, relative, place.split("/")[1])

    train = tuple(record("train/good", i) for i in range(n_train))
    test = [record("test/good", i) for i in range(n_good)] + [record("test/crack", i) for i in range(n_bad)]
    return Category("set", "part", Path("/data"), train, tuple(sorted(test, key=lambda r: r.relative)))


def names(records: tuple[ImageRecord, ...]) -> list[str]:
    return [record.relative for record in records]


def test_choices_are_nested_and_in_order() -> None:
    whole = category()
    for seed in (0, 1):
        before: set[str] = set()
        for number in (1, 2, 4, 8, 20):
            taken = names(subset_of(whole, number, seed=seed).train)
            assert len(taken) == number
            assert before <= set(taken)
            assert taken == sorted(taken)
            before = set(taken)
        moved_before: set[str] = set()
        for share in (0.05, 0.1, 0.2, 0.3):
            found = subset_of(whole, None, share, seed)
            moved = {record.relative for record in found.train if record.label}
            assert moved_before <= moved
            assert len(moved) == contaminating(20, share)
            assert set(names(found.test)) == set(names(whole.test)) - moved
            assert names(found.train)[len(moved) :] == names(whole.train)
            moved_before = moved
    both = subset_of(whole, 8, 0.2, 1)
    assert set(names(both.train)) >= set(names(subset_of(whole, 8, seed=1).train))
    assert {r.relative for r in both.train if r.label} <= {
        r.relative for r in subset_of(whole, None, 0.2, 1).train if r.label
    }


def test_seeds_differ_and_other_files_change_no_order() -> None:
    few = {tuple(names(subset_of(category(), 4, seed=seed).train)) for seed in range(20)}
    assert len(few) > 15
    more = category(n_train=21)  # one file more: at most one of the chosen is another
    for seed in range(10):
        one, other = (set(names(subset_of(own, 4, seed=seed).train)) for own in (category(), more))
        assert len(one - other) <= 1


def test_all_of_them_are_the_category_itself() -> None:
    whole = category()
    assert subset_of(whole, None) == subset_of(whole, 20, seed=3) == whole


@pytest.mark.parametrize(
    ("n_good", "share", "number"),
    [
        (9, 0.1, 1),
        (4, 0.1, 0),
        (5, 0.1, 1),
        (95, 0.05, 5),
        (1, 0.5, 1),
        (3, 0.5, 3),
        (20, 0.0, 0),
        (27, 0.1, 3),
    ],
)
def test_how_many_are_moved(n_good: int, share: float, number: int) -> None:
    assert contaminating(n_good, share) == number
    # The nearest whole number to what makes the share exact.
    exact = Fraction(str(share)) * n_good / (1 - Fraction(str(share)))
    assert abs(number - exact) <= Fraction(1, 2)


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(DatasetError, match=r"part: dataset\.train_images=21 is more than its 20 training"):
        subset_of(category(), 21)
    with pytest.raises(DatasetError, match=r"takes 20 of its 12 anomalous.*at most 0\.354") as told:
        subset_of(category(), None, 0.5)
    assert "fewer dataset.train_images" in str(told.value)
    assert len(subset_of(category(), None, 0.354).test) == 6  # what it says is possible is


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_images": 0}, "train_images=0 is outside"),
        ({"train_images": "some"}, "train_images=some is not allowed; allowed: all, a number"),
        ({"train_images": 2.5}, "train_images=2.5 is not allowed; it must be a whole number"),
        ({"train_images": True}, "train_images=True is not allowed"),
        ({"contamination": 0.6}, "contamination=0.6 is outside"),
        ({"contamination": -0.1}, "contamination=-0.1 is outside"),
        ({"subset_seed": -1}, "subset_seed=-1 is outside"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetConf(name="set", root="data", **settings)  # type: ignore[arg-type]
