"""What training the flows costs: one at a time, stacked, and the floor their matrix products set.

    python tests/benchmarks/bench_flows.py                 # all parts, on one CPU thread
    python tests/benchmarks/bench_flows.py --device cuda   # the first part on a GPU

1. The 2,310 flows of Ono & Mori's grid with MVTec AD's shapes: RealNVP of 8 blocks, two hidden layers of 128,
   500 full-batch steps. Extrapolated from a stratified sample: flows (or stacks) are ordered by a rough
   prediction of their time, cut into strata of equal predicted time, and the middle one of each is measured;
   its measured over its predicted time scales its stratum.
   "plain" is one flow at a time with autograd, "alone" one at a time with the written-out step, "stacked" the
   stacks `plan_stacks` makes of all the flows, and "sweep" those of one backbone level's eleven
   reductions, which is what a sweep trains together.
2. The 2,310 flows of the grid on the embedded data set with the default preset, measured in full for one
   category: its 14 x 11 flows with their scoring, beside as many flows that all take the preset's most steps.
3. One training step of the default preset with autograd and written out, in turns (docs/evidence.md).

Times on a CPU are process times, which still wander with the machine; all ratios are of this run. The floor
is the operations of all matrix products at the rate of a large float32 product.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.datasets.readers.mvtec_ad import OFFICIAL_COUNTS
from anomaly_sweep.estimators.flow import (
    FAST,
    FlowSettings,
    flow_settings,
    plan_stacks,
    score_stack,
    train_stack,
)
from anomaly_sweep.estimators.flow.choice import Refit
from anomaly_sweep.estimators.flow.coupling import FlowShape, Permutations, initial_member, loss
from anomaly_sweep.estimators.flow.descent import Descent
from anomaly_sweep.tasks.detection.reductions import Matrix, Reductions

#: Channels of the levels of ResNet-18 and EfficientNet-B5, and all of each network's together.
LEVELS = (64, 64, 128, 256, 512, 1024, 24, 40, 64, 128, 176, 304, 512, 1248)
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)
REFERENCE = flow_settings(
    blocks=8, coupling="realnvp", hidden=128, hidden_layers=2, steps=500, learning_rate=2e-4, folds=0
)
#: All of a fixed number of steps, as many flows at once as above: what choosing the number costs against.
ALL_STEPS = replace(FAST, folds=0)
#: Flows of a stack, samples, dimensions: whose training step is timed by itself.
STEPS = (
    (1, 24, 12), (32, 24, 4), (5, 24, 40), (1, 240, 128),
    (1, 240, 512), (32, 24, 16), (32, 240, 8), (8, 240, 64),
)  # fmt: skip

Shape = tuple[int, int]
Stack = list[Shape]


def reductions(n: int, d: int) -> list[Shape]:
    """(samples, dimensions) after no reduction, PCA and NPCA."""
    rank = min(d, n - 1)
    return [(n, d), *[(n, max(1, round(rate * rank))) for rate in RATES * 2]]


def operations(stack: Stack, settings: FlowSettings) -> float:
    """Floating-point operations of the matrix products of a step: one forward, two backward."""
    return sum(6.0 * n * sum(a * b for a, b in FlowShape(d, settings).layers) for n, d in stack)


def peak(device: torch.device) -> float:
    """Operations a second of a large float32 matrix product, the best of a few."""
    size = 1536 if device.type == "cpu" else 8192
    a, b = torch.rand(2, size, size, device=device)
    return 2 * size**3 / min(timed(lambda: torch.mm(a, b), device) for _ in range(8))


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run: on a CPU those of this process, whatever else the machine does."""
    if device.type == "cpu":
        begun = time.process_time()
        run()
        return time.process_time() - begun
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def stepper(stack: Stack, settings: FlowSettings, device: torch.device, plain: bool) -> Callable[[], object]:
    """A function that takes one training step of a stack on random data."""
    d, columns = stack[0][1], max(n for n, _ in stack)
    shape = FlowShape(d, settings)
    initial = [initial_member(shape, torch.Generator().manual_seed(seed)) for seed in range(len(stack))]
    permutations = Permutations.of([order for _, order in initial], device)
    parts = [torch.stack(same).to(device) for same in zip(*(p for p, _ in initial), strict=True)]
    x = torch.randn(len(stack), d, columns).to(device)
    weights = torch.full((len(stack), columns), 1 / columns, device=device)
    if not plain:
        return Descent(shape, torch.cat([p.flatten() for p in parts]), permutations, x, weights).advance
    leaves = [p.requires_grad_() for p in parts]
    optimizer = torch.optim.Adam(leaves, lr=settings.learning_rate, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(leaves, permutations, x, weights, shape).sum().backward()
        optimizer.step()

    return step


def seconds_per_step(
    stack: Stack, settings: FlowSettings, device: torch.device, plain: bool, steps: int
) -> float:
    """Median over three rounds after a warm-up."""
    step = stepper(stack, settings, device, plain)
    for _ in range(3):
        step()

    def many() -> None:
        for _ in range(steps):
            step()

    return statistics.median(timed(many, device) for _ in range(3)) / steps


def extrapolate(
    stacks: Sequence[Stack],
    settings: FlowSettings,
    device: torch.device,
    rate: float,
    *,
    plain: bool = False,
    strata: int,
    steps: int,
) -> float:
    """Seconds of training all stacks, from one of each stratum."""

    def predicted(stack: Stack) -> float:
        return 2e-3 + 1.5 * operations(stack, settings) / rate

    flows = sorted((stack for stack in stacks if stack[0][1] > 1), key=predicted)
    cumulated = np.cumsum([predicted(stack) for stack in flows])
    stratum = np.minimum((cumulated / cumulated[-1] * strata).astype(int), strata - 1)
    total = 0.0
    for index in np.unique(stratum):
        members = np.flatnonzero(stratum == index)
        sample = flows[members[len(members) // 2]]
        share = sum(predicted(flows[i]) for i in members) / predicted(sample)
        total += share * seconds_per_step(sample, settings, device, plain, steps)
    return total * settings.steps


def grid(settings: FlowSettings, device: torch.device, strata: int, steps: int) -> None:
    """Part 1."""
    groups = [reductions(counts.train_good, d) for counts in OFFICIAL_COUNTS.values() for d in LEVELS]
    flows = [shape for group in groups for shape in group]

    def planned(shapes: list[Shape]) -> list[Stack]:
        return [[shapes[i] for i in stack] for stack in plan_stacks(shapes, settings, device=str(device))]

    rate = peak(device)
    floor = operations(flows, settings) * settings.steps / rate
    stacked, sweep = planned(flows), [stack for group in groups for stack in planned(group)]
    alone = [[shape] for shape in flows]
    kinds = {"plain": alone, "alone": alone, "stacked": stacked, "sweep": sweep}
    print(f"{len(flows)} flows x {settings.steps} steps, {settings}")
    print(
        f"{device}: float32 peak {rate / 1e9:.0f} GFLOP/s; {strata} strata, 3 x {steps} steps of each sample"
    )
    print(f"{'':10}{'stacks':>8}{'hours':>9}{'of plain':>10}{'of the floor':>14}")
    hours = {}
    for name, stacks in kinds.items():
        seconds = extrapolate(
            stacks, settings, device, rate, plain=name == "plain", strata=strata, steps=steps
        )
        hours[name] = seconds / 3600
        print(
            f"{name:10}{len(stacks):>8}{hours[name]:>9.3f}{hours[name] / hours['plain']:>10.2f}"
            f"{seconds / floor:>14.2f}",
            flush=True,
        )
    print(f"{'floor':10}{'':8}{floor / 3600:>9.3f}{floor / 3600 / hours['plain']:>10.2f}{1:>14.2f}\n")


def embedded() -> None:
    """Part 2."""
    rng = np.random.default_rng(0)
    whole = PcaModeConf("none")
    modes = [whole, *[PcaModeConf("", mode, rate) for mode in ("pca", "npca") for rate in RATES]]
    groups = []
    for level in LEVELS:
        # Averages of rectified, correlated numbers, as pooled features are.
        mixing = rng.standard_normal((level, level)) * np.geomspace(1, 0.05, level)[:, None]
        train, test = (np.maximum(rng.standard_normal((n, 9, level)) @ mixing, 0).mean(1) for n in (24, 36))
        reduced = Reductions(train, test)
        groups.append([(*reduced.reduce(mode), reduced.refit(mode)) for mode in modes])
    everything = [flow for group in groups for flow in group]

    def run(flows: list[tuple[Matrix, Matrix, Refit]], settings: FlowSettings, most: int | None) -> None:
        for stack in plan_stacks([train.shape for train, _, _ in flows], settings, max_stack=most):
            some = [flows[i] for i in stack]
            trained = train_stack(
                [train for train, _, _ in some], stack, settings, refits=[refit for _, _, refit in some]
            )
            score_stack(trained, [test for _, test, _ in some])  # type: ignore[arg-type]

    cpu = torch.device("cpu")
    run(groups[0], FAST, None)
    print(f"embedded grid: 15 x {len(everything)} flows of 24 images, {FAST}")
    print(f"{'':38}{'one core':>10}{'two cores':>11}{'ratio':>8}")
    base = timed(lambda: run(everything, ALL_STEPS, None), cpu)
    for name, seconds in {
        f"{ALL_STEPS.steps} steps, stacks of a category": base,
        "chosen, one at a time": timed(lambda: run(everything, FAST, 1), cpu),
        "chosen, one level's reductions": timed(lambda: [run(group, FAST, None) for group in groups], cpu),
        "chosen, stacks of a category's flows": timed(lambda: run(everything, FAST, None), cpu),
    }.items():
        print(f"{name:38}{15 * seconds:>8.0f} s{7.5 * seconds:>9.0f} s{seconds / base:>8.2f}")


def steps(device: torch.device) -> None:
    """Part 3."""
    print(f"a step of {FAST} on {device}")
    print(f"{'flows':>6}{'samples':>9}{'dimensions':>12}{'autograd':>11}{'written out':>13}{'ratio':>7}")
    for members, n, d in STEPS:
        both = [stepper([(n, d)] * members, FAST, device, plain) for plain in (True, False)]
        seconds: list[list[float]] = [[], []]
        for turn in range(8):
            for step, own in zip(both, seconds, strict=True):
                own.append(timed(lambda step=step: [step() for _ in range(8)], device) / 8)  # type: ignore[misc]
            if turn == 0:
                seconds = [[], []]  # a warm-up
        plain, written = map(statistics.median, seconds)
        times = f"{1e3 * plain:>8.2f} ms{1e3 * written:>10.2f} ms{plain / written:>7.2f}"
        print(f"{members:>6}{n:>9}{d:>12}{times}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--part", choices=["grid", "embedded", "step", "all"], default="all")
    parser.add_argument("--strata", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a sample, three times")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is there")
    if arguments.part in ("step", "all"):
        steps(device)
    if arguments.part in ("grid", "all"):
        grid(replace(REFERENCE, hidden=arguments.hidden), device, arguments.strata, arguments.steps)
    if arguments.part in ("embedded", "all") and device.type == "cpu":
        embedded()


if __name__ == "__main__":
    main()
