"""The closed-form part of the grid: 14 layers x 11 reductions x {MVG, k-NN 1, 5, 10} x 15 categories.

    python tests/benchmarks/bench_closed_form.py [--layers N] [--categories N] [--every N]

Random features of ResNet-18's and EfficientNet-B5's widths and MVTec AD's image counts, on one thread:

* scikit-learn: each trial on its own, as one would write it (``PCA``, ``LedoitWolf`` or ``NearestNeighbors``,
  ``roc_auc_score``), on every N-th trial (``--every``), extrapolated;
* plain: ``run_trials(shared=False)``, one spectrum per layer and category, then trial by trial;
* shared: ``run_trials``.

Times are the process's own CPU seconds: what other programs take of a shared machine is not in them. They
wander still; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.datasets.readers.mvtec_ad import OFFICIAL_COUNTS
from anomaly_sweep.features.pooled import ShardFeatures
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.detection.run import run_trials
from anomaly_sweep.tasks.detection.trial import DetectionTrial

WIDTHS = {"resnet18": (64, 64, 128, 256, 512), "efficientnet_b5": (24, 40, 64, 128, 176, 304, 512)}
REDUCTIONS = [PcaModeConf("none")] + [
    PcaModeConf(f"{mode}{rate}", mode, rate / 100) for mode in ("pca", "npca") for rate in range(10, 60, 10)
]
ESTIMATORS = [
    {
        "name": "mvg",
        "_target_": "anomaly_sweep.estimators.gaussian.MultivariateGaussian",
        "shrinkage": "ledoit_wolf",
    },
    *(
        {
            "name": f"knn{k}",
            "_target_": "anomaly_sweep.estimators.neighbors.NearestNeighborDistance",
            "k": k,
            "aggregation": "mean",
        }
        for k in (1, 5, 10)
    ),
]


def layers() -> list[tuple[str, tuple[int, ...]]]:
    """The grid's 14 layers: (backbone, indices of its levels)."""
    return [
        (name, levels)
        for name, widths in WIDTHS.items()
        for levels in (*((i,) for i in range(len(widths))), tuple(range(len(widths))))
    ]


def features_of(category: str, backbone: str) -> tuple[ShardFeatures, np.ndarray]:
    """Positive features whose variances fall off as those of pooled activations do; defects are shifted."""
    counts = OFFICIAL_COUNTS[category]
    rng = np.random.default_rng([sum(map(ord, category + backbone))])
    labels = np.repeat([0, 1], [counts.test_good, counts.test_defect])
    parts: dict[str, dict[str, dict[str, np.ndarray]]] = {"train": {}, "test": {}}
    for level, width in enumerate(WIDTHS[backbone]):
        mixing = rng.standard_normal((width, width)) * np.linspace(1, 0.03, width)[:, None]
        shift = rng.standard_normal(width) * 0.3
        for part, n in (("train", counts.train_good), ("test", len(labels))):
            latent = rng.standard_normal((n, width))
            if part == "test":
                latent += labels[:, None] * shift * rng.uniform(0, 1, (n, 1))
            parts[part][str(level)] = {"avg": np.abs(latent @ mixing + 1).astype(np.float32)}
    return ShardFeatures(parts["train"], parts["test"], {}), labels


def trials_of(levels: tuple[int, ...]) -> list[DetectionTrial]:
    return [
        DetectionTrial(
            fingerprint(levels, reduction, estimator), tuple(map(str, levels)), ("avg",), reduction, estimator
        )
        for reduction in REDUCTIONS
        for estimator in ESTIMATORS
    ]


def naive(train: np.ndarray, test: np.ndarray, labels: np.ndarray, trial: DetectionTrial) -> float:
    """One trial as a user of scikit-learn writes it."""
    mode = trial.pca_mode
    if mode.mode != "none":
        rank = min(len(train) - 1, train.shape[1])
        k = round(mode.rate * rank)
        kept = slice(0, k) if mode.mode == "pca" else slice(rank - k, rank)
        pca = PCA().fit(train)
        train, test = pca.transform(train)[:, kept], pca.transform(test)[:, kept]
    if "k" in trial.estimator:
        found, _ = NearestNeighbors(n_neighbors=trial.estimator["k"]).fit(train).kneighbors(test)
        return float(roc_auc_score(labels, found.mean(axis=1)))
    return float(roc_auc_score(labels, LedoitWolf().fit(train).mahalanobis(test)))


def spectra(
    n_layers: int, n_categories: int
) -> Iterator[tuple[ShardFeatures, np.ndarray, list[DetectionTrial]]]:
    for category in list(OFFICIAL_COUNTS)[:n_categories]:
        made = {backbone: features_of(category, backbone) for backbone in WIDTHS}
        for backbone, levels in layers()[-n_layers:]:
            yield (*made[backbone], trials_of(levels))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=14, help="the last N of 14 (default: all)")
    parser.add_argument("--categories", type=int, default=15, help="the first N of 15 (default: all)")
    parser.add_argument(
        "--every", type=int, default=7, help="scikit-learn does every N-th trial (default: 7)"
    )
    parser.add_argument("--goal", type=float, help="exit with 1 if shared is not this many times faster")
    options = parser.parse_args(arguments)
    seconds = {"scikit-learn": 0.0, "plain": 0.0, "shared": 0.0}
    different = {"scikit-learn": 0.0, "plain": 0.0}
    count = sampled = 0
    with threadpool_limits(limits=1):
        run_trials(*next(spectra(1, 1)))  # imports are not what is measured
        for features, labels, trials in spectra(options.layers, options.categories):
            begun = time.process_time()
            shared = {r.fingerprint: r for r in run_trials(features, labels, trials)}
            seconds["shared"] += time.process_time() - begun
            begun = time.process_time()
            plain = {r.fingerprint: r for r in run_trials(features, labels, trials, shared=False)}
            seconds["plain"] += time.process_time() - begun
            areas = {trial_id: result.image_auroc for trial_id, result in shared.items()}
            different["plain"] = max(
                different["plain"], *(abs(areas[p] - r.image_auroc) for p, r in plain.items())
            )
            train, test = features.matrices(trials[0].levels, trials[0].pools)
            for trial in trials[-count % options.every :: options.every]:
                begun = time.process_time()
                area = naive(train, test, labels, trial)
                seconds["scikit-learn"] += time.process_time() - begun
                different["scikit-learn"] = max(
                    different["scikit-learn"], abs(areas[trial.fingerprint] - area)
                )
                sampled += 1
            count += len(trials)
    seconds["scikit-learn"] *= count / sampled
    print(f"{count} trials, one thread; scikit-learn on {sampled} of them, extrapolated")
    print(f"{'':14}{'seconds':>9}{'ms/trial':>10}{'ratio':>8}   largest AUROC difference to shared")
    for name, taken in seconds.items():
        apart = f"{different[name]:.1e}" if name in different else ""
        print(f"{name:14}{taken:9.2f}{1e3 * taken / count:10.3f}{taken / seconds['shared']:7.1f}x   {apart}")
    return int(options.goal is not None and seconds["scikit-learn"] < options.goal * seconds["shared"])


if __name__ == "__main__":
    sys.exit(main())
