"""Error rates of the nightly's gates on simulated histories: false alarms per year, and nights until a change is found.

    python benchmarks/nightly_statistics.py [--years 1000] [--seed 1]

A night is one value with normal noise. A night that is a regression is repeated once, with new noise, and is red if the
repeat is one too. Red nights do not enter the history, and the first night is the accepted baseline. Prints the tables of
docs/nightly.md, and exits with 1 if the gates miss their goals.
"""

import random
import statistics
import sys
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import parser
from tasks.nightly import gates
from tasks.nightly.gates import Gate

YEAR = 365
# Nights after which a change counts as not found.
MAX_NIGHTS = 200

Level = Callable[[int], float]


class Nights(NamedTuple):
    """The result of a simulated history."""

    red: List[int]  # the red nights, counted from 0
    repeats: int  # number of nights that were repeated


def simulate(
    random_: random.Random, gate: Gate, noise: float, nights: int, level: Level, same: bool = False, stop: int = 10**9
) -> Nights:
    """Simulate a history.

    Args:
      random_: source of the noise.
      gate: the gate that judges the nights.
      noise: relative standard deviation of a night.
      nights: number of nights.
      level: the true value of each night.
      same: a repeat has the same noise as the night's first run.
      stop: end with the first red night from this one on.
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
    """Simulate a change after some nights, and return when it is found.

    Args:
      random_: source of the noise.
      noise: relative standard deviation of a night.
      settled: number of nights before the change.
      change: relative change of each night from the change on.

    Returns:
      The number of nights with the change until one is red; None if there is none.
    """

    def level(night: int) -> float:
        return 1.0 + (change(night - settled) if night >= settled else 0.0)

    red = simulate(random_, Gate(), noise, settled + MAX_NIGHTS, level, stop=settled).red
    return red[-1] - settled + 1 if red and red[-1] >= settled else None


def _is_red(gate: Gate, value: float, past: List[float], repeat: bool) -> bool:
    findings = gates.judge(gate, [value], past[:1], past, repeat)
    return any(finding.level == gates.REGRESSION for finding in findings)


def step(size: float) -> Level:
    """Return a change by `size` per cent that stays."""
    return lambda night: size / 100.0


def drift(size: float) -> Level:
    """Return a change that grows by `size` per cent a week."""
    return lambda night: size / 100.0 * (night + 1) / 7.0


def stable_years(years: int, seed: int) -> List[str]:
    """Print false alarms in years without a change; return the goals that were missed."""
    missed = []
    print("| stable years | red nights a year | years with one | repeats a year |\n|---|---|---|---|")
    cases = (
        ("noise 1 %", 0.01, Gate(), False),
        ("noise 0.3 %", 0.003, Gate(), False),
        ("noise 2 %, `noise` 0.02, `tolerance` 0.1", 0.02, Gate(noise=0.02, tolerance=0.1), False),
        ("noise 2 %, but `noise` 0.01; `tolerance` 0.1", 0.02, Gate(tolerance=0.1), False),
        ("noise 1 %, the same in the repeat", 0.01, Gate(), True),
    )
    for name, noise, gate, same in cases:
        random_ = random.Random(seed)
        histories = [simulate(random_, gate, noise, YEAR, lambda night: 1.0, same) for _ in range(years)]
        red = statistics.mean(len(history.red) for history in histories)
        some = statistics.mean(bool(history.red) for history in histories)
        repeats = statistics.mean(history.repeats for history in histories)
        print(f"| {name} | {red:.3f} | {100.0 * some:.1f} % | {repeats:.2f} |", flush=True)
        if noise == 0.01 and red > 1.0:
            missed.append(f"{name}: {red:.3f} red nights a year")
    return missed


def changes(years: int, seed: int) -> List[str]:
    """Print the nights until changes are found; return the goals that were missed."""
    missed = []
    heads = ("change, noise 1 %", "after", "median", "95 %", "worst", "within 2 nights", "within 28")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    cases = [(f"step of {size} %", step(size)) for size in (2, 5, 10)]
    cases += [(f"drift of {size} % a week", drift(size)) for size in (1, 2, 5, 10)]
    for settled in (gates.MIN_NIGHTS, 20, 60):
        for name, change in cases:
            random_ = random.Random(seed)
            delays = sorted(delay(random_, 0.01, settled, change) or MAX_NIGHTS + 1 for _ in range(years))
            soon, later = (statistics.mean(nights <= limit for nights in delays) for limit in (2, 28))
            cells = [name, f"{settled} nights", delays[len(delays) // 2], delays[int(0.95 * len(delays))], delays[-1]]
            shares = [f"{100.0 * soon:.1f} %", f"{100.0 * later:.1f} %"]
            print(f"| {' | '.join(map(str, cells + shares))} |", flush=True)
            if settled >= 20 and (
                (name == "step of 5 %" and soon < 0.95) or (name.startswith("drift of 1 %") and later < 0.95)
            ):
                missed.append(f"{name} after {settled} nights")
    return missed


def main() -> int:
    """Print the tables; return the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("--years", type=int, default=1000, help="histories of each kind (default: %(default)s)")
    arguments.add_argument("--seed", type=int, default=1, help="seed of the noise (default: %(default)s)")
    options = arguments.parse_args()
    missed = stable_years(options.years, options.seed) + changes(options.years, options.seed)
    for line in missed:
        print("MISSED: " + line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
