"""Running a program in a child process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import pytest

from fse.errors import EXIT_DEVICE_UNUSED, DeviceUnusedError, StageError
from tasks import child_process


def python(code: str) -> List[str]:
    return [sys.executable, "-c", code]


def test_output_goes_to_the_log_and_errors_to_the_console_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child_process.run(
        python("import sys; print('figures'); print('words', file=sys.stderr)"), tmp_path / "logs" / "a.log"
    )
    text = (tmp_path / "logs" / "a.log").read_text()
    assert "figures" in text
    assert "words" in text
    assert capsys.readouterr().err.strip() == "words"


def test_a_log_that_is_truncated_meanwhile_continues_at_its_beginning(tmp_path: Path) -> None:
    """As logrotate does with copytruncate."""
    log = tmp_path / "a.log"
    code = "import os, sys; print('before', flush=True); os.truncate({!r}, 0); print('after', flush=True); "
    child_process.run(python(code.format(str(log)) + "print('words', file=sys.stderr)"), log)
    assert sorted(log.read_text().split()) == ["after", "words"]


def test_every_line_is_reported_also_redrawn_ones(tmp_path: Path) -> None:
    lines: List[str] = []
    child_process.run(
        python("import sys; sys.stderr.write('a 10%|\\ra 20%|\\rb\\n')"), tmp_path / "a.log", lines.append
    )
    assert lines == ["a 10%|", "a 20%|", "b"]


def test_the_child_inherits_the_locks(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as lock:
        child_process.run(
            python(f"import os; os.write({lock.fileno()}, b'x')"), tmp_path / "a.log", locks=[lock.fileno()]
        )
    assert (tmp_path / "lock").read_text() == "x"


def test_a_failure_has_the_childs_error_message(tmp_path: Path) -> None:
    code = "import sys; sys.exit('noise\\nerror: the image is broken')"
    with pytest.raises(StageError, match=r"the image is broken \(log: .*a.log\)"):
        child_process.run(python(code), tmp_path / "a.log")


def test_a_killed_child_is_reported_as_killed(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="killed by signal SIGKILL"):
        child_process.run(python("import os; os.kill(os.getpid(), 9)"), tmp_path / "a.log")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    """Whichever signal ends the parent, the `fse` process that it started ends soon after."""
    mark = tmp_path / "pid"
    child = (
        "import os, time; from fse.runtime import processes; processes.die_with_parent(int(os.environ['FSE_PARENT']));"
        f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    parent_code = (
        "from pathlib import Path; from tasks import child_process; import sys; child_process.run({!r}, Path({!r}))"
    )
    parent = subprocess.Popen(
        python(parent_code.format(python(child), str(tmp_path / "a.log"))),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(mark.read_text())
    assert alive(pid)
    parent.send_signal(number)
    parent.wait(20)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_an_unused_npu_has_its_own_error(tmp_path: Path) -> None:
    code = f"import sys; print('error: nothing was compiled', file=sys.stderr); sys.exit({EXIT_DEVICE_UNUSED})"
    with pytest.raises(DeviceUnusedError, match="nothing was compiled"):
        child_process.run([sys.executable, "-c", code], tmp_path / "log")
