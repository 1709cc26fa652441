"""What a night waits for before it begins: the real `fse doctor` on a host with an `npu-smi` of our own."""

import contextlib
import io
from pathlib import Path
from typing import List

import pytest

from fse import cli
from fse.runtime import processes
from tasks.nightly import environment
from tests import ascend_host
from tests.fse.test_doctor import host  # noqa: F401 (a fixture)

NPU = "train.device=npu"
IN_USE = "fse doctor: card 2: 910A, OK, in use by python3.7 (4242)"


@pytest.fixture()
def looks(host: Path, monkeypatch: pytest.MonkeyPatch) -> List[str]:  # noqa: F811
    """Has `fse doctor` run in this process, where the host is, on card 2, which is in use; a line is added for each look.

    At the third look all cards are free.
    """
    run = processes.run
    done: List[str] = []

    def run_here(command: List[str], seconds: float) -> processes.Ended:
        if "doctor" not in command:
            return run(command, seconds)
        done.append("look")
        if len(done) == 3:
            ascend_host.npu_smi(host, ascend_host.OLD)
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
            code = cli.main(command[command.index("doctor") :])
        return processes.Ended(code, output.getvalue(), errors.getvalue())

    monkeypatch.setattr(processes, "run", run_here)
    monkeypatch.setattr(environment, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("ASCEND_DEVICE_ID", "2")
    ascend_host.npu_smi(host, ascend_host.USED)
    return done


def test_a_card_in_use_is_waited_for(
    host: Path,  # noqa: F811
    looks: List[str],
    capsys: pytest.CaptureFixture,
) -> None:
    found, ill = environment.fit("", NPU, host, 3600.0)
    assert (found["fit"], ill, len(looks)) == (True, "", 3)
    assert capsys.readouterr().err == f"waiting: {IN_USE}\n"


@pytest.mark.parametrize("wait", [0.0, 1e-6])
def test_a_card_that_stays_in_use_is_waited_for_so_long(host: Path, looks: List[str], wait: float) -> None:  # noqa: F811
    found, ill = environment.fit("", NPU, host, wait)
    assert (found["fit"], ill, len(looks)) == (False, IN_USE + "; waited 0 seconds", 1)


@pytest.mark.parametrize("card", ["1", "9"])
def test_what_waiting_does_not_mend_is_not_waited_for(
    host: Path,  # noqa: F811
    looks: List[str],
    card: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A card that is ill, and one that there is not."""
    monkeypatch.setenv("ASCEND_DEVICE_ID", card)
    found, ill = environment.fit("", NPU, host, 3600.0)
    assert not found["fit"] and ill and len(looks) == 1
