"""What localization trials measured, by category and localizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from anomaly_sweep.tracking.names import STATUS_OK
from multirun_analysis.papers.published import is_paper_dataset
from multirun_analysis.papers.ridge.study import LocalizationStudy
from multirun_analysis.summary.coverage import listed
from multirun_analysis.summary.means import MeanTable, mean_table
from multirun_analysis.trials.labels import localizer_name

#: Pixel metrics as the paper calls them.
METRICS = {"pixel_auroc": "ROCAUC", "aupro": "PRO"}
#: PRO at the thresholds of MVTec's evaluation code, beside PRO at every threshold.
MVTEC_PRO = "aupro_mvtec"
MVTEC_PRO_WORDS = "PRO, 100 thresholds"
#: Categories of MVTec AD whose test images were seen when the settings of ridge and ridge_plus were chosen.
CHOSEN_BY = ("bottle", "transistor", "pill")
RECORDED = (
    "pixel_auroc",
    "aupro",
    MVTEC_PRO,
    "image_auroc",
    "n_test",
    "score_seconds",
    "map_seconds",
    "backbone_seconds",
)
#: Sums of seconds, each with all before it: what tables call them -> the last column added.
STEPS = {"scoring": "score_seconds", "+ maps": "map_seconds", "+ backbone": "backbone_seconds"}


@dataclass(frozen=True)
class Measurements:
    """What the trials that did not fail recorded.

    Attributes
    ----------
    pivot
        Pixel AUROC by category and localizer, with its holes and the trials.
    values
        The columns of `RECORDED` as frames, categories by localizers, NaN where a value lacks.
    seconds
        The sums of `STEPS`. There is none with the backbone where its maps came from the cache.
    """

    pivot: MeanTable
    values: Mapping[str, pd.DataFrame]
    seconds: Mapping[str, pd.DataFrame]

    def mean(self, column: str) -> pd.Series:
        """Mean of each localizer over the categories, NaN where one lacks."""
        return self.values[column].mean(axis=0, skipna=False)

    def total(self, step: str) -> pd.Series:
        """Seconds of each localizer for all test images, NaN where a category lacks."""
        return self.seconds[step].sum(axis=0, skipna=False)

    @property
    def images(self) -> pd.Series:
        """Test images of each localizer, NaN where a category lacks."""
        return self.values["n_test"].sum(axis=0, skipna=False)

    def devices(self) -> dict[str, tuple[str, ...]]:
        """What each localizer's seconds were measured on."""
        trials = self.pivot.trials.dropna(subset=["device"])
        return {
            str(name): tuple(sorted(map(str, group.unique())))
            for name, group in trials.groupby("localizer", sort=False)["device"]
        }

    def measured_on(self) -> list[str]:
        """The device, and a warning where there are several."""
        devices = self.devices()
        distinct = sorted({device for names in devices.values() for device in names})
        if len(distinct) < 2:
            return [f"Measured on: {listed(distinct) or 'device not recorded'}."]
        each = [f"{localizer_name(name)} on {' and '.join(names)}" for name, names in devices.items()]
        return [f"WARNING: measured on different devices, not to be compared: {'; '.join(each)}."]

    def notes(self) -> list[str]:
        """What was recorded by trials that did not fail and is missing all the same."""
        lines = []
        pixel = self.values["pixel_auroc"].notna()
        for column in RECORDED[1:]:
            lacking = self.values[column].isna() & pixel
            if lacking.any(axis=None):
                lines.append(f"Not recorded: {column} of {_places(lacking)}.")
        cached = self.values["backbone_seconds"] == 0
        if cached.any(axis=None):
            lines.append(
                f"No time with the backbone: its maps came from the cache for {_places(cached)} "
                "(runtime.cache_dir holds them; task.cache_maps=false keeps none)."
            )
        return lines


def measure(study: LocalizationStudy) -> Measurements:
    """What the trials of a study recorded, by category and localizer."""
    where = study.where() | {"localizer": study.localizers}
    pivot = mean_table(study.frame, "category", "localizer", where, value="pixel_auroc")
    ok = pivot.trials[pivot.trials["status"].eq(STATUS_OK).fillna(False).astype(bool)]
    index, columns = list(study.categories), list(study.localizers)
    numbers = ok[list(RECORDED)].astype("Float64").astype("float64")
    wide = ok[["category", "localizer"]].join(numbers).pivot(index="category", columns="localizer")
    wide = wide.reindex(index=index, columns=pd.MultiIndex.from_product([RECORDED, columns]))
    values = {name: pd.DataFrame(wide[name]) for name in RECORDED}
    seconds, running = {}, pd.DataFrame(0.0, index=index, columns=columns)
    for step, column in STEPS.items():
        column_seconds = values[column]
        running = running + (
            column_seconds.where(column_seconds > 0) if column == "backbone_seconds" else column_seconds
        )
        seconds[step] = running
    return Measurements(pivot, values, seconds)


def about_pro(measured: Measurements) -> list[str]:
    """What the two kinds of PRO are, where both are there."""
    if measured.values[MVTEC_PRO].isna().all(axis=None):
        return []
    return [
        "PRO is of every threshold. At the 100 thresholds of MVTec's evaluation code it reads lower, by up "
        "to some tenths of a point. Which of them a paper used is not known: its PRO is set against both."
    ]


def about_defaults(study: LocalizationStudy) -> list[str]:
    """Which of the values were measured on images that the localizer's defaults were chosen by."""
    seen = [name for name in CHOSEN_BY if name in study.categories]
    ours = any(label.startswith("ridge") for label in study.localizers)
    if not ours or not is_paper_dataset(study) or not seen:
        return []
    return [
        f"The settings of ridge and ridge_plus were chosen with the test images of {listed(seen)} in sight: "
        "their values there are in part an oracle's, and so are their means (docs/ridge_study.md)."
    ]


def about_seeds(measured: Measurements) -> list[str]:
    """What another seed does to a category's figures, where localizers were run with several."""
    trials = measured.pivot.trials
    each = []
    for localizer in trials["localizer"].dropna().unique():
        rows = trials[trials["localizer"] == localizer]
        found = {
            words: 100 * rows[f"{metric}_sd"].mean()
            for metric, words in {**METRICS, "image_auroc": "image ROCAUC"}.items()
            if f"{metric}_sd" in rows and rows[f"{metric}_sd"].notna().any()
        }
        if found:
            spreads = ", ".join(f"{words} {spread:.2f}" for words, spread in found.items())
            each.append(f"{localizer_name(str(localizer))} {spreads}")
    if not each:
        return []
    return [
        "Of several seeds values and seconds are means; standard deviation of a category's value between "
        f"seeds, in points, mean over categories: {'; '.join(each)}."
    ]


def notes_of(study: LocalizationStudy, measured: Measurements) -> tuple[str, ...]:
    """What stands under every table: variants, coverage, what lacks, provenance."""
    lines = [
        f"{METRICS[metric]} is a variant ({', '.join(settings)}): not comparable with published values."
        for metric, settings in study.variants.items()
        if metric in METRICS
    ]
    lines += [*study.coverage([measured.pivot]), *measured.notes(), *about_seeds(measured)]
    lines += about_defaults(study)
    if study.others:
        lines.append(f"Left out, choose with --task: {listed(study.others)}.")
    return (*lines, *study.provenance([measured.pivot]))


def _places(flags: pd.DataFrame) -> str:
    """Where a flag is set, by localizer."""
    places = []
    for localizer in flags.columns[flags.any(axis=0)]:
        affected = flags.index[flags[localizer]]
        where = "every category" if len(affected) == len(flags) else listed(map(str, affected))
        places.append(f"{localizer_name(str(localizer))} ({where})")
    return "; ".join(places)
