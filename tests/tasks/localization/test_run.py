"""Localization through the sweep: the numbers, the record, failures, resume, company."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import roc_auc_score
from torch.nn.functional import interpolate

from anomaly_sweep.config import DatasetConf
from anomaly_sweep.datasets import Category, FileIndex, read_category
from anomaly_sweep.datasets.masks import read_mask, to_square
from anomaly_sweep.errors import AnomalySweepError, ConfigError, DatasetError
from anomaly_sweep.features.backbone.network import Network
from anomaly_sweep.features.images import load_square
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.planner import DATA_DIGITS, make_plan
from anomaly_sweep.sweep.record.recording import Outcome, Parent
from anomaly_sweep.sweep.run.configurations import describe_configurations, run_configurations
from anomaly_sweep.sweep.run.local import affordable
from anomaly_sweep.tasks.localization import run as room
from anomaly_sweep.tasks.localization.trial import LocalizationTrial
from anomaly_sweep.tracking import names
from tests.support.localizers import localization, localizer
from tests.support.sweeps import configuration, runtime, tracking

ALONE = Parent("alone")


def run(tmp_path: Path, *configurations: object, **changes: object) -> list[Outcome]:
    return run_configurations(
        configurations,  # type: ignore[arg-type]
        tracking(tmp_path),
        runtime(tmp_path, **changes),  # type: ignore[arg-type]
        ALONE,
    )


def by_hand(root: Path, outcome: Outcome, category: Category, crop: int | None) -> dict[str, float]:
    """The same numbers from the method's definition, image by image."""
    backbone = outcome.configuration.backbone
    network = Network(backbone, torch.device("cpu"))
    mean = torch.tensor(backbone.mean).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std).view(1, 3, 1, 1)

    def vectors(path: Path) -> np.ndarray:
        image = load_square(path, 64, crop)
        found = []
        batch = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 - mean) / std
        network.read(batch, ["level3"], lambda _level, made: found.append(made[0].numpy().astype(float)))
        return found[0]

    side = crop or 64
    centre = np.mean([vectors(record.path) for record in category.train], axis=0)
    maps, masks = [], []
    for record in category.test:
        grid = np.linalg.norm(vectors(record.path) - centre, axis=0)
        up = interpolate(torch.from_numpy(grid)[None, None], size=(side, side), mode="bilinear")[0, 0]
        maps.append(gaussian_filter(up.numpy(), 2.0))
        masks.append(
            np.zeros((side, side), bool)
            if not record.masks
            else to_square(read_mask(record.masks[0]).marked, 64, crop)
        )
    return {
        "image_auroc": roc_auc_score([r.label for r in category.test], [m.max() for m in maps]),
        "pixel_auroc": roc_auc_score(np.ravel(masks), np.ravel(maps)),
        "aupro": slow_aupro(np.array(maps), np.array(masks)),
        "aupro_mvtec": mvtec_aupro(np.array(maps), np.array(masks)),
    }


def slow_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """Area to a false positive rate of 0.3 over 2,000 thresholds."""
    regions = []
    for i, mask in enumerate(masks):
        marked, count = label(mask, np.ones((3, 3)))
        regions += [(i, marked == k) for k in range(1, count + 1)]
    good = np.sort(maps[~masks])
    rates, overlaps = [0.0], [0.0]
    for threshold in np.quantile(good, np.linspace(1, 0.6, 2000)):
        rates.append((good > threshold).mean())
        overlaps.append(np.mean([(maps[i][region] > threshold).mean() for i, region in regions]))
    grid = np.linspace(0, 0.3, 30001)
    return float(np.interp(grid, rates, overlaps).mean())


def mvtec_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """The same over MVTec's thresholds: the good scores at 100 places of their order."""
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        marked, count = label(mask, np.ones((3, 3)))
        regions += [scores[marked == k] for k in range(1, count + 1)]
    good = np.sort(maps[~masks])
    places = np.linspace(0, good.size - 1, 100, dtype=int)[::-1]
    overlaps = [np.mean([(region > good[place]).mean() for region in regions]) for place in places]
    grid = np.linspace(0, 0.3, 30001)
    return float(np.interp(grid, 1 - (places + 1) / good.size, overlaps).mean())


@pytest.mark.parametrize("crop", [None, 48])
def test_equals_the_definition(tiny_dataset: Path, tmp_path: Path, crop: int | None) -> None:
    (outcome,) = run(tmp_path, localization(tiny_dataset, localizer(), center_crop=crop))
    assert not outcome.failures
    row = next(row for row in outcome.rows if row["category"] == "washer")
    expected = by_hand(tiny_dataset, outcome, read_category(tiny_dataset, "washer", dataset="tiny"), crop)
    assert row["image_auroc"] == pytest.approx(expected["image_auroc"], abs=1e-9)
    assert row["pixel_auroc"] == pytest.approx(expected["pixel_auroc"], abs=1e-5)
    assert row["aupro"] == pytest.approx(expected["aupro"], abs=2e-3)
    assert row["aupro_mvtec"] == pytest.approx(expected["aupro_mvtec"], abs=2e-3)
    assert (row["n_train"], row["n_test"], row["state_bytes"]) == (6, 10, 123)
    assert row["center_crop"] == crop
    assert row["task"] == "localization[sigma=2.0]"
    assert min(row[name] for name in names.TOTALS) > 0
    assert row["device"].startswith("cpu")


def test_a_run_says_everything(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = localization(tiny_dataset, localizer(), figure=True, save_maps=True)
    (outcome,) = run(tmp_path, chosen)
    client = mlflow.MlflowClient(tracking(tmp_path).uri)
    record = client.get_run(str(outcome.run_id))
    assert record.data.params == {
        "backbone": "resnet18",
        "localizer": "distance",
        "task": "localization[sigma=2.0]",
        "dataset": "tiny",
        "root": str(tiny_dataset),
        "data": fingerprint({row["category"]: row["data"] for row in outcome.rows})[:DATA_DIGITS],
        "weights": "random:seed0",
        "input_size": "64",
    }
    rows = {row["category"]: row for row in outcome.rows}
    # There is one seed, and nothing says how much of a defect is enough.
    lacking = [column for column in names.PREFIXES if column.endswith("_sd") or column.startswith("au_spro")]
    for column in lacking:
        assert f"{names.PREFIXES[column]}washer" not in record.data.metrics
    for column, prefix in names.PREFIXES.items():
        if column in lacking:
            continue
        for category, row in rows.items():
            assert record.data.metrics[prefix + category] == row[column]
        mean = np.mean([row[column] for row in rows.values()])
        assert record.data.metrics[f"{prefix}mean"] == pytest.approx(mean)
    for total in names.TOTALS:
        assert record.data.metrics[total] == pytest.approx(sum(row[total] for row in rows.values()))
    assert f"| washer | {rows['washer']['image_auroc']:.4f} |" in record.data.tags[names.TAG_NOTE]
    assert "pixel AUROC" in record.data.tags[names.TAG_NOTE]
    folder = tmp_path / "artifacts" / record.info.run_id / "artifacts"
    table = json.loads((folder / names.PER_CLASS_TABLE).read_text())
    assert [set(row) for row in table] == [set(names.TRIAL_COLUMNS)] * 2
    for category in rows:
        assert (folder / category / "cases.png").stat().st_size > 10_000
        maps = load_file(folder / category / "maps.safetensors")["maps"]
        assert maps.shape == (rows[category]["n_test"], 64, 64)
    # The maps are those that were measured.
    washer = read_category(tiny_dataset, "washer", dataset="tiny")
    maps = load_file(folder / "washer" / "maps.safetensors")["maps"]
    best = roc_auc_score(washer.test_labels, maps.max(axis=(1, 2)))
    assert best == pytest.approx(rows["washer"]["image_auroc"], abs=1e-9)


def test_company_and_batches_change_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = [
        localization(tiny_dataset, localizer()),
        localization(tiny_dataset, localizer(level="level2")),
        localization(tiny_dataset, localizer(power=2.0)),
        localization(tiny_dataset, localizer(), sigma=0.0),
    ]
    together = run(tmp_path / "a", *chosen)
    values = [[row["aupro"] for row in outcome.rows] for outcome in together]
    assert len({repr(one) for one in values}) == 4
    alone = [run(tmp_path / "b", one, batch_size=3)[0] for one in chosen]
    tight = run(tmp_path / "c", *chosen, memory_gb=1.5e-6)
    for other in (alone, tight):
        found = [[row["aupro"] for row in outcome.rows] for outcome in other]
        np.testing.assert_allclose(np.array(found, float), np.array(values, float), atol=1e-6)


def test_no_more_is_fitted_at_once_than_fits(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = localization(tiny_dataset, localizer())
    shard = make_plan([chosen], FileIndex(tmp_path / "index")).works[0].shard
    sizes = [400, 500, 2000, 100, 100]
    runs = [room._Run(trial, shard) for trial in _trials(tiny_dataset, tmp_path, sizes)]
    shapes = {"level3": (128, 8, 8)}
    groups = list(room.fitting_together(runs, shapes, 1000))
    assert [[run.localizer.bytes for run in group] for group in groups] == [  # type: ignore[attr-defined]
        [400, 500],
        [2000],
        [100, 100],
    ]


@pytest.mark.parametrize(("each", "processes"), [(10, 2), (int(1.5e9), 1), (int(1.3e9), 2), (int(9e9), 1)])
def test_no_more_processes_than_fit(tiny_dataset: Path, tmp_path: Path, each: int, processes: int) -> None:
    chosen = localization(tiny_dataset, localizer(bytes=each))
    works = make_plan([chosen], FileIndex(tmp_path / "index")).works
    assert affordable(works, runtime(tmp_path, workers=2), 2) == processes
    detection = make_plan([configuration(tiny_dataset)], FileIndex(tmp_path / "index")).works
    assert affordable(detection, runtime(tmp_path, workers=2), 2) == 2


def _trials(root: Path, tmp_path: Path, sizes: list[int]) -> list[LocalizationTrial]:
    chosen = [localization(root, localizer(bytes=size)) for size in sizes]
    return [
        LocalizationTrial(str(i), ("level3",), dict(one.localizer), one.task) for i, one in enumerate(chosen)
    ]


@pytest.mark.parametrize("where", ["fit_bytes", "partial_fit", "finish", "score"])
def test_a_failing_localizer_is_its_own_failure(tiny_dataset: Path, tmp_path: Path, where: str) -> None:
    good, bad = run(
        tmp_path, localization(tiny_dataset, localizer()), localization(tiny_dataset, localizer(breaks=where))
    )
    assert not good.failures
    assert len(bad.failures) == 2
    assert f"broken in {where}" in bad.failures[0]
    assert bad.mean_auc is None
    assert {row["aupro"] for row in bad.rows} == {None}


def test_resume_computes_only_what_is_missing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = localization(tiny_dataset, localizer())
    (before,) = run(tmp_path, first)
    computed: list[str] = []
    real = room._pass

    def counted(runs: list[room._Run], *rest: object) -> None:
        computed.extend(str(one.trial.localizer) for one in runs)
        real(runs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "_pass", counted)
    (again,) = run(tmp_path, first)
    assert computed == []
    assert [r["aupro"] for r in again.rows] == [r["aupro"] for r in before.rows]
    run(tmp_path, first, localization(tiny_dataset, localizer(power=2.0)))
    assert len(computed) == 2
    assert all("2.0" in one for one in computed)
    # Maps that are asked for and not there yet make the trial run again, with the same numbers.
    (kept,) = run(tmp_path, localization(tiny_dataset, localizer(), save_maps=True))
    assert len(computed) == 4
    assert [r["fingerprint"] for r in kept.rows] == [r["fingerprint"] for r in before.rows]


def test_a_changed_mask_is_new_work(tiny_dataset: Path, tmp_path: Path) -> None:
    import shutil

    from PIL import Image

    root = tmp_path / "data"
    for name in ("washer", "linen"):
        shutil.copytree(tiny_dataset / name, root / name)
    (before,) = run(tmp_path, localization(root, localizer()))
    mask = next((root / "washer" / "ground_truth").rglob("*.png"))
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), ((0, 60), (0, 60)))).save(mask)
    (after,) = run(tmp_path, localization(root, localizer()))
    prints = [{row["category"]: row["fingerprint"] for row in one.rows} for one in (before, after)]
    assert prints[0]["washer"] != prints[1]["washer"]
    assert prints[0]["linen"] == prints[1]["linen"]


def test_detection_and_localization_in_one_sweep(tiny_dataset: Path, tmp_path: Path) -> None:
    detected, localized = run(
        tmp_path, configuration(tiny_dataset), localization(tiny_dataset, localizer(), cache_maps=True)
    )
    assert not detected.failures
    assert not localized.failures
    assert {row["task"] for row in detected.rows} == {"detection"}
    assert {row["pixel_auroc"] for row in detected.rows} == {None}
    assert {row["localizer"] for row in detected.rows} == {None}


def test_two_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    padim = {"name": "padim", "_target_": "anomaly_sweep.localization.padim.Padim", "channels": 20}
    one = run(tmp_path / "a", localization(tiny_dataset, padim))
    two = run(tmp_path / "b", localization(tiny_dataset, padim, figure=True), workers=2)
    assert not one[0].failures
    np.testing.assert_allclose(
        [row["aupro"] for row in one[0].rows], [row["aupro"] for row in two[0].rows], atol=1e-6
    )


def edit(**changes: object) -> Callable[[dict[str, object]], dict[str, object]]:
    return lambda config: {**config, **changes}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"colour": 3}, r"localizer\.colour is not an argument of .*; allowed: .*level.*power"),
        ({"_target_": "nowhere.Nothing"}, r"localizer\._target_=nowhere\.Nothing cannot be imported"),
        ({"_target_": "fractions.Fraction"}, r"has no levels"),
        ({"level": "level9"}, r"localizer=distance: backbone resnet18 has no level9; it has level1"),
    ],
)
def test_wrong_localizers_are_told_first(
    tiny_dataset: Path, tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, localization(tiny_dataset, {**localizer(), **wrong}))
    assert not (tmp_path / "mlflow.db").exists()


def test_missing_masks_are_told(tiny_dataset: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "data"
    for name in ("washer", "linen"):
        shutil.copytree(tiny_dataset / name, root / name)
    mask = sorted((root / "washer" / "ground_truth").rglob("*.png"))[0]
    mask.unlink()
    try:
        (outcome,) = run(tmp_path, localization(root, localizer()))
    except (DatasetError, AnomalySweepError) as error:
        pytest.fail(f"the other category can be used: {error}")
    assert len(outcome.failures) == 1
    assert outcome.failures[0].startswith("washer:")
    assert "mask" in outcome.failures[0]


def test_pixel_objectives_need_localization(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.objectives=aupro needs task=localization"):
        run(tmp_path, configuration(tiny_dataset), objectives=["aupro"])
    (outcome,) = run(tmp_path, localization(tiny_dataset, localizer()), objectives=["aupro"])
    assert outcome.objective("aupro") == pytest.approx(np.mean([row["aupro"] for row in outcome.rows]))


def test_a_plan_in_words(tiny_dataset: Path, tmp_path: Path) -> None:
    words = describe_configurations([localization(tiny_dataset, localizer())], runtime(tmp_path))
    assert "2 to make" in words
    assert "2 localizers" in words


def test_weights_that_do_not_reach(tiny_dataset: Path, tmp_path: Path) -> None:
    chosen = localization(tiny_dataset, localizer())
    broken = replace(chosen, dataset=DatasetConf(name="tiny", root=str(tmp_path / "nowhere")))
    with pytest.raises(DatasetError, match="nowhere"):
        run(tmp_path, broken)
