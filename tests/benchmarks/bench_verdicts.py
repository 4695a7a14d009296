"""How often verdicts are wrong, and how often intervals cover, where the truth is known.

Simulated sweeps: every choice has its own normal deviation in each category, so that the difference of two
choices has the stated standard deviation (SD, in points) over categories. Prints

1. the coverage of the 95 % intervals of means over categories;
2. the coverage of DeLong's intervals of an AUROC, plain and on the logit scale, and the level of his test;
3. how often wrong verdicts come where the categories' differences are not normal;
4. for each statement on Ono & Mori, in per cent of the sweeps: the verdicts where all choices are equal; the
   wrong verdicts where the truth is exactly at the bound (for "holds": one difference at the bound, the
   others far on its good side; for "does not hold": all of them at the bound); and the right verdicts where
   all differences are two SD from the bound. Each among twelve statements, of which no other is clear;
5. how often a list of twelve statements at their bounds holds any verdict.

Rates are of ``--sweeps`` simulated ones: the standard error of a rate of 5 % over 2,000 is 0.5 points.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from multirun_analysis.papers.verdicts import FAILS, HOLDS, Claim, Statement, judge, together
from multirun_analysis.stats.delong import area, compared
from multirun_analysis.stats.intervals import Floats, mean_interval

CATEGORIES = (8, 15)
SPREADS = (1.0, 2.0, 4.0)
FAR = 50.0
DISTANCE = 2.0
LIST = 12

Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
#: Deviations of mean 0 and standard deviation 1.
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails (t, 3 df)": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "one in ten of 5 times the SD": lambda rng, shape: (
        rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 5, 1) / math.sqrt(3.4)
    ),
    "half of them 0": lambda rng, shape: (
        rng.standard_normal(shape) * (rng.random(shape) < 0.5) * math.sqrt(2)
    ),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "very skewed (lognormal)": lambda rng, shape: (
        (rng.lognormal(size=shape) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
    ),
}


@dataclass(frozen=True)
class Case:
    """A statement of the claims: its bound and side, and of how many differences it is.

    ``choices`` are the number of choices averaged on each side of a difference.
    """

    statement: Statement
    differences: int = 1
    choices: tuple[float, float] = (1, 1)

    def draw(self, rng: np.random.Generator, n: int, spread: float, means: Floats, shape: str) -> Floats:
        """Differences in points of shape (n, differences) about their means; they share their last choice.

        Where the sides average several choices, deviations are smaller accordingly.
        """
        own, shared = (
            spread / math.sqrt(2 * count) * SHAPES[shape](rng, (n, size))
            for count, size in zip(self.choices, (self.differences, 1), strict=True)
        )
        if self.statement.side == "within":  # each estimator has its own two choices
            shared = spread / math.sqrt(2) * SHAPES[shape](rng, (n, self.differences))
        return np.asarray(means + own - shared)

    def at_bound(self, others: float) -> Floats:
        """Means with the first at the bound and the others so far on its good side."""
        good = {"above": 1.0, "below": -1.0, "within": 0.0}[self.statement.side]
        means = np.full(self.differences, self.statement.bound + good * others)
        if self.statement.side == "within" and others:
            means = np.zeros(self.differences)
        means[0] = self.statement.bound
        return means

    def beyond(self, distance: float) -> Floats:
        """Means so far on the good side of the bound (on the bad one where negative), all of them."""
        sign = {"above": 1.0, "below": -1.0, "within": -1.0}[self.statement.side]
        return np.full(self.differences, self.statement.bound + sign * distance)


CASES = {
    "deep levels beat shallow ones": Case(Statement("", "", ""), choices=(3, 3)),
    "the deepest level is best": Case(Statement("", "", ""), 6),
    "NPCA beats no reduction": Case(Statement("", "", ""), choices=(5, 1)),
    "no reduction beats PCA": Case(Statement("", "", ""), choices=(5, 1)),
    "NPCA 20-50 % loses nothing": Case(Statement("", "", "", bound=-1.0), 4),
    "k = 5, 10 do not beat k = 1": Case(Statement("", "", "", bound=1.0, side="below"), 2),
    "MVG beats k-NN": Case(Statement("", "", "")),
    "MVG and k-NN as good as the flow": Case(Statement("", "", "", bound=-1.0), 2),
    "avg pooling is best": Case(Statement("", "", ""), 6),
    "noise changes less than 0.001": Case(Statement("", "", "", bound=0.1, side="within"), 2),
    "noise changes less than 0.1": Case(Statement("", "", "", bound=10.0, side="within"), 2),
    "EfficientNet-B5 beats ResNet-18": Case(Statement("", "", "")),
}


def among(claim: Claim) -> str:
    """The verdict among twelve of which the others have p = 1: the first step of Holm's method."""
    other = Claim(claim.statement, claim.interval, claim.categories, "", "", 0.5, 0.5)
    return together([claim, *[other] * (LIST - 1)])[0].verdict


def rates(
    case: Case, means: Floats, n: int, spread: float, sweeps: int, shape: str = "normal"
) -> dict[str, float]:
    """Per cent of the sweeps with each verdict, among twelve; and taken alone, as `` alone``."""
    rng = np.random.default_rng(0)
    found = {HOLDS: 0, FAILS: 0, f"{HOLDS} alone": 0, f"{FAILS} alone": 0}
    for _ in range(sweeps):
        claim = judge(case.statement, case.draw(rng, n, spread, means, shape) / 100)
        for words, verdict in (("", among(claim)), (" alone", together([claim])[0].verdict)):
            if verdict in (HOLDS, FAILS):
                found[verdict + words] += 1
    return {key: 100 * count / sweeps for key, count in found.items()}


def verdicts(sweeps: int) -> None:
    """Parts 4 and 5."""
    print(
        f"Verdicts in per cent of {sweeps} sweeps. equal: holds / does not, all choices equal. at the bound:"
    )
    print("wrongly holds / wrongly does not (in brackets: the statement alone). power: holds / does not, all")
    print(f"differences {DISTANCE:g} SD from the bound.\n")
    for n in CATEGORIES:
        for spread in SPREADS:
            print(f"{n} categories, SD {spread:g} points")
            for name, case in CASES.items():
                equal = rates(case, np.zeros(case.differences), n, spread, sweeps)
                held = rates(case, case.at_bound(FAR), n, spread, sweeps)
                failed = rates(case, case.at_bound(0.0), n, spread, sweeps)
                power = [
                    rates(case, case.beyond(sign * DISTANCE * spread), n, spread, sweeps)[word]
                    for sign, word in ((1, HOLDS), (-1, FAILS))
                ]
                if case.statement.side == "within" and case.statement.bound < DISTANCE * spread:
                    power[0] = math.nan  # no truth is so far inside
                print(
                    f"  {name:34s} equal {equal[HOLDS]:5.1f} / {equal[FAILS]:4.1f}   at the bound "
                    f"{held[HOLDS]:4.1f} / {failed[FAILS]:4.1f} ({held[f'{HOLDS} alone']:4.1f} / "
                    f"{failed[f'{FAILS} alone']:4.1f})   power {power[0]:5.1f} / {power[1]:5.1f}"
                )
            print(
                f"  any wrong verdict in a list of twelve at their bounds: {lists(n, spread, sweeps):.1f}\n"
            )


def lists(n: int, spread: float, sweeps: int, shape: str = "normal") -> float:
    """Per cent of lists of all statements, at their bounds, that hold a verdict; they share no trials."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(sweeps):
        claims = [
            judge(case.statement, case.draw(rng, n, spread, case.at_bound(0.0), shape) / 100)
            for case in CASES.values()
        ]
        wrong += any(claim.verdict in (HOLDS, FAILS) for claim in together(claims))
    return 100 * wrong / sweeps


def shapes(sweeps: int) -> None:
    """Part 3."""
    print(
        "Verdicts, all wrong, on one difference at its bound, in per cent: among twelve (alone), and any in a"
    )
    print("list of twelve")
    case = CASES["MVG beats k-NN"]
    for shape in SHAPES:
        cells = []
        for n in CATEGORIES:
            rng = np.random.default_rng(0)
            alone = twelve = 0
            for _ in range(sweeps):
                claim = judge(case.statement, SHAPES[shape](rng, (n, 1)) / 100)
                alone += together([claim])[0].verdict in (HOLDS, FAILS)
                twelve += among(claim) in (HOLDS, FAILS)
            every = lists(n, 1.0, sweeps // 4, shape)
            cells.append(f"n = {n}: {100 * twelve / sweeps:4.1f} ({100 * alone / sweeps:4.1f}), {every:4.1f}")
        print(f"  {shape:30s} {'   '.join(cells)}")
    print()


def coverage(sweeps: int) -> None:
    """Part 1."""
    print("Coverage of 95 % intervals of a mean over categories, in per cent")
    for shape, draw in SHAPES.items():
        cells = []
        for n in (5, *CATEGORIES):
            rng = np.random.default_rng(2)
            intervals = [mean_interval(values) for values in draw(rng, (sweeps, n))]
            cells.append(f"n = {n}: {100 * np.mean([i.low <= 0 <= i.high for i in intervals]):5.1f}")
        print(f"  {shape:30s} {'   '.join(cells)}")
    print()


def delong(sweeps: int) -> None:
    """Part 2: binormal scores; the two of a test share half of their variance."""
    print(
        "DeLong: coverage of 95 % intervals in per cent, logit (plain); perfect: AUROCs of exactly 1; test:"
    )
    print("rejections of equal AUROCs at 5 %")
    for good, bad in ((20, 60), (20, 20), (60, 100)):
        for truth in (0.8, 0.9, 0.99):
            rng = np.random.default_rng(3)
            labels = np.repeat([1, 0], [bad, good])
            apart = math.sqrt(2) * stats.norm.ppf(truth) * labels
            logit = plain = perfect = rejected = 0
            for _ in range(sweeps):
                common, first, second = rng.standard_normal((3, good + bad))
                both = compared(*(math.sqrt(0.5) * (common + own) + apart for own in (first, second)), labels)
                rejected += both.p < 0.05
                own = area(math.sqrt(0.5) * (common + first) + apart, labels)
                half = 1.96 * math.sqrt(own.variance)
                logit += own.low <= truth <= own.high
                plain += own.variance > 0 and own.value - half <= truth <= own.value + half
                perfect += own.value == 1
            of = 100 / sweeps
            print(
                f"  {good} good, {bad} anomalous, AUROC {truth}: {logit * of:5.1f} ({plain * of:4.1f})   "
                f"perfect {perfect * of:4.1f}   test {rejected * of:4.1f}"
            )
    print()


def main() -> None:
    """Print all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=2000, help="simulated sweeps (default: %(default)s)")
    sweeps = parser.parse_args().sweeps
    coverage(sweeps)
    delong(sweeps)
    shapes(sweeps)
    verdicts(sweeps)


if __name__ == "__main__":
    main()
