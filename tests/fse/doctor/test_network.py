import socket
from pathlib import Path
from typing import Any, Dict

import pytest

from fse import config
from fse.doctor import network, software
from fse.doctor.check import Check
from tests import ascend_host
from tests.fse.doctor.npu_host import NPU, checks_of, failures, npus


def test_a_valid_rank_table_passes(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCCL_IF_BASE_PORT", "50000")
    settings = npus(rank_table=str(ascend_host.rank_table(host / "ranks.json", (0, 1))))
    checks = checks_of(settings, host)
    assert checks["ranks"].found == "2 in all, here 2 on 0, 1"
    assert checks["HCCL ports"].found == "50000-50015 are free"
    assert [checks[f"card {number}"].found for number in (1, 2)] == ["910A, OK", "910A, OK, not needed"]
    assert failures(settings, host) == []


def test_cards_without_a_rank_table_need_addresses(host: Path) -> None:
    check = checks_of(npus(devices=2), host)["ranks"]
    assert (check.status, "hccn.conf" in check.found) == ("failed", True)
    (host / "hccn.conf").write_text("address_0=192.168.1.1\naddress_1=192.168.1.2\n")
    checks = checks_of(npus(devices=2), host)
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
def test_impossible_ranks_fail(
    host: Path, train: Dict[str, Any], variables: Dict[str, str], name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ascend_host.rank_table(host / "ranks.json", (0, 1))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    if "rank_table" in train:
        train = dict(train, rank_table=train["rank_table"].format(table))
    check = checks_of(npus(**train), host)[name]
    assert check.status == "failed"
    assert words in check.found


def test_a_rank_table_that_only_the_environment_names_is_a_warning(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK_TABLE_FILE", "/somewhere.json")
    check = checks_of(NPU, host)["rank table"]
    assert (check.status, check.fix) == ("warning", "set train.rank_table to the file, or unset RANK_TABLE_FILE")


def test_more_ranks_than_cards_fail(host: Path) -> None:
    table = ascend_host.rank_table(host / "ranks.json", (0, 1, 2, 3))
    assert checks_of(npus(rank_table=str(table)), host)["card"].found == "training wants card 3, but this host has 3"


def test_hosts_must_resolve_and_their_ports_must_be_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "check_tensorflow", lambda device, version: Check("tensorflow", "ok", version))
    monkeypatch.delenv("RANK_SIZE", raising=False)
    monkeypatch.setenv("FSE_HOST", "0")

    def checks(first: str, second: str) -> Dict[str, Check]:
        return checks_of(config.from_tables({"train": {"devices": 2, "hosts": [first, second]}}), tmp_path)

    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen(1)
        port = busy.getsockname()[1]
        report = checks(f"127.0.0.1:{min(port, 65_000)}", "127.0.0.2:1")
        assert report["ranks"].found == "4 in all, here 2 on 0, 1"
        assert report["hosts"].status == "ok"
        assert report["host ports"].status == ("failed" if port <= 65_000 else "ok")
        # The port of a rank, one after the host's.
        assert checks(f"127.0.0.1:{min(port - 1, 65_000)}", "127.0.0.2:1")["host ports"].status == (
            "failed" if port <= 65_001 else "ok"
        )
    assert checks("127.0.0.1:1000", "b.invalid:1")["hosts"].found.startswith("b.invalid:1: ")


def test_hccl_ports_must_be_valid_free_and_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen(1)
        port = busy.getsockname()[1]
        first = min(port - 3, 65_520)
        monkeypatch.setenv("HCCL_IF_BASE_PORT", str(first))
        (check,) = network.check_hccl_ports()
        assert check.status == "failed"
        assert str(port) in check.found
    monkeypatch.setattr(network, "_is_reserved", lambda first, last: False)
    monkeypatch.setattr(network, "_is_free", lambda port: True)
    monkeypatch.delenv("HCCL_IF_BASE_PORT")
    (check,) = network.check_hccl_ports()
    assert (check.status, check.found[:11]) == ("warning", "60000-60015")
    assert "ip_local_reserved_ports=60000-60015" in check.fix
    monkeypatch.setenv("HCCL_IF_BASE_PORT", "80")
    assert network.check_hccl_ports()[0].status == "failed"
