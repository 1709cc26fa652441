import time
from pathlib import Path

import pytest

from fse.runtime import processes


def test_a_program_returns_its_exit_code_and_output() -> None:
    ended = processes.run(["sh", "-c", "echo out; echo err >&2; exit 3"], 30.0)
    assert ended == processes.ProgramResult(3, "out\n", "err\n")


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """The killed program's own child holds the output open."""
    start = time.monotonic()
    ended = processes.run(["sh", "-c", f"echo so far; sleep 60 & echo $! > {tmp_path / 'pid'}; wait"], 0.5)
    assert ended.code is None
    assert ended.output == "so far\n"
    assert time.monotonic() - start < 20.0
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the program's own child still runs")


def test_only_the_end_of_long_output_is_kept() -> None:
    ended = processes.run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end"], 30.0)
    assert len(ended.output) == 1 << 20
    assert ended.output.endswith("xend\n")
