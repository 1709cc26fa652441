"""The table `losses.csv` of a training: its columns and how to read it. Needs neither TensorFlow nor pandas.

A row summarizes the steps since the row before: means of the losses and the speed over these steps, the learning rate, and
the seconds of training so far, earlier sessions included.
"""

import csv
from pathlib import Path
from typing import Dict, List

from fse.errors import DataError

FILE = "losses.csv"

# The parts of the objective, in this order: those that progress lines print and `training.json` averages.
LOSSES = ("loss_align", "loss_diversity", "loss_decay")
COLUMNS = ("step", *LOSSES, "learning_rate", "pairs_per_second", "seconds")

Rows = List[Dict[str, float]]


def read(trained: Path) -> Rows:
    """Return the rows of the table in a training's output, as floats except for the integer `step`.

    Raises:
      DataError: there is no table, a row is incomplete, or a value is not a number.
    """
    file = trained / FILE
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            # A row that is cut short has None for its last columns, which float() refuses with a TypeError.
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
            for row in rows:
                row["step"] = int(row["step"])
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read ({error}); train again") from None
    return rows
