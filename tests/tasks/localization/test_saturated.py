"""AU-sPRO of a run on MVTec LOCO AD's layout, again from its maps and masks on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from anomaly_sweep import compose, long_table, run_configurations
from anomaly_sweep.metrics.regions import Defect
from tests.metrics.test_saturated import by_thresholds
from tests.support.layouts import write_mvtec_loco

SIDE = 64


def run(root: Path) -> Any:
    overrides = [
        *("dataset=mvtec_loco", f"dataset.root={root}", "dataset.categories=[pushpins]"),
        *("backbone=efficientnet_lite0", "backbone.weights=random", "task=localization", "localizer=padim"),
        *("localizer.levels=[level3]", "task.save_maps=true", "task.figure=false", "runtime.workers=1"),
        f"dataset.input_size={SIDE}",
    ]  # fmt: skip
    (row,) = long_table(run_configurations(*compose(*overrides))).to_dict("records")
    return row


def defects_of_type(root: Path, kind: str, names: list[str]) -> list[Any]:
    """As `Defect`, by the rules of the data set: a mask a defect, saturation by its value."""
    config = {
        one["pixel_value"]: one for one in json.loads((root / "pushpins/defects_config.json").read_text())
    }
    found = []
    for place, name in enumerate(names):
        if f"/{kind}/" not in name:
            continue
        for path in sorted((root / f"pushpins/ground_truth/{kind}" / Path(name).stem).iterdir()):
            image = Image.open(path)
            one = config[int(np.asarray(image).max())]
            marked = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 0
            enough = one["saturation_threshold"]
            if one["relative_saturation"]:
                enough *= marked.sum()
            else:
                enough = min(enough * SIDE**2 / (image.width * image.height), marked.sum())
            found.append(Defect(place, marked, float(enough)))
    return found


def test_logical_and_structural_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_mvtec_loco(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    row = run(tmp_path / "data")
    assert row["status"] == "ok", row["reason"]
    (path,) = Path(".anomaly_sweep").rglob("maps.safetensors")
    (maps,) = (tensor for tensor in load_file(path).values() if tensor.ndim == 3)
    names = sorted(name for name, one in written["pushpins"].items() if not one.train)
    assert len(maps) == len(names)
    for kind in ("logical", "structural"):
        folder = f"{kind}_anomalies"
        kept = [i for i, name in enumerate(names) if f"/{folder}/" in name or "/good/" in name]
        defects = defects_of_type(tmp_path / "data", folder, [names[i] for i in kept])
        assert len(defects) == {"logical": 4, "structural": 2}[kind]
        expected = by_thresholds(maps[kept], defects, 0.05)
        assert row[f"au_spro_{kind}"] == pytest.approx(expected, abs=1e-9)
    assert row["au_spro"] == pytest.approx((row["au_spro_logical"] + row["au_spro_structural"]) / 2)


def test_a_mask_of_no_known_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mvtec_loco(tmp_path / "data")
    path = tmp_path / "data/pushpins/ground_truth/structural_anomalies/000/000.png"
    Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * np.uint8(7)).save(path)
    monkeypatch.chdir(tmp_path)
    row = run(tmp_path / "data")
    assert row["status"] == "failed"
    assert f"mask {path} has the value 7, that of no defect of pushpins: 255 (missing)" in row["reason"]
