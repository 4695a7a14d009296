"""A task from elsewhere (CONTRIBUTING.md's: a file and a config) through everything that tasks go through."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import multirun_analysis
from anomaly_sweep import compose, describe_configurations, long_table, run_configurations
from anomaly_sweep.cli import sweep
from anomaly_sweep.datasets import read_category
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.sweep.folders import file_index
from anomaly_sweep.sweep.plan.describe import forecast_of
from anomaly_sweep.sweep.plan.planner import make_plan
from anomaly_sweep.sweep.run.progress import Progress
from multirun_analysis.cli import main as analysis
from multirun_analysis.errors import AnalysisError
from tests.support.multirun import arguments, runs
from tests.support.sweeps import computed

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAME = "pixel_statistic"
STATISTICS = ("mean", "std")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the task's two files."""
    for file in (f"{NAME}.py", f"my_conf/task/{NAME}.yaml"):
        (text,) = re.findall(rf"```(?:python|yaml)\n# {re.escape(file)}\n(.*?)```", TEXT, re.DOTALL)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def aurocs(root: Path, statistic: str) -> dict[str, float]:
    """By hand: Pillow, NumPy and scikit-learn."""
    found = {}
    for name in ("linen", "washer"):
        category = read_category(root, name, dataset="tiny")

        def values(records: object) -> np.ndarray:
            images = (Image.open(record.path).convert("RGB") for record in records)  # type: ignore[attr-defined]
            small = (image.resize((64, 64), Image.Resampling.BILINEAR) for image in images)
            return np.array([getattr(np.asarray(image, dtype=float), statistic)() for image in small])

        distances = np.abs(values(category.test) - values(category.train).mean())
        found[name] = roc_auc_score(category.test_labels, distances)
    return found


def test_through_compose_plan_and_table(folder: Path, tiny_dataset: Path) -> None:
    chosen = compose(
        *arguments(tiny_dataset), f"task={NAME}", "task.statistic=mean,std", config_dir=folder / "my_conf"
    )
    plan = describe_configurations(chosen.configurations, chosen.runtime)
    assert re.search(rf"to compute +4: 4 {NAME}$", plan, re.MULTILINE)
    assert "features" not in plan  # no network is made
    table = long_table(run_configurations(*chosen))
    assert table["statistic"].to_list() == ["mean", "mean", "std", "std"]
    assert set(table["task"]) == {NAME}
    assert set(table["weights"]) == {"none"}
    assert table["backbone"].isna().all()
    for statistic, rows in table.groupby("statistic"):
        expected = aurocs(tiny_dataset, str(statistic))
        assert dict(zip(rows["category"], rows["image_auroc"], strict=True)) == pytest.approx(expected)
    assert len(set(table["fingerprint"])) == 4


def launch(monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    monkeypatch.setattr(sys, "argv", ["anomaly-sweep", "-m", "--config-dir", "my_conf", *more])
    sweep.main()


def test_sweep_pool_record_resume_pivot(
    folder: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [line for line in arguments(tiny_dataset) if not line.startswith(("runtime.workers", "backbone"))]
    line = (*own, f"task={NAME}", "task.statistic=mean,std", "runtime.workers=2")
    launch(monkeypatch, *line)
    recorded = runs(folder)
    assert {run.data.params["statistic"] for run in recorded} == set(STATISTICS)
    first = {run.data.params["statistic"]: run.data.metrics["auc/washer"] for run in recorded}
    assert first == pytest.approx({name: aurocs(tiny_dataset, name)["washer"] for name in STATISTICS})

    monkeypatch.setattr(sys.modules[NAME].PixelStatistic, "scores", None)
    launch(monkeypatch, *line)  # everything is known: nothing is computed
    assert {run.info.run_id for run in runs(folder)} == {run.info.run_id for run in recorded}

    trials = multirun_analysis.read_trials(f"sqlite:///{folder / 'mlflow.db'}")
    assert sorted(trials["statistic"]) == ["mean", "mean", "std", "std"]
    (block,) = multirun_analysis.pivot(trials, "statistic", "category").blocks
    for row in block.rows:
        expected = list(aurocs(tiny_dataset, row.header).values())
        values = [cell.value for cell in row.cells]
        assert values == pytest.approx([*expected, np.mean(expected)])
    with pytest.raises(AnalysisError, match=r"would mix several configurations.*statistic \(mean, std\)"):
        multirun_analysis.pivot(trials, "task", "category")
    capsys.readouterr()
    assert not analysis(["pivot", "--rows", "statistic", "--cols", "category", "--where", "statistic=std"])
    out = capsys.readouterr().out
    assert "std" in out
    assert "mean AUROC" not in out


def test_in_a_pool(folder: Path, tiny_dataset: Path) -> None:
    chosen = compose(*arguments(tiny_dataset), f"task={NAME}", config_dir=folder / "my_conf")
    works = make_plan(chosen.configurations, file_index(chosen.runtime)).works
    found = computed(works, chosen.runtime, Progress(forecast_of(works, chosen.runtime, 2)))
    expected = aurocs(tiny_dataset, "mean")
    assert {one.work.shard.category.name: one.results[0].image_auroc for one in found} == pytest.approx(
        expected
    )


def test_wrong_settings_and_failures(folder: Path, tiny_dataset: Path) -> None:
    conf = folder / "my_conf"
    with pytest.raises(ConfigError, match=r"task\.statistic=mode is not allowed; allowed: mean, std"):
        compose(f"task={NAME}", "task.statistic=mode", config_dir=conf)
    (conf / "task" / "none.yaml").write_text("name: none\n_target_: collections.OrderedDict\n")
    with pytest.raises(ConfigError, match=r"task\._target_=collections\.OrderedDict is no task"):
        compose("task=none", config_dir=conf)
    (folder / "broken_statistic.py").write_text(
        f"import {NAME}\n\nclass Broken({NAME}.PixelStatistic):\n"
        "    def scores(self, *what):\n        return super().scores(*what)[1:]\n"
    )
    (conf / "task" / "broken.yaml").write_text("name: broken\n_target_: broken_statistic.Broken\n")
    table = long_table(run_configurations(*compose(*arguments(tiny_dataset), "task=broken", config_dir=conf)))
    assert set(table["status"]) == {"failed"}
    assert table["reason"].str.contains("gave scores of shape").all()
    with pytest.raises(AnomalySweepError, match=r"runtime\.objectives=aupro needs task=localization"):
        run_configurations(
            *compose(*arguments(tiny_dataset), "runtime.objectives=[aupro]", f"task={NAME}", config_dir=conf)
        )
