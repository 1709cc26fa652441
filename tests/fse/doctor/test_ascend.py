from pathlib import Path

import pytest

from fse.ascend import npu_smi
from fse.doctor import ascend, machine
from fse.doctor.check import Check
from fse.runtime import processes
from tests import ascend_host
from tests.fse.doctor.npu_host import NPU, checks_of, failures


def test_cann_needs_its_environment_and_operators(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_OPP_PATH")
    check = checks_of(NPU, host)["cann"]
    assert (check.status, check.found[:10]) == ("warning", "7.0.0, but")
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME")
    check = checks_of(NPU, host)["cann"]
    assert check.status == "failed"
    assert "set_env.sh" in check.fix


def test_npu_bridge_needs_the_adapter(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    assert failures(NPU, host) == ["npu_bridge"]


def test_a_driver_that_hangs_fails_after_the_time_limit(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ascend_host.program(host, "npu-smi", "sleep 60\n")
    run = processes.run
    monkeypatch.setattr(processes, "run", lambda command, seconds: run(command, min(seconds, 0.5)))
    monkeypatch.setattr(ascend, "check_npu_bridge", lambda: Check("npu_bridge", "ok", ""))
    assert failures(NPU, host) == ["driver"]


def test_versions_come_from_files_if_npu_smi_does_not_know_them(host: Path) -> None:
    ascend_host.npu_smi(host, ascend_host.OLD, board="This device does not support querying board.\n")
    (host / "Ascend" / "firmware").mkdir(parents=True)
    (host / "Ascend" / "firmware" / "version.info").write_text("Version=1.76.22.3.220\nfirmware_version=1.0\n")
    versions = machine.examine(NPU, host).versions
    assert (versions["driver"], versions["firmware"]) == ("20.2.2.spc001", "1.76.22.3.220")


@pytest.mark.parametrize(
    ("device", "status", "words"),
    [
        ("0", "ok", "910A, OK"),
        ("1", "failed", "910A, Alarm"),
        ("2", "failed", "910A, OK, in use by python3.7 (4242)"),
        ("3", "warning", "910A, Warning"),
    ],
)
def test_the_chosen_card_must_be_healthy_and_free(
    host: Path, device: str, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ascend_host.npu_smi(host, ascend_host.USED)
    monkeypatch.setenv("ASCEND_DEVICE_ID", device)
    check = checks_of(NPU, host)["card " + device]
    assert (check.status, check.found) == (status, words)


def test_an_unhealthy_card_that_is_not_needed_is_only_a_warning(host: Path) -> None:
    ascend_host.npu_smi(host, ascend_host.USED)
    checks = checks_of(NPU, host)
    assert [checks[f"card {number}"].status for number in range(4)] == ["ok", "warning", "ok", "ok"]


def test_memory_in_use_without_a_visible_process_is_a_warning() -> None:
    card = npu_smi.Card(0, 0, "910A", "OK", hbm_used=30_000, hbm_total=32_768)
    (check,) = ascend.check_cards([card], [0])
    assert (check.status, check.found) == ("warning", "910A, OK, 30000 of 32768 MB in use by a process not seen here")


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        ("3", "card", "training wants card 3, but this host has 3"),
        ("one", "ranks", "ASCEND_DEVICE_ID must be a card's number, got 'one'"),
    ],
)
def test_a_device_id_of_no_card_fails(
    host: Path, value: str, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASCEND_DEVICE_ID", value)
    check = checks_of(NPU, host)[name]
    assert (check.status, check.found) == ("failed", words)
