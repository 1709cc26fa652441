import json
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Dict, List

import pytest

from fse import cli, config, doctor
from fse.ascend import npu_smi, rank_table
from fse.doctor import Check
from fse.runtime import processes
from tests import ascend_host

CPU = config.Config()
NPU = config.load(None, "train.device=npu")

# What a person's environment may hold.
VARIABLES = (
    "ASCEND_TOOLKIT_HOME ASCEND_HOME_PATH ASCEND_OPP_PATH ASCEND_DEVICE_ID DEVICE_ID RANK_TABLE_FILE RANK_SIZE RANK_ID "
    "CM_CHIEF_IP HCCL_IF_BASE_PORT FSE_LOCKS FSE_HOST"
).split()


@pytest.fixture()
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An NPU machine without a fault, as far as it can be had; the folder is first on the PATH.

    Python and TensorFlow are said to be those that CANN wants, whatever the tests run on.
    """
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "ASCEND", tmp_path / "Ascend")
    monkeypatch.setattr(rank_table, "ADDRESSES", tmp_path / "hccn.conf")
    monkeypatch.setattr(doctor, "_python", lambda device: Check("python", "ok", "3.7.5"))
    monkeypatch.setattr(doctor, "_tensorflow", lambda device, version: Check("tensorflow", "ok", "1.15.0"))
    monkeypatch.setattr(doctor, "_is_reserved", lambda first, last: True)
    ascend_host.npu_smi(tmp_path, ascend_host.OLD)
    ascend_host.cann(tmp_path, monkeypatch)
    ascend_host.npu_bridge(tmp_path / "site", monkeypatch)
    return tmp_path


def npus(**train: object) -> config.Config:
    return config.from_tables({"train": dict(train, device="npu")})


def found(settings: config.Config, workspace: Path) -> Dict[str, Check]:
    return {check.name: check for check in doctor.examine(settings, workspace).checks}


def faults(settings: config.Config, workspace: Path) -> List[str]:
    return [name for name, check in found(settings, workspace).items() if check.status == "failed"]


def test_a_plain_machine_is_fit_for_the_processor(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["doctor", "--workspace", str(tmp_path / "new"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["device"], told["fit"], told["cards"]) == (1, "cpu", True, [])
    assert [check["name"] for check in told["checks"]] == ["python", "tensorflow", "disk", "workspace", "locks"]
    assert told["versions"]["python"] == platform.python_version()
    assert not (tmp_path / "new").exists()


def test_an_npu_machine_without_a_fault(host: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["doctor", "--set", "train.device=npu", "--workspace", str(host), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(check["status"] == "ok" and not check["mend"] for check in told["checks"]), told["checks"]
    names = ["cann", "npu_bridge", "driver", "card 0", "card 1", "card 2"]
    assert [check["name"] for check in told["checks"]][2:-3] == names
    versions = told["versions"]
    assert (versions["cann"], versions["driver"], versions["firmware"]) == ("7.0.0", "23.0.3", "7.1.0.5.220")
    assert told["cards"][0]["health"] == "OK"
    assert told["cards"][0]["processes"] == []


def test_a_fault_is_told_with_what_to_do_and_the_exit_code_is_3(host: Path, capsys: pytest.CaptureFixture) -> None:
    (host / "npu-smi").unlink()
    assert cli.main(["doctor", "--set", "train.device=npu", "--workspace", str(host)]) == 3
    said = capsys.readouterr()
    assert "  failed   driver        npu-smi is not on the PATH" in said.out
    assert "\n                         → mend the driver until `npu-smi info` shows the cards\n" in said.out
    assert said.err == "error: this machine is not fit for train.device=npu: driver\n"


def test_a_wrong_configuration_is_exit_code_2(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["doctor", "--set", "train.device=tpu"]) == 2
    assert "train.device must be one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "status"), [((3, 7, 5), "ok"), ((3, 7, 16), "warning"), ((3, 7, 4), "warning"), ((3, 9, 0), "failed")]
)
def test_the_pythons_that_cann_supports(version: tuple, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert doctor._python("npu").status == status
    assert doctor._python("cpu").status == "ok"


def test_a_tensorflow_that_is_missing_too_new_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._tensorflow("cpu", "").status == "failed"
    assert doctor._tensorflow("npu", "2.6.5").mend == "CANN's TF Adapter needs TensorFlow 1.15"
    monkeypatch.setattr(doctor, "_TRY_TENSORFLOW", "import os; os.kill(os.getpid(), 4)")  # an illegal instruction
    assert doctor._tensorflow("cpu", "2.21.0")[1:3] == ("failed", "it ended with exit code -4")


def test_an_import_that_hangs_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._import("x", "import no_such_module", "", "").found.endswith("No module named 'no_such_module'")
    monkeypatch.setattr(doctor, "IMPORT_SECONDS", 0.2)
    assert doctor._import("x", "import time; time.sleep(60)", "", "").found == "it did not answer within 0 seconds"


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_tensorflow", lambda device, version: Check("tensorflow", "ok", version))
    check = found(config.load(None, "train.device=gpu"), tmp_path)["gpu"]
    assert check.status == "failed"
    assert "sees none" in check.found


def test_cann_without_its_environment_or_operators(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASCEND_OPP_PATH")
    check = found(NPU, host)["cann"]
    assert (check.status, check.found[:10]) == ("warning", "7.0.0, but")
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME")
    check = found(NPU, host)["cann"]
    assert check.status == "failed"
    assert "set_env.sh" in check.mend


def test_npu_bridge_without_the_adapter(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    assert faults(NPU, host) == ["npu_bridge"]


def test_a_driver_that_hangs_is_waited_for_no_longer_than_a_bound(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ascend_host.program(host, "npu-smi", "sleep 60\n")
    run = processes.run
    monkeypatch.setattr(processes, "run", lambda command, seconds: run(command, min(seconds, 0.5)))
    monkeypatch.setattr(doctor, "_npu_bridge", lambda: Check("npu_bridge", "ok", ""))
    assert faults(NPU, host) == ["driver"]


def test_versions_come_from_files_where_the_board_tells_none(host: Path) -> None:
    ascend_host.npu_smi(host, ascend_host.OLD, board="This device does not support querying board.\n")
    (host / "Ascend" / "firmware").mkdir(parents=True)
    (host / "Ascend" / "firmware" / "version.info").write_text("Version=1.76.22.3.220\nfirmware_version=1.0\n")
    versions = doctor.examine(NPU, host).versions
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
def test_the_card_that_is_chosen_must_be_well_and_free(
    host: Path, device: str, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ascend_host.npu_smi(host, ascend_host.USED)
    monkeypatch.setenv("ASCEND_DEVICE_ID", device)
    check = found(NPU, host)["card " + device]
    assert (check.status, check.found) == (status, words)


def test_an_ill_card_that_is_not_needed_is_a_warning_only(host: Path) -> None:
    ascend_host.npu_smi(host, ascend_host.USED)
    checks = found(NPU, host)
    assert [checks[f"card {number}"].status for number in range(4)] == ["ok", "warning", "ok", "ok"]


def test_memory_in_use_by_nobody_seen_is_a_warning() -> None:
    card = npu_smi.Card(0, 0, "910A", "OK", hbm_used=30_000, hbm_total=32_768)
    (check,) = doctor._cards([card], [0])
    assert (check.status, check.found) == ("warning", "910A, OK, 30000 of 32768 MB in use by a process not seen here")


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        ("3", "card", "training wants card 3, and there are 3"),
        ("one", "ranks", "ASCEND_DEVICE_ID must be a card's number, got 'one'"),
    ],
)
def test_a_device_id_that_is_none(
    host: Path, value: str, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASCEND_DEVICE_ID", value)
    check = found(NPU, host)[name]
    assert (check.status, check.found) == ("failed", words)


def test_a_rank_table_that_is_right(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCCL_IF_BASE_PORT", "50000")
    settings = npus(rank_table=str(ascend_host.rank_table(host / "ranks.json", (0, 1))))
    checks = found(settings, host)
    assert checks["ranks"].found == "2 in all, here 2 on 0, 1"
    assert checks["HCCL ports"].found == "50000-50015 are free"
    assert [checks[f"card {number}"].found for number in (1, 2)] == ["910A, OK", "910A, OK, not needed"]
    assert faults(settings, host) == []


def test_cards_without_a_rank_table_need_addresses(host: Path) -> None:
    check = found(npus(devices=2), host)["ranks"]
    assert (check.status, "hccn.conf" in check.found) == ("failed", True)
    (host / "hccn.conf").write_text("address_0=192.168.1.1\naddress_1=192.168.1.2\n")
    checks = found(npus(devices=2), host)
    assert checks["ranks"].status == "ok"
    assert checks["card 1"].found == "910A, OK"


@pytest.mark.parametrize(
    ("train", "variables", "name", "words"),
    [
        ({"rank_table": "nowhere.json"}, {}, "ranks", "cannot be read"),
        ({"rank_table": "{}", "devices": 4}, {}, "ranks", "lists 2 devices for this host"),
        ({"rank_table": "{}", "hosts": ["a:1", "b:1"]}, {"FSE_HOST": "0"}, "ranks", "lists 1 servers"),
        ({"hosts": ["a:1", "b:1"]}, {"FSE_HOST": "0"}, "ranks", "several hosts need train.rank_table"),
        ({"devices": 3}, {}, "ranks", "1, 2, 4 or 8 cards, not on 3"),
        ({}, {"RANK_SIZE": "8"}, "ranks", "RANK_SIZE is 8 in the environment, but train.devices is 0"),
        ({"rank_table": "{}"}, {"CM_CHIEF_IP": "10.0.0.1"}, "rank table", "CM_CHIEF_IP is set"),
    ],
)
def test_ranks_that_cannot_be(
    host: Path, train: dict, variables: Dict[str, str], name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ascend_host.rank_table(host / "ranks.json", (0, 1))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    if "rank_table" in train:
        train = dict(train, rank_table=train["rank_table"].format(table))
    check = found(npus(**train), host)[name]
    assert check.status == "failed"
    assert words in check.found


def test_a_rank_table_of_the_environment_alone_is_not_used(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK_TABLE_FILE", "/somewhere.json")
    check = found(NPU, host)["rank table"]
    assert (check.status, check.mend) == ("warning", "set train.rank_table to it, or unset it")


def test_more_ranks_than_cards(host: Path) -> None:
    table = ascend_host.rank_table(host / "ranks.json", (0, 1, 2, 3))
    assert found(npus(rank_table=str(table)), host)["card"].found == "training wants card 3, and there are 3"


def test_hosts_and_their_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_tensorflow", lambda device, version: Check("tensorflow", "ok", version))
    monkeypatch.delenv("RANK_SIZE", raising=False)
    monkeypatch.setenv("FSE_HOST", "0")

    def checks(first: str, second: str) -> Dict[str, Check]:
        return found(config.from_tables({"train": {"devices": 2, "hosts": [first, second]}}), tmp_path)

    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen(1)
        port = busy.getsockname()[1]
        told = checks(f"127.0.0.1:{min(port, 65_000)}", "127.0.0.2:1")
        assert told["ranks"].found == "4 in all, here 2 on 0, 1"
        assert told["hosts"].status == "ok"
        assert told["host ports"].status == ("failed" if port <= 65_000 else "ok")
        # A rank's own port, one after the host's.
        assert checks(f"127.0.0.1:{min(port - 1, 65_000)}", "127.0.0.2:1")["host ports"].status == (
            "failed" if port <= 65_001 else "ok"
        )
    assert checks("127.0.0.1:1000", "b.invalid:1")["hosts"].found.startswith("b.invalid:1: ")


def test_ports_that_are_taken_not_reserved_or_no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen(1)
        port = busy.getsockname()[1]
        first = min(port - 3, 65_520)
        monkeypatch.setenv("HCCL_IF_BASE_PORT", str(first))
        (check,) = doctor._hccl_ports()
        assert check.status == "failed"
        assert str(port) in check.found
    monkeypatch.setattr(doctor, "_is_reserved", lambda first, last: False)
    monkeypatch.setattr(doctor, "_is_free", lambda port: True)
    monkeypatch.delenv("HCCL_IF_BASE_PORT")
    (check,) = doctor._hccl_ports()
    assert (check.status, check.found[:11]) == ("warning", "60000-60015")
    assert "ip_local_reserved_ports=60000-60015" in check.mend
    monkeypatch.setenv("HCCL_IF_BASE_PORT", "80")
    assert doctor._hccl_ports()[0].status == "failed"


def test_a_disk_that_is_full_or_has_no_room_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(str(tmp_path))

    class Disk:
        f_frsize, f_files, f_favail = 4096, real.f_files or 1, 10**6
        f_bavail = 100 * 10**9 // 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    assert doctor._disk(tmp_path).status == "ok"
    Disk.f_favail = 9
    assert "room for only 9 more files" in doctor._disk(tmp_path).found
    Disk.f_bavail = 5 * 10**9 // 4096
    Disk.f_favail = 10**6
    assert doctor._disk(tmp_path).status == "warning"
    Disk.f_bavail = 10
    assert doctor._disk(tmp_path)[1:3] == ("failed", f"0.0 GB free at {tmp_path}")


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSE_LOCKS", str(tmp_path / "none"))
    workspace, locks = doctor._write_access(tmp_path / "new" / "workspace")
    assert workspace == Check("workspace", "ok", f"{tmp_path} can be written and locked")
    assert locks[1:3] == ("failed", "{}: No such file or directory".format(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
