import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fse.config import Train, from_tables
from fse.distributed import ranks
from fse.errors import ConfigError, DeviceError


def table(*servers: list) -> dict:
    """An HCCL rank table of servers that have these cards."""
    number, listed = 0, []
    for host, cards in enumerate(servers):
        devices = []
        for card in cards:
            devices.append({"device_id": card, "device_ip": f"10.0.{host}.{card}", "rank_id": str(number)})
            number += 1
        listed.append({"server_id": f"node_{host}", "device": devices})
    return {"status": "completed", "version": "1.0", "server_count": str(len(listed)), "server_list": listed}


def written(folder: Path, contents: object) -> str:
    (folder / "table.json").write_text(json.dumps(contents))
    return str(folder / "table.json")


def settings(**values: object) -> Train:
    return dataclasses.replace(Train(), **values)


def test_one_rank_is_alone_on_the_first_card() -> None:
    assert ranks.team(settings(), {}) == ranks.Team(0, (), ("0",), 1)


def test_ranks_have_the_cards_that_the_environment_names() -> None:
    assert ranks.team(settings(devices=2, device="gpu"), {"CUDA_VISIBLE_DEVICES": "3, 1,0"}).devices == ("3", "1")
    assert ranks.team(settings(devices=4, device="npu"), {"ASCEND_DEVICE_ID": "4"}).devices == ("4", "5", "6", "7")
    assert ranks.team(settings(device="npu"), {"DEVICE_ID": "6"}).devices == ("6",)


def test_a_rank_table_says_which_cards_and_hosts(tmp_path: Path) -> None:
    path = written(tmp_path, table(["4", "5"], ["0", "1"]))
    train = settings(device="npu", rank_table=path, hosts=("a:1", "b:1"))
    assert ranks.size(train) == 4
    team = ranks.team(train, {"FSE_HOST": "1"})
    assert (team.here, team.devices, team.size, team.numbers) == (1, ("0", "1"), 4, (2, 3))


def test_a_missing_rank_table_is_told() -> None:
    with pytest.raises(ConfigError, match="nowhere: cannot be read"):
        ranks.size(settings(device="npu", rank_table="nowhere"))


@pytest.mark.parametrize(
    ("values", "environment", "message"),
    [
        ({"device": "npu", "devices": 3}, {}, "1, 2, 4 or 8 cards, not on 3"),
        ({"device": "npu", "devices": 16}, {}, "1, 2, 4 or 8 cards, not on 16"),
        ({"device": "npu", "devices": 8}, {"ASCEND_DEVICE_ID": "1"}, "has the cards 0 to 7"),
        ({"device": "npu", "devices": 2}, {"ASCEND_DEVICE_ID": "3"}, "all be of 0-3 or all of 4-7"),
        ({"device": "npu"}, {"ASCEND_DEVICE_ID": "x"}, "must be a card's number, got 'x'"),
        ({"device": "npu"}, {"ASCEND_DEVICE_ID": "9"}, "has the cards 0 to 7, once each, got 9"),
        ({"device": "gpu", "devices": 3}, {"CUDA_VISIBLE_DEVICES": "0,1"}, "names 2 cards"),
        ({}, {"RANK_SIZE": "8"}, "say --devices 8"),
        ({"hosts": ("a.invalid:1", "b.invalid:2")}, {}, "names this machine 0 times"),
        ({"hosts": ("127.0.0.1:1", "127.0.0.1:2")}, {}, "names this machine 2 times"),
        ({"device": "npu", "hosts": ("a:1", "b:2")}, {"FSE_HOST": "0"}, "on several hosts need train.rank_table"),
        ({"hosts": ("a:1", "b:2")}, {"FSE_HOST": "2"}, "FSE_HOST must be a number below 2"),
    ],
)
def test_ranks_that_cannot_be_are_refused(values: dict, environment: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ranks.team(settings(**values), environment)


def test_more_ranks_than_cards_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for card in range(4):
        (tmp_path / f"davinci{card}").touch()
    monkeypatch.setitem(ranks._DEVICE_FILES, "npu", str(tmp_path / "davinci[0-9]*"))
    with pytest.raises(ConfigError, match="train.devices is 8, but this host has 4 cards"):
        ranks.team(settings(device="npu", devices=8), {})


def test_devices_that_a_rank_table_does_not_list_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, table(["0", "1"]))
    with pytest.raises(ConfigError, match="devices is 4, but .* lists 2 devices for this host"):
        ranks.team(settings(device="npu", devices=4, rank_table=path), {})
    with pytest.raises(ConfigError, match="lists 1 servers; train.hosts must list as many"):
        ranks.team(settings(device="npu", hosts=("a:1", "b:1"), rank_table=path), {"FSE_HOST": "0"})


def test_a_rank_finds_itself_in_its_environment(tmp_path: Path) -> None:
    train = settings(devices=2, device="npu", connect_timeout=200, step_timeout=900)
    rank = ranks.Rank(1, 2, "5", ("a:1", "b:2"))
    environment = ranks.environment_of(rank, train, tmp_path / "table.json")
    assert environment == {
        "RANK_ID": "1",
        "RANK_SIZE": "2",
        "FSE_ADDRESSES": "a:1,b:2",
        "ASCEND_DEVICE_ID": "5",
        "DEVICE_ID": "5",
        "JOB_ID": "10087",
        "RANK_TABLE_FILE": str(tmp_path / "table.json"),
        "HCCL_CONNECT_TIMEOUT": "200",
        "HCCL_EXEC_TIMEOUT": "900",
        "TF_CPP_MIN_LOG_LEVEL": "0",
    }
    assert ranks.current(train, environment) == rank
    for name in ("RANK_ID", "JOB_ID", "ASCEND_DEVICE_ID", "RANK_TABLE_FILE"):
        with pytest.raises(DeviceError, match=f"needs {name} in its environment"):
            ranks.current(train, {key: value for key, value in environment.items() if key != name})
    for name, value, message in (
        ("RANK_ID", "2", "RANK_ID is 2 and RANK_SIZE 2"),
        ("RANK_ID", "x", "whole numbers"),
        ("RANK_SIZE", "4", "configuration means 2 ranks"),
        ("ASCEND_DEVICE_ID", "-1", "must be a card's number"),
    ):
        with pytest.raises(DeviceError, match=message):
            ranks.current(train, dict(environment, **{name: value}))
    gpu = settings(devices=2, device="gpu")
    assert ranks.environment_of(rank, gpu, None)["CUDA_VISIBLE_DEVICES"] == "5"
    with pytest.raises(DeviceError, match="lists 1 addresses for 2 ranks"):
        ranks.current(gpu, dict(ranks.environment_of(rank, gpu, None), FSE_ADDRESSES="a:1"))


def test_a_wait_that_takes_too_long_ends_the_process_and_says_what_for() -> None:
    code = "import time\nfrom fse import ranks\nwith ranks.bounded(0.2, 'a sign'):\n    time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "\nerror: waited 0 seconds for a sign; gave up\n"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hosts": ["a"]}, "wants name:port"),
        ({"hosts": ["a:1", "a:1"]}, "names a host twice"),
        ({"rank_table": "x"}, "rank_table is for train.device 'npu'"),
        ({"loss_scale": 0.5}, "must be at least 1"),
        ({"device": "npu", "connect_timeout": 60}, "at least 120 seconds"),
    ],
)
def test_settings_of_devices_that_contradict_each_other_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_tables({"train": values})
