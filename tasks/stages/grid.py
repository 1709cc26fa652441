"""The grid of a sweep: `--grid` and `--seeds` as combinations of settings."""

import functools
import itertools
import json
import sys
from typing import Any, Dict, List, NamedTuple, Tuple

from fse import config as configuration
from fse.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Combination(NamedTuple):
    """One combination of values, with one run per seed."""

    # The values by `section.key`.
    values: Dict[str, Any]
    # The `--set` of each run.
    overrides: Tuple[str, ...]


@functools.lru_cache(maxsize=None)
def combinations(path: str, overrides: str, grid: str, seeds: int) -> Tuple[Combination, ...]:
    """Return all combinations of a grid. The last setting varies fastest.

    Args:
      path: the experiment; "" is the default experiment.
      overrides: settings that override the experiment's, as in `--set`.
      grid: `section.key=[value,…],…` with values as in TOML; "" is the experiment itself.
      seeds: number of runs of each combination.

    Raises:
      ConfigError: `grid` or `seeds` is invalid, or one of the resulting configurations.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {seeds}")
    first_seed = configuration.load(path or None, overrides).train.seed
    axes = parse_grid(grid)
    points = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values))
        settings = [overrides.rstrip(", ")] if overrides.strip(", ") else []
        settings += [f"{name}={_toml(value)}" for name, value in chosen.items()]
        runs = tuple(",".join([*settings, f"train.seed={first_seed + number}"]) for number in range(seeds))
        for run in runs:
            configuration.load(path or None, run)
        points.append(Combination(chosen, runs))
    return tuple(points)


def parse_grid(text: str) -> Dict[str, List[Any]]:
    """Parse `section.key=[value,…],…` into the values to try for each `section.key`, in order.

    Raises:
      ConfigError: the text has another form, a setting occurs twice, or its values are missing or not distinct.
    """
    try:
        tables = tomllib.loads("grid = {" + text + "}")["grid"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"--grid {text!r}: not of the form section.key=[value,…],… with every setting once and strings in quotes; "
            f"write for example loss.diversity_weight=[20,50],network.landmarks=[10,30] ({error})"
        ) from None
    axes: Dict[str, List[Any]] = {}
    for section, settings in tables.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"--grid {text!r}: {section} is not a setting; write section.key=[value,…]")
        for key, values in settings.items():
            name = f"{section}.{key}"
            # A section in a section, such as evaluate.crop: its keys are the settings.
            inner = values if name in configuration.SECTIONS and isinstance(values, dict) else {}
            axes.update({f"{name}.{inner_key}": value for inner_key, value in inner.items()} or {name: values})
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"--grid: {name} must be a list of values to try, [value,…], got {values!r}")
        if any(value in values[:place] for place, value in enumerate(values)):
            raise ConfigError(f"--grid: {name} has a value twice: {values!r}")
    if "train.seed" in axes:
        raise ConfigError(
            "--grid: train.seed cannot be in the grid; use --seeds, which starts with the experiment's seed"
        )
    return axes


def _toml(value: Any) -> str:
    """Return a value of the grid as TOML. JSON is valid TOML; a date becomes a string, which no setting accepts."""
    return json.dumps(value, ensure_ascii=False, default=str)
