import io
import re
import subprocess
import sys
from pathlib import Path
from typing import List

from fse.runtime.relay import relay


def test_output_goes_to_the_log_and_without_noise_to_the_terminal(tmp_path: Path) -> None:
    code = r"import sys; sys.stdout.write('one\nnoise: x\nbar 1\rbar 2\r\nlast')"
    terminal = io.StringIO()
    lines: List[str] = []
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child, open(tmp_path / "log", "wb") as log:
        relay(child.stdout, log, terminal, re.compile(rb"^noise"), lines.append)
    assert (tmp_path / "log").read_bytes() == b"one\nnoise: x\nbar 1\nbar 2\n\nlast"
    assert terminal.getvalue() == "one\nbar 1\rbar 2\r\nlast"
    assert lines == ["one", "bar 1", "bar 2", "", "last"]
