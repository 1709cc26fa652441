import os
import time
from pathlib import Path

import pytest

from fse.runtime import processes


def test_a_program_ends_with_its_code_and_words() -> None:
    ended = processes.run(["sh", "-c", "echo out; echo err >&2; exit 3"], 30.0)
    assert ended == processes.Ended(3, "out\n", "err\n")


def test_a_program_that_hangs_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    """Also if its child holds the output open."""
    began = time.monotonic()
    ended = processes.run(["sh", "-c", "echo so far; sleep 60 & echo $! > {}; wait".format(tmp_path / "pid")], 0.5)
    assert ended.code is None
    assert ended.output == "so far\n"
    assert time.monotonic() - began < 20.0
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}") or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the program's own child goes on")


def test_of_endless_output_the_end_is_kept() -> None:
    ended = processes.run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end"], 30.0)
    assert len(ended.output) == 1 << 20
    assert ended.output.endswith("xend\n")
