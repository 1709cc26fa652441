import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from fse.config import Train, from_tables
from fse.distributed import ranks
from fse.errors import ConfigError, DeviceError


def table(*servers: List[str]) -> Dict[str, Any]:
    """Return an HCCL rank table of servers with these cards."""
    number = 0
    listed: List[Any] = []
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


def settings(**values: Any) -> Train:
    return dataclasses.replace(Train(), **values)


def test_a_single_rank_uses_the_first_card() -> None:
    assert ranks.topology(settings(), {}) == ranks.Topology(0, (), ("0",), 1)


def test_ranks_use_the_cards_that_the_environment_names() -> None:
    assert ranks.topology(settings(devices=2, device="gpu"), {"CUDA_VISIBLE_DEVICES": "3, 1,0"}).devices == ("3", "1")
    assert ranks.topology(settings(devices=4, device="npu"), {"ASCEND_DEVICE_ID": "4"}).devices == ("4", "5", "6", "7")
    assert ranks.topology(settings(device="npu"), {"DEVICE_ID": "6"}).devices == ("6",)


def test_a_rank_table_defines_cards_and_hosts(tmp_path: Path) -> None:
    path = written(tmp_path, table(["4", "5"], ["0", "1"]))
    train = settings(device="npu", rank_table=path, hosts=("a:1", "b:1"))
    assert ranks.rank_count(train) == 4
    topology = ranks.topology(train, {"FSE_HOST": "1"})
    assert (topology.host_index, topology.devices, topology.size, topology.rank_numbers) == (1, ("0", "1"), 4, (2, 3))


def test_a_missing_rank_table_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nowhere: cannot be read"):
        ranks.rank_count(settings(device="npu", rank_table="nowhere"))


@pytest.mark.parametrize(
    ("values", "environment", "message"),
    [
        ({"device": "npu", "devices": 3}, {}, "1, 2, 4 or 8 cards, not on 3"),
        ({"device": "npu", "devices": 16}, {}, "1, 2, 4 or 8 cards, not on 16"),
        ({"device": "npu", "devices": 8}, {"ASCEND_DEVICE_ID": "1"}, "server are 0 to 7"),
        ({"device": "npu", "devices": 2}, {"ASCEND_DEVICE_ID": "3"}, "all be of 0-3 or all of 4-7"),
        ({"device": "npu"}, {"ASCEND_DEVICE_ID": "x"}, "must be a card's number, got 'x'"),
        ({"device": "npu"}, {"ASCEND_DEVICE_ID": "9"}, "are 0 to 7, each at most once, got 9"),
        ({"device": "gpu", "devices": 3}, {"CUDA_VISIBLE_DEVICES": "0,1"}, "names 2 cards"),
        ({}, {"RANK_SIZE": "8"}, "say --devices 8"),
        ({"hosts": ("a.invalid:1", "b.invalid:2")}, {}, "names this machine 0 times"),
        ({"hosts": ("127.0.0.1:1", "127.0.0.1:2")}, {}, "names this machine 2 times"),
        ({"device": "npu", "hosts": ("a:1", "b:2")}, {"FSE_HOST": "0"}, "on several hosts need train.rank_table"),
        ({"hosts": ("a:1", "b:2")}, {"FSE_HOST": "2"}, "FSE_HOST must be a number below 2"),
    ],
)
def test_impossible_ranks_are_refused(values: Dict[str, Any], environment: Dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ranks.topology(settings(**values), environment)


def test_more_ranks_than_cards_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for card in range(4):
        (tmp_path / f"davinci{card}").touch()
    monkeypatch.setitem(ranks._DEVICE_FILES, "npu", str(tmp_path / "davinci[0-9]*"))
    with pytest.raises(ConfigError, match="train.devices is 8, but this host has 4 cards"):
        ranks.topology(settings(device="npu", devices=8), {})


def test_settings_that_contradict_the_rank_table_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, table(["0", "1"]))
    with pytest.raises(ConfigError, match="devices is 4, but .* lists 2 devices for this host"):
        ranks.topology(settings(device="npu", devices=4, rank_table=path), {})
    with pytest.raises(ConfigError, match="lists 1 servers; train.hosts must list as many"):
        ranks.topology(settings(device="npu", hosts=("a:1", "b:1"), rank_table=path), {"FSE_HOST": "0"})


def test_the_environment_defines_a_process_s_rank(tmp_path: Path) -> None:
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
    assert ranks.current_rank(train, environment) == rank
    for name in ("RANK_ID", "JOB_ID", "ASCEND_DEVICE_ID", "RANK_TABLE_FILE"):
        with pytest.raises(DeviceError, match=f"needs {name} in its environment"):
            ranks.current_rank(train, {key: value for key, value in environment.items() if key != name})
    for name, value, message in (
        ("RANK_ID", "2", "RANK_ID is 2 and RANK_SIZE 2"),
        ("RANK_ID", "x", "whole numbers"),
        ("RANK_SIZE", "4", "configuration defines 2 ranks"),
        ("ASCEND_DEVICE_ID", "-1", "must be a card's number"),
    ):
        with pytest.raises(DeviceError, match=message):
            ranks.current_rank(train, dict(environment, **{name: value}))
    gpu = settings(devices=2, device="gpu")
    assert ranks.environment_of(rank, gpu, None)["CUDA_VISIBLE_DEVICES"] == "5"
    with pytest.raises(DeviceError, match="lists 1 addresses for 2 ranks"):
        ranks.current_rank(gpu, dict(ranks.environment_of(rank, gpu, None), FSE_ADDRESSES="a:1"))


def test_an_exceeded_time_limit_ends_the_process_and_says_what_it_waited_for() -> None:
    code = "import time\nfrom fse.distributed import ranks\nwith ranks.time_limit(0.2, 'a sign'):\n    time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "\nerror: waited 0 seconds for a sign; gave up\n"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hosts": ["a"]}, "must be name:port"),
        ({"hosts": ["a:1", "a:1"]}, "lists a host twice"),
        ({"rank_table": "x"}, "rank_table is for train.device 'npu'"),
        ({"loss_scale": 0.5}, "must be at least 1"),
        ({"device": "npu", "connect_timeout": 60}, "at least 120 seconds"),
    ],
)
def test_settings_of_devices_that_contradict_each_other_are_refused(values: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_tables({"train": values})
