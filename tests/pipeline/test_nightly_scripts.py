"""The scripts that start the nightly: the crontab line as cron runs it, and the checks of systemd and logrotate."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Tuple

import pytest

from fse.runtime import locks
from tests import ascend_host
from tests.pipeline.program import ROOT

SCRIPTS = ROOT / "scripts" / "nightly"


def install(folder: Path) -> str:
    """Create `opt` and `data` in a folder, in place of /opt/fse and /data/fse; return the folder."""
    (folder / "data").mkdir()
    (folder / "opt").mkdir()
    (folder / "opt" / "scripts").symlink_to(ROOT / "scripts")
    (folder / "opt" / ".venv").symlink_to(sys.prefix)
    return str(folder)


def relocate(text: str, folder: str) -> str:
    """Replace /opt/fse and /data/fse in a script with the folders that `install` created."""
    return text.replace("/opt/fse", folder + "/opt").replace("/data/fse", folder + "/data")


def crontab(folder: str) -> Tuple[Dict[str, str], str]:
    """Return the variables that the crontab sets, and its command."""
    lines = relocate((SCRIPTS / "crontab").read_text(), folder).splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    (entry,) = [line for line in lines if line[0] in "0123456789*"]
    assert "%" not in entry  # cron would end the command there
    return dict(line.split("=", 1) for line in lines if line != entry), entry.split(None, 5)[5]


@pytest.mark.slow
def test_the_crontab_line_in_the_environment_of_cron(tmp_path: Path) -> None:
    """Run the shipped nightly for Ascend, which finds no usable NPU on this machine."""
    folder = install(tmp_path)
    ascend_host.npu_smi(tmp_path, ascend_host.USED)
    (tmp_path / "set_env.sh").write_text(f'export PATH={folder}:$PATH NEVER="$NEVER_SET"\nfalse\n')
    variables, command = crontab(folder)
    cron = {"HOME": folder, "LOGNAME": "fse", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", **variables}
    cron.update(CANN=folder + "/set_env.sh", FSE_LOCKS=folder)

    def run() -> int:
        return subprocess.call(["/bin/sh", "-c", command], env=cron, cwd=folder, timeout=300)

    log = tmp_path / "data" / "nightly.log"
    assert run() == 61, log.read_text()
    output = log.read_text()
    assert ": infrastructure" in output
    assert "Traceback" not in output
    (verdict,) = (tmp_path / "data" / "nightly" / "ascend").glob("*/verdict.json")
    assert '"name": "910A"' in verdict.read_text()  # the fake npu-smi is on the PATH only if set_env.sh was sourced
    with locks.lock(tmp_path / "data" / "nightly.flock", "another night", 1.0):
        assert run() == 10
    assert log.read_text() == output + f"a nightly of {folder}/data is already running\n"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd is not installed")
    folder = install(tmp_path)
    for unit in SCRIPTS.glob("fse-nightly.*er*"):
        if unit.suffix in (".service", ".timer"):
            (tmp_path / unit.name).write_text(relocate(unit.read_text(), folder).replace("User=fse", "User=root"))
    units = [folder + "/fse-nightly.service", folder + "/fse-nightly.timer"]
    done = subprocess.run([verify, "verify", *units], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert (done.returncode, done.stdout.decode()) == (0, "")


def test_logrotate_accepts_its_file(tmp_path: Path) -> None:
    program = shutil.which("logrotate", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("logrotate is not installed")
    folder = install(tmp_path)
    (tmp_path / "data" / "logs").mkdir()
    for name in ("nightly.log", "logs/train-0.log"):
        (tmp_path / "data" / name).write_text("line\n")
    text = relocate((SCRIPTS / "fse-nightly.logrotate").read_text(), folder)
    (tmp_path / "conf").write_text(text.replace("su fse fse", ""))
    (tmp_path / "conf").chmod(0o644)
    subprocess.run([program, "--force", "--state", folder + "/state", folder + "/conf"], check=True, timeout=60)
    rotated = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*.log*"))
    assert rotated == ["logs/train-0.log", "logs/train-0.log.1", "nightly.log", "nightly.log.1"]
