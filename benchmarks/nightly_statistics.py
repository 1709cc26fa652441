"""How often the nightly's gates err, on simulated histories: false alarms in stable years, delay until a change is found.

    python benchmarks/nightly_statistics.py [--years 1000] [--seed 1]

A night is one value with normal noise; a night whose value is a regression is repeated once, with noise of its own, and is
red if the repeat is one too. Red nights do not enter the past; the first night is the accepted baseline. Prints the tables
of docs/nightly.md; exits with 1 if a figure misses what the gates must reach.
"""

import argparse
import os
import random
import statistics
import sys
from typing import Callable, List, NamedTuple, Optional

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))

from tasks.nightly import gates
from tasks.nightly.gates import Gate

YEAR = 365
# Where a change that is not found is given up.
PATIENCE = 200

Level = Callable[[int], float]


class Nights(NamedTuple):
    """What came of a history. red: the red nights, counted from 0. repeats: how many nights were repeated."""

    red: List[int]
    repeats: int


def play(
    random_: random.Random, gate: Gate, noise: float, nights: int, level: Level, same: bool = False, stop: int = 10**9
) -> Nights:
    """Simulates a history.

    Args:
      random_: where noise is from.
      gate: how nights are judged.
      noise: relative standard deviation of a night.
      nights: how many.
      level: the true value of a night.
      same: a repeat has the noise of the night's first run.
      stop: ends with the first red night from this one on.
    """
    past: List[float] = []
    red, repeats = [], 0
    for night in range(nights):
        value = level(night) * (1.0 + noise * random_.gauss(0.0, 1.0))
        if _is_red(gate, value, past, False):
            repeats += 1
            again = value if same else level(night) * (1.0 + noise * random_.gauss(0.0, 1.0))
            if _is_red(gate, again, past, True):
                red.append(night)
                if night >= stop:
                    break
                continue
            value = (value + again) / 2.0
        past.append(value)
    return Nights(red, repeats)


def delay(random_: random.Random, noise: float, settled: int, change: Level) -> Optional[int]:
    """Nights until a change is found which begins after `settled` nights: 1 is the first; None if it is not found."""

    def level(night: int) -> float:
        return 1.0 + (change(night - settled) if night >= settled else 0.0)

    found = play(random_, Gate(), noise, settled + PATIENCE, level, stop=settled).red
    return found[-1] - settled + 1 if found and found[-1] >= settled else None


def _is_red(gate: Gate, value: float, past: List[float], repeat: bool) -> bool:
    found = gates.judge(gate, [value], past[:1], past, repeat)
    return any(finding.level == gates.REGRESSION for finding in found)


def main() -> int:
    """Prints the tables; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=1000, help="simulated histories of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    missed = []
    print("| stable years | red nights a year | years with one | repeats a year |\n|---|---|---|---|")
    stable = (
        ("noise 1 %", 0.01, Gate(), False),
        ("noise 0.3 %", 0.003, Gate(), False),
        ("noise 2 %, `noise` 0.02, `tolerance` 0.1", 0.02, Gate(noise=0.02, tolerance=0.1), False),
        ("noise 2 %, but `noise` 0.01; `tolerance` 0.1", 0.02, Gate(tolerance=0.1), False),
        ("noise 1 %, the repeat's is the same", 0.01, Gate(), True),
    )
    for name, noise, gate, same in stable:
        random_ = random.Random(options.seed)
        years = [play(random_, gate, noise, YEAR, lambda night: 1.0, same) for _ in range(options.years)]
        red = statistics.mean(len(year.red) for year in years)
        some = statistics.mean(bool(year.red) for year in years)
        repeats = statistics.mean(year.repeats for year in years)
        print(f"| {name} | {red:.3f} | {100.0 * some:.1f} % | {repeats:.2f} |", flush=True)
        if noise == 0.01 and red > 1.0:
            missed.append(f"{name}: {red:.3f} red nights a year")
    heads = ("change, noise 1 %", "after", "median", "95 %", "worst", "within 2 nights", "within 28")
    print("\n| {} |\n|{}".format(" | ".join(heads), "---|" * len(heads)))
    changes = [(f"step of {size} %", lambda night, size=size: size / 100.0) for size in (2, 5, 10)]
    changes += [
        (f"drift of {size} % a week", lambda night, size=size: size / 100.0 * (night + 1) / 7.0)
        for size in (1, 2, 5, 10)
    ]
    for settled in (gates.MIN_NIGHTS, 20, 60):
        for name, change in changes:
            random_ = random.Random(options.seed)
            found = [delay(random_, 0.01, settled, change) or PATIENCE + 1 for _ in range(options.years)]
            found.sort()
            soon, later = (statistics.mean(nights <= limit for nights in found) for limit in (2, 28))
            cells = [
                name,
                f"{settled} nights",
                found[len(found) // 2],
                found[int(0.95 * len(found))],
                found[-1],
            ]
            shares = [f"{100.0 * soon:.1f} %", f"{100.0 * later:.1f} %"]
            print("| {} |".format(" | ".join(map(str, cells + shares))), flush=True)
            if settled >= 20 and (
                (name == "step of 5 %" and soon < 0.95) or (name.startswith("drift of 1 %") and later < 0.95)
            ):
                missed.append(f"{name} after {settled} nights")
    for line in missed:
        print("MISSED: " + line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
