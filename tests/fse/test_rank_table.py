import json
from pathlib import Path
from typing import Any, Dict

import pytest

from fse import rank_table
from fse.errors import ConfigError
from fse.rank_table import Rank
from tests import ascend_host


def two_servers() -> Dict[str, Any]:
    servers = []
    for server in range(2):
        devices = [
            {"device_id": str(card), "device_ip": "10.0.{}.{}".format(server, card), "rank_id": str(2 * server + card)}
            for card in range(2)
        ]
        servers.append({"server_id": "node_{}".format(server), "device": devices})
    return {"status": "completed", "version": "1.0", "server_count": "2", "server_list": servers}


def read(tmp_path: Path, table: Any) -> list:
    (tmp_path / "ranks.json").write_text(table if isinstance(table, str) else json.dumps(table))
    return rank_table.read(tmp_path / "ranks.json")


def test_a_table_of_two_servers(tmp_path: Path) -> None:
    found = read(tmp_path, two_servers())
    assert found[0] == Rank(0, "node_0", 0, "10.0.0.0")
    assert [(rank.server, rank.device) for rank in found] == [
        ("node_0", 0),
        ("node_0", 1),
        ("node_1", 0),
        ("node_1", 1),
    ]


@pytest.mark.parametrize("devices", [(0,), (5,), (2, 3), (4, 5, 6, 7), tuple(range(8))])
def test_cards_that_can_work_together(tmp_path: Path, devices: tuple) -> None:
    found = rank_table.read(ascend_host.rank_table(tmp_path / "ranks.json", devices))
    assert tuple(rank.device for rank in found) == devices


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ((0, 1, 2), "1, 2, 4 or 8 cards can work together, got 3"),
        ((3, 4), "2 or 4 cards must be of 0-3 or of 4-7"),
        ((0, 1, 2, 4), "2 or 4 cards must be of 0-3 or of 4-7"),
        ((1, 1), "must be different numbers from 0 to 7"),
        ((8,), "must be different numbers from 0 to 7"),
    ],
)
def test_cards_that_cannot(tmp_path: Path, devices: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rank_table.read(ascend_host.rank_table(tmp_path / "ranks.json", devices))


def test_what_hccl_would_not_accept_is_told(tmp_path: Path) -> None:
    def changed(**values: Any) -> Dict[str, Any]:
        return dict(two_servers(), **values)

    def device(**values: Any) -> Dict[str, Any]:
        table = two_servers()
        table["server_list"][1]["device"][0].update(values)
        return table

    same = two_servers()
    same["server_list"][1]["server_id"] = "node_0"
    for table, message in [
        ("{", "not valid JSON"),
        ("[]", "'status' is missing"),
        (changed(status="initializing"), "status must be 'completed', got 'initializing'"),
        (changed(version=1.0), "version must be a string .* got 1.0"),
        (changed(server_count="3"), "server_count is '3', but server_list has 2"),
        (changed(server_list=[]), "server_list must be a list with something in it"),
        (changed(server_list=[7, 8]), "'device' is missing in 7"),
        (device(rank_id="3"), r"rank_id must run from 0 without gaps, server by server, got \[0, 1, 3, 3\]"),
        (device(rank_id=2), "rank_id must be a string"),
        (device(rank_id="two"), "rank_id must be a number in quotes, got 'two'"),
        (device(device_ip="10.0.0"), "device_ip must be an address .*, got '10.0.0'"),
        (device(device_ip="10.0.0.0"), "device_ip 10.0.0.0 is there twice"),
        (same, "server_id node_0 is there twice"),
    ]:
        with pytest.raises(ConfigError, match=r"rank table .*ranks.json: " + message):
            read(tmp_path, table)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        rank_table.read(tmp_path / "none.json")
