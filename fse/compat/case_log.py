"""ModelZoo's report of a training: the `${CaseName}.log` with its `Key = value` lines, and the `Final …` lines.

ModelZoo leaves the units open; `UNITS` defines them.
"""

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from fse.training import loss_table
from fse.training.loss_table import Rows

NETWORK = "Factorized_ID1301_for_TensorFlow"

UNITS = (
    "BatchSize is in images per step over all cards. Speed is in images per second over all cards, without the first line of "
    "losses.csv, which includes the compilation of the graph. TrainingTime is in milliseconds per step, E2ETrainingTime in "
    "seconds. TrainAccuracy is the share of test images with an error below 10% of the inter-ocular distance."
)


@dataclass(frozen=True)
class CaseResult:
    """The result of a case, as ModelZoo calls a run of one of its scripts."""

    ranks: int
    batch_size: int  # images per step, over all ranks
    kind: str  # acc (full) or perf (performance)
    images_per_second: float  # over all ranks
    loss: float  # the last loss_align
    seconds: Optional[float]  # from the first command to the last; None if unknown
    accuracy: Optional[float] = None  # in [0, 1]; None if not measured


def read_result(trained: Path, kind: str, seconds: Optional[float], metrics: Optional[Path]) -> Tuple[CaseResult, Rows]:
    """Return the result of a finished training, and the rows of its `losses.csv`.

    Args:
      trained: output folder of Train.
      kind: acc or perf.
      seconds: from the first command to the last; None if unknown.
      metrics: `metrics.json` of the evaluation; None without an evaluation.

    Raises:
      DataError: `losses.csv` cannot be read.
    """
    rows = loss_table.read(trained)
    summary = json.loads((trained / "training.json").read_text())
    batch_size = summary["batch_size"]
    result = CaseResult(
        ranks=summary["ranks"],
        batch_size=batch_size,
        kind=kind,
        images_per_second=images_per_second(rows, batch_size),
        loss=rows[-1]["loss_align"],
        seconds=seconds,
        accuracy=_accuracy(metrics) if metrics else None,
    )
    return result, rows


def images_per_second(rows: Rows, batch_size: int) -> float:
    """Return the speed of a training without the first row of its loss table, unless there is no other."""
    first = rows[0] if len(rows) > 1 else dict.fromkeys(rows[0], 0.0)
    return (rows[-1]["step"] - first["step"]) * batch_size / max(rows[-1]["seconds"] - first["seconds"], 1e-9)


def case_name(result: CaseResult) -> str:
    """Return `<network>_bs<batch>_<ranks>p_<acc or perf>`."""
    return f"{NETWORK}_bs{result.batch_size}_{result.ranks}p_{result.kind}"


def format_case_log(result: CaseResult) -> str:
    """Return the text of `${CaseName}.log`: `Key = value` in ModelZoo's order, without values that were not measured."""
    values: Dict[str, Any] = {
        "Network": NETWORK,
        "RankSize": result.ranks,
        "BatchSize": result.batch_size,
        "DeviceType": platform.machine(),
        "CaseName": case_name(result),
        "ActualFPS": f"{result.images_per_second:.2f}",
        "TrainingTime": f"{1000.0 * result.batch_size / result.images_per_second:.3f}",
        "TrainAccuracy": result.accuracy,
        "ActualLoss": result.loss,
        "E2ETrainingTime": None if result.seconds is None else round(result.seconds),
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)


def write_case_log(folder: Path, result: CaseResult, rows: Rows) -> Path:
    """Write `<CaseName>.log`, and `<CaseName>_loss.txt` with the loss_align of each row. Return the log's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = case_name(result)
    (folder / f"{name}_loss.txt").write_text("".join(f"{row['loss_align']}\n" for row in rows))
    log = folder / f"{name}.log"
    log.write_text(format_case_log(result))
    return log


def final_lines(result: CaseResult, rows: Rows, progress: str) -> str:
    """Return what a script prints at its end: ModelZoo's lines, and those of its port of this network.

    Args:
      result: the result of the case.
      rows: the rows of `losses.csv`.
      progress: the last `progress …` line that training printed.
    """
    lines = [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {result.images_per_second:.2f}",
        f"Final Performance sec/step : {result.batch_size / result.images_per_second:.5f}",
        f"Final Train Accuracy : {'not measured' if result.accuracy is None else result.accuracy}",
        f"E2E Training Duration sec : {'unknown' if result.seconds is None else round(result.seconds)}",
        progress,
    ]
    lines += [f"{name} {rows[-1][name]}" for name in loss_table.LOSSES]
    return "\n".join(lines)


def _accuracy(metrics: Path) -> Optional[float]:
    """Return the share of test images whose error is below the failure threshold of 10 %."""
    failure_rate = json.loads(metrics.read_text()).get("failure_rate_10")
    return None if failure_rate is None else round(1.0 - failure_rate, 4)
