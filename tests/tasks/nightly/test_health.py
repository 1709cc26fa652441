"""The health check before a night: the real `fse doctor` on a host with a fake `npu-smi`, and simulated results."""

import contextlib
import io
import json
from pathlib import Path
from typing import List, Optional

import pytest

from fse import cli
from fse.runtime import processes
from tasks.nightly import health
from tests import ascend_host
from tests.fse.doctor.conftest import host  # noqa: F401 (a fixture)
from tests.tasks.nightly.fake_nightly import DOCTOR_REPORT

NPU = "train.device=npu"
IN_USE = "fse doctor: card 2: 910A, OK, in use by python3.7 (4242)"


@pytest.fixture()
def checks(host: Path, monkeypatch: pytest.MonkeyPatch) -> List[str]:  # noqa: F811
    """Run `fse doctor` in this process on a host whose card 2 is busy; return a list that gets an entry for each check.

    At the third check all cards are free.
    """
    run = processes.run
    checks: List[str] = []

    def run_here(command: List[str], seconds: float) -> processes.ProgramResult:
        if "doctor" not in command:
            return run(command, seconds)
        checks.append("check")
        if len(checks) == 3:
            ascend_host.npu_smi(host, ascend_host.OLD)
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
            code = cli.main(command[command.index("doctor") :])
        return processes.ProgramResult(code, output.getvalue(), errors.getvalue())

    monkeypatch.setattr(processes, "run", run_here)
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("ASCEND_DEVICE_ID", "2")
    ascend_host.npu_smi(host, ascend_host.USED)
    return checks


def test_waits_for_a_busy_card(
    host: Path,  # noqa: F811
    checks: List[str],
    capsys: "pytest.CaptureFixture[str]",
) -> None:
    result = health.wait_until_healthy("", NPU, host, 3600.0)
    assert (result.report["fit"], result.problem, len(checks)) == (True, "", 3)
    assert capsys.readouterr().err == f"waiting: {IN_USE}\n"


@pytest.mark.parametrize("timeout", [0.0, 1e-6])
def test_gives_up_on_a_busy_card_after_the_timeout(host: Path, checks: List[str], timeout: float) -> None:  # noqa: F811
    result = health.wait_until_healthy("", NPU, host, timeout)
    assert (result.report["fit"], result.problem, len(checks)) == (False, IN_USE + "; waited 0 seconds", 1)


@pytest.mark.parametrize("card", ["1", "9"], ids=["unhealthy card", "missing card"])
def test_does_not_wait_for_a_problem_that_stays(
    host: Path,  # noqa: F811
    checks: List[str],
    card: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASCEND_DEVICE_ID", card)
    result = health.wait_until_healthy("", NPU, host, 3600.0)
    assert not result.report["fit"] and result.problem and len(checks) == 1


@pytest.mark.parametrize(
    ("code", "output", "errors", "problem"),
    [
        (0, json.dumps(DOCTOR_REPORT), "", ""),
        (
            3,
            json.dumps(dict(DOCTOR_REPORT, checks=[{"name": "cann", "status": "failed", "found": "none"}])),
            "",
            "cann: none",
        ),
        (1, "", "Traceback\nValueError: x", "ValueError: x"),
        (1, "", "", "exit code 1"),
        (None, "", "", "did not end within 900 seconds"),
    ],
)
def test_the_problem_comes_from_the_report_or_the_last_line(
    monkeypatch: pytest.MonkeyPatch, code: Optional[int], output: str, errors: str, problem: str
) -> None:
    monkeypatch.setattr(processes, "run", lambda command, seconds: processes.ProgramResult(code, output, errors))
    result = health.check_machine("", "", Path("w"))
    assert bool(result.report) == bool(output)
    if problem:
        assert result.problem.startswith("fse doctor") and result.problem.endswith(problem)
    else:
        assert result.problem == ""
