"""ModelZoo's log of a case and its final lines."""

import platform
from pathlib import Path

from fse.compat.case_log import (
    CaseResult,
    final_lines,
    format_case_log,
    images_per_second,
    read_result,
    write_case_log,
)

ROWS = [
    {"step": 10.0, "seconds": 20.0, "loss_align": 9.0, "loss_diversity": 2.0, "loss_decay": 0.5},
    {"step": 30.0, "seconds": 24.0, "loss_align": 5.0, "loss_diversity": 1.0, "loss_decay": 0.25},
]


def test_the_case_log_has_the_keys_of_modelzoo_in_order() -> None:
    text = format_case_log(CaseResult(8, 256, "acc", 512.0, 5.25, 61.6, 0.9))
    assert text.splitlines() == [
        "Network = Factorized_ID1301_for_TensorFlow",
        "RankSize = 8",
        "BatchSize = 256",
        "DeviceType = " + platform.machine(),
        "CaseName = Factorized_ID1301_for_TensorFlow_bs256_8p_acc",
        "ActualFPS = 512.00",
        "TrainingTime = 500.000",
        "TrainAccuracy = 0.9",
        "ActualLoss = 5.25",
        "E2ETrainingTime = 62",
    ]
    assert "TrainAccuracy" not in format_case_log(CaseResult(1, 32, "perf", 1.0, 1.0, 1.0))
    assert "E2E" not in format_case_log(CaseResult(1, 32, "perf", 1.0, 1.0, None))


def test_the_result_of_a_training_is_read(tmp_path: Path) -> None:
    lines = ["step,seconds,loss_align", *("{step},{seconds},{loss_align}".format(**row) for row in ROWS)]
    (tmp_path / "losses.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "training.json").write_text('{"batch_size": 32, "ranks": 2}')
    (tmp_path / "metrics.json").write_text('{"failure_rate_10": 0.25}')
    result, rows = read_result(tmp_path, "acc", None, tmp_path / "metrics.json")
    assert result == CaseResult(2, 32, "acc", 160.0, 5.0, None, 0.75)
    log = write_case_log(tmp_path / "new", result, rows)
    assert log.name == "Factorized_ID1301_for_TensorFlow_bs32_2p_acc.log"
    assert (tmp_path / "new" / (log.stem + "_loss.txt")).read_text() == "9.0\n5.0\n"


def test_the_speed_excludes_the_first_row_which_includes_compilation() -> None:
    assert images_per_second(ROWS, 32) == 20 * 32 / 4.0
    assert images_per_second(ROWS[:1], 32) == 10 * 32 / 20.0


def test_the_final_lines_are_those_of_modelzoo() -> None:
    lines = final_lines(CaseResult(1, 32, "acc", 160.0, 5.0, 61.6, 0.9), ROWS, "progress  epoch 1 …").splitlines()
    assert lines == [
        "------------------ Final result ------------------",
        "Final Performance images/sec : 160.00",
        "Final Performance sec/step : 0.20000",
        "Final Train Accuracy : 0.9",
        "E2E Training Duration sec : 62",
        "progress  epoch 1 …",
        "loss_align 5.0",
        "loss_diversity 1.0",
        "loss_decay 0.25",
    ]
