"""Localization trials of a shard: one pass over the training maps and one over the test maps for all."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.datasets.masks import check_shape, read_mask, to_square
from anomaly_sweep.datasets.readers.mvtec_loco import LOGICAL, STRUCTURAL
from anomaly_sweep.datasets.records import GOOD
from anomaly_sweep.errors import AnomalySweepError, DatasetError
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.features.maps import MapBatch, MapStream, synchronise
from anomaly_sweep.features.shard import Shard
from anomaly_sweep.localization.base import Localizer, Shapes
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.render import render
from anomaly_sweep.localization.seeds import SEED, seeds_of_config
from anomaly_sweep.metrics.regions import Defect, au_spro, pixel_metrics
from anomaly_sweep.metrics.ties import ScoreScale
from anomaly_sweep.tasks.base import ShardWork, Tick, TrialResult, of_images, over_seeds, reason_of
from anomaly_sweep.tasks.localization.outputs import write_outputs
from anomaly_sweep.tasks.localization.trial import LocalizationTrial, trials_of
from anomaly_sweep.tracking.names import STATUS_OK, TOTALS

log = logging.getLogger(__name__)


def run_localizations(
    work: ShardWork,
    runtime: RuntimeConf,
    *,
    decoders: int = 1,
    budget: float = 0.0,
    tick: Tick = lambda _images, _result: None,
) -> list[TrialResult]:
    """All localization trials of a shard, each with its own outcome.

    The trials read the maps together, as many at once as may hold ``budget`` bytes; at least one. Each takes
    in the training images and scores the test images that are its own.
    """
    shard = work.shard
    placed = [(trial, part.shard) for part in work.parts() for trial in trials_of(part)]
    trials = [trial for trial, _ in placed]
    results: list[TrialResult] = []

    def keep(result: TrialResult) -> None:
        results.append(result)
        tick(0, result)

    try:
        masks, defects = masks_of(shard), defects_of(shard)
        unusable = _stream(shard, trials, runtime, decoders, tick).unusable()
        possible = [trial for trial in trials if not unusable.keys() & set(trial.levels)]
        shapes = _stream(shard, possible, runtime, decoders, tick).shapes()
    except Exception as error:
        reason = reason_of(error, f"shard {shard.category.name}")
        for trial in trials:
            keep(TrialResult.failed(trial.fingerprint, reason))
        return results
    runs = []
    for trial, own in placed:
        try:
            for level in trial.levels:
                if level in unusable:
                    raise AnomalySweepError(unusable[level])
            runs += [_Run(trial, own, seed) for seed in seeds_of_config(trial.localizer)]
        except Exception as error:
            keep(TrialResult.failed(trial.fingerprint, reason_of(error, f"trial {trial.fingerprint}")))
    ended: dict[str, list[TrialResult]] = defaultdict(list)
    for together in fitting_together(runs, shapes, budget):
        try:
            _pass(together, _stream(shard, [run.trial for run in together], runtime, decoders, tick))
        except Exception as error:  # the maps': every trial's
            reason = reason_of(error, f"shard {shard.category.name}")
            for run in together:
                run.reason = run.reason or reason
        for run in together:
            of_trial = ended[run.trial.fingerprint]
            of_trial.append(run.result(masks, defects, Path(runtime.cache_dir).expanduser()))
            if len(of_trial) == len(seeds_of_config(run.trial.localizer)):
                keep(_of_seeds(of_trial))
    return results


def _of_seeds(results: Sequence[TrialResult]) -> TrialResult:
    """One result of those of a trial's seeds; a failure of one is the trial's. Seconds are means."""
    for result in results:
        if not result.ok:
            return result
    seconds: dict[str, Any] = {name: fmean(getattr(result, name) for result in results) for name in TOTALS}
    return replace(over_seeds(results), **seconds)


def largest_fit(work: ShardWork, runtime: RuntimeConf) -> float:
    """The most bytes that fitting one of a shard's localizers holds.

    What is refused before it is fitted holds nothing; where it cannot be known, infinity: nothing is to run
    beside it.
    """
    trials = trials_of(work)
    n = len(work.shard.category.train)
    stream = _stream(work.shard, trials, runtime, 1, lambda _images, _result: None)
    most = 0.0
    try:
        unusable = stream.unusable()
        possible = [trial for trial in trials if not unusable.keys() & set(trial.levels)]
        for trial in possible:
            shapes = stream.network.shapes(trial.levels, work.shard.side)
            try:
                most = max(most, build(trial.localizer).fit_bytes(shapes, n))
            except AnomalySweepError:  # a setting that these maps do not suit, told when it is its turn
                continue
    except AnomalySweepError:  # there is no network: likewise
        return 0.0
    except Exception as error:
        reason_of(error, f"memory of shard {work.shard.category.name}")
        return math.inf
    return most


def masks_of(shard: Shard) -> NDArray[np.bool_]:
    """Masks of a shard's test images, (n, side, side); nothing is marked where there is no mask.

    Warns of masks that mark nothing at this size.

    Raises
    ------
    DatasetError
        If a mask cannot be read or has another shape than its image.
    """
    records = shard.category.test
    masks = np.zeros((len(records), shard.side, shard.side), dtype=np.bool_)
    for mask, record in zip(masks, records, strict=True):
        for path in record.masks:
            read = read_mask(path)
            check_shape(path, read.size, record.path)
            mask |= to_square(read.marked, shard.input_size, shard.center_crop)
    lost = [r.masks[0] for r, mask in zip(records, masks, strict=True) if r.masks and not mask.any()]
    if lost:
        log.warning(
            "%s: %d mask(s) mark nothing at %d x %d pixels, so that the images count as good, pixel by pixel "
            "(first: %s); anomaly-sweep-data check --input-size %d tells more",
            shard.category.name, len(lost), shard.side, shard.side, lost[0], shard.input_size,
        )  # fmt: skip
    return masks


def defects_of(shard: Shard) -> list[Defect]:
    """Each defect of a shard's test images by itself, where the data set says how much of one is enough.

    Saturations in pixels of the image are of as large a part of the square; relative ones of what is marked
    there. A defect too small for the square's pixels is left out, as `masks_of` warns.

    Raises
    ------
    DatasetError
        If a mask is of no kind that the data set knows.
    """
    saturations = {one.value: one for one in shard.category.saturations}
    defects = []
    for place, record in enumerate(shard.category.test if saturations else ()):
        for path in record.masks:
            mask = read_mask(path)
            kind = saturations.get(int(mask.value))
            if kind is None:
                raise DatasetError(
                    f"mask {path} has the value {mask.value:g}, that of no defect of {shard.category.name}: "
                    f"{', '.join(f'{one.value} ({one.defect})' for one in shard.category.saturations)}"
                )
            marked = to_square(mask.marked, shard.input_size, shard.center_crop)
            area = int(marked.sum())
            scale = area if kind.relative else shard.input_size**2 / mask.marked.size
            if area:
                defects.append(Defect(place, marked, min(kind.threshold * scale, area)))
    return defects


def saturated_metrics(shard: Shard, maps: NDArray[np.float32], defects: Sequence[Defect]) -> dict[str, Any]:
    """AU-sPRO of logical and of structural anomalies, each beside the good images, and their mean.

    One that has no defect has no value, nor has the mean then.
    """
    if not defects:
        return {}
    found: dict[str, float | None] = {}
    types = np.array([record.defect for record in shard.category.test])
    for column, name in (("au_spro_logical", LOGICAL), ("au_spro_structural", STRUCTURAL)):
        kept = np.flatnonzero((types == name) | (types == GOOD))
        places = {int(image): place for place, image in enumerate(kept)}
        of_type = [replace(one, image=places[one.image]) for one in defects if one.image in places]
        found[column] = au_spro(maps[kept], of_type) if of_type else None
    both = [value for value in found.values() if value is not None]
    found["au_spro"] = sum(both) / 2 if len(both) == 2 else None
    return found


def fitting_together(runs: Sequence[_Run], shapes: Shapes, budget: float) -> Iterator[list[_Run]]:
    """Cut runs, in order, into groups whose fits hold no more bytes than the budget; at least one a group.

    One that cannot be fitted to maps of these shapes fails.
    """
    group: list[_Run] = []
    held = 0.0
    for run in runs:
        run.attempt(run.estimate, shapes)
        need = run.fit_bytes
        if group and held + need > budget:
            yield group
            group, held = [], 0
        group.append(run)
        held += need
    if group:
        yield group


def _stream(
    shard: Shard, trials: Sequence[LocalizationTrial], runtime: RuntimeConf, decoders: int, tick: Tick
) -> MapStream:
    needed = {level for trial in trials for level in trial.levels}
    cached = any(trial.task.cache_maps for trial in trials)
    return MapStream(
        shard,
        [level for level in shard.backbone.levels if level in needed],
        device=runtime.device,
        batch_size=runtime.batch_size,
        decoders=decoders,
        cache=cache_at(runtime.cache_dir) if cached else None,
        on_image=lambda count: tick(count, None),
    )


def _pass(runs: Sequence[_Run], stream: MapStream) -> None:
    """Fit on the training images and score the test images; a run's failure is its own.

    Test images that a run trains on come first, as in its category.
    """
    trained = [record for run in runs for record in run.shard.category.train]
    moved = {record.relative for record in trained if record.label}
    good = {record.relative for record in trained if not record.label}
    parts = [stream.batches("test", moved)] if moved else []
    for batch in itertools.chain(*parts, stream.batches("train", good)):
        for run in runs:
            run.attempt(run.observe, batch.only(run.train))
        if all(run.reason is not None for run in runs):
            return
    for run in runs:
        run.attempt(run.finish)
    for batch in stream.batches("test", {name for run in runs for name in run.test}):
        for run in runs:
            run.attempt(run.score, batch.only(run.test), stream.shard.side)


class _Run:
    """One seed of a trial on its way from the first training map to its result.

    What is kept beside the numbers is the first seed's.
    """

    def __init__(self, trial: LocalizationTrial, shard: Shard, seed: int | None = None) -> None:
        self.trial = trial
        self.shard = shard
        self.train = frozenset(record.relative for record in shard.category.train)
        self.test = frozenset(record.relative for record in shard.category.test)
        self.localizer: Localizer = build(trial.localizer, seed)
        self._writes = seed is None or seed == trial.localizer[SEED]
        self.reason: str | None = None
        self.n_train = self.fit_bytes = 0
        self.fit_seconds = self.score_seconds = self.map_seconds = self.backbone_seconds = 0.0
        self.device = ""
        self._maps: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float64]] = []

    def attempt(self, step: Callable[..., None], *arguments: object) -> None:
        """Take a step unless an earlier one failed."""
        if self.reason is not None:
            return
        try:
            step(*arguments)
        except Exception as error:
            self.reason = reason_of(error, f"trial {self.trial.fingerprint}")

    def estimate(self, shapes: Shapes) -> None:
        """What fitting will hold."""
        own = {level: shapes[level] for level in self.trial.levels}
        self.fit_bytes = self.localizer.fit_bytes(own, len(self.train))

    def observe(self, batch: MapBatch) -> None:
        """Take in training maps."""
        if not len(batch):
            return
        maps = batch.of(self.trial.levels)
        begun = time.perf_counter()
        self.localizer.partial_fit(maps)
        self.n_train += len(batch)
        self._stop(batch)
        self.fit_seconds += time.perf_counter() - begun

    def finish(self) -> None:
        """Make the fitted state."""
        begun = time.perf_counter()
        self.localizer.finish()
        self.fit_seconds += time.perf_counter() - begun

    def score(self, batch: MapBatch, side: int) -> None:
        """Anomaly maps and image scores of test maps."""
        if not len(batch):
            return
        features = batch.of(self.trial.levels)
        begun = time.perf_counter()
        scored = self.localizer.score(features)
        self._stop(batch)
        scored_at = time.perf_counter()
        maps = render(scored.grid, side, self.trial.task.sigma)
        self._stop(batch)
        self.score_seconds += scored_at - begun
        self.map_seconds += time.perf_counter() - scored_at
        self.backbone_seconds += batch.seconds
        image = maps.amax(dim=(1, 2)) if scored.image is None else scored.image
        self._maps.append(maps.cpu().numpy())
        self._scores.append(image.cpu().numpy().astype(np.float64))

    def result(self, masks: NDArray[np.bool_], defects: Sequence[Defect], cache_dir: Path) -> TrialResult:
        """The numbers; what is kept beside them is written to the cache folder first.

        Parameters
        ----------
        masks : ndarray
        defects : sequence of Defect
            Of all test images of the shard, or of its source.
        cache_dir : Path
        """
        self.attempt(self._measure, masks, defects, cache_dir)
        if self.reason is not None:
            return TrialResult.failed(self.trial.fingerprint, self.reason)
        return self._measured

    def _measure(self, masks: NDArray[np.bool_], defects: Sequence[Defect], cache_dir: Path) -> None:
        task, shard = self.trial.task, self.shard
        if shard.source is not None:
            records = shard.source.category.test
            kept = [i for i, record in enumerate(records) if record.relative in self.test]
            places = {i: place for place, i in enumerate(kept)}
            masks = masks[kept]
            defects = [replace(one, image=places[one.image]) for one in defects if one.image in places]
        maps = np.concatenate(self._maps)
        scores = np.concatenate(self._scores)
        if len(maps) != len(masks):
            raise AnomalySweepError(f"{len(maps)} maps were made of {len(masks)} test images")
        pixel = pixel_metrics(
            maps, masks, fpr_limit=task.fpr_limit, connectivity=task.connectivity,
            average=task.average, images=task.images,
        )  # fmt: skip
        scale: ScoreScale = getattr(self.localizer, "score_scale", "interval")
        (images,) = of_images(scores[None], shard.category.test_labels, scale)
        self._measured = TrialResult(
            self.trial.fingerprint,
            STATUS_OK,
            n_train=self.n_train,
            fit_seconds=self.fit_seconds,
            score_seconds=self.score_seconds,
            pixel_auroc=pixel.auroc,
            aupro=pixel.aupro,
            aupro_mvtec=pixel.aupro_mvtec,
            map_seconds=self.map_seconds,
            backbone_seconds=self.backbone_seconds,
            state_bytes=self.localizer.state_bytes,
            device=self.device,
            pixel_ap=pixel.ap,
            pixel_f1max=pixel.f1max,
            **images,
            **saturated_metrics(shard, maps, defects),
        )
        if self._writes:
            write_outputs(cache_dir, self.trial, shard, maps, masks)

    def _stop(self, batch: MapBatch) -> None:
        """Wait for the device, so that the clock tells the truth."""
        device = next(iter(batch.maps.values())).device
        synchronise(device)
        self.device = describe_device(device)


def describe_device(device: torch.device) -> str:
    """What the seconds were measured on: ``cpu, 1 thread`` or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"
