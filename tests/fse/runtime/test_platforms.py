import os
import subprocess
import sys

import pytest

from fse.errors import EXIT_MACHINE
from fse.runtime import platforms

# Behaves as on another system, where some modules do not exist.
CHILD = """
import sys
sys.platform = sys.argv.pop(1)
for name in ("fcntl", "resource"):
    sys.modules[name] = None
{}
"""
SENTENCE = "error: {} is not supported; use Linux, WSL 2 (on Windows) or a Linux container\n"
PROGRAMS = {
    "fse": "from fse.cli import main; sys.exit(main())",
    "pipeline": "import pipeline",
}


def test_linux_is_supported() -> None:
    platforms.require_linux()


@pytest.mark.parametrize(("platform", "name"), [("darwin", "macOS"), ("win32", "Windows"), ("freebsd13", "freebsd13")])
def test_another_operating_system_is_refused(
    platform: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SystemExit) as ended:
        platforms.require_linux()
    assert ended.value.code == EXIT_MACHINE
    assert capsys.readouterr().err == SENTENCE.format(name)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("platform", "name"), [("darwin", "macOS"), ("win32", "Windows")])
def test_programs_end_with_one_sentence_before_they_import_modules_of_linux(
    program: str, platform: str, name: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(PROGRAMS[program]), platform],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_MACHINE
    assert done.stderr == SENTENCE.format(name)
