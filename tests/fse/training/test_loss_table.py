import subprocess
import sys
from pathlib import Path

import pytest

from fse.errors import DataError
from fse.training import loss_table


def test_rows_are_read_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "losses.csv").write_text("step,loss_align\n2,1.5\n4,0.25\n")
    assert loss_table.read(tmp_path) == [{"step": 2, "loss_align": 1.5}, {"step": 4, "loss_align": 0.25}]
    assert isinstance(loss_table.read(tmp_path)[0]["step"], int)


@pytest.mark.parametrize("text", [None, "step,loss_align\n1,2\n2\n", "step,loss_align\n1,many\n", "loss_align\n1\n"])
def test_a_missing_or_broken_table_is_an_error(tmp_path: Path, text: str) -> None:
    if text is not None:
        (tmp_path / "losses.csv").write_text(text)
    with pytest.raises(DataError, match=r"losses.csv: cannot be read \(.*; train again"):
        loss_table.read(tmp_path)


def test_reading_needs_neither_tensorflow_nor_pandas() -> None:
    code = "import sys, fse.training.loss_table; sys.exit('tensorflow' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
