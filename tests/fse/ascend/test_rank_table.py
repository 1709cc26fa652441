import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from fse.ascend import rank_table
from fse.ascend.rank_table import Entry
from fse.errors import ConfigError, DeviceError
from tests import ascend_host


def two_servers() -> Dict[str, Any]:
    servers = []
    for server in range(2):
        devices = [
            {"device_id": str(card), "device_ip": f"10.0.{server}.{card}", "rank_id": str(2 * server + card)}
            for card in range(2)
        ]
        servers.append({"server_id": f"node_{server}", "device": devices})
    return {"status": "completed", "version": "1.0", "server_count": "2", "server_list": servers}


def read(tmp_path: Path, table: Any) -> List[List[Entry]]:
    (tmp_path / "ranks.json").write_text(table if isinstance(table, str) else json.dumps(table))
    return rank_table.read(tmp_path / "ranks.json")


def test_a_table_of_two_servers(tmp_path: Path) -> None:
    servers = read(tmp_path, two_servers())
    assert servers[0][0] == Entry(0, "node_0", 0, "10.0.0.0")
    assert [[(entry.server, entry.card) for entry in server] for server in servers] == [
        [("node_0", 0), ("node_0", 1)],
        [("node_1", 0), ("node_1", 1)],
    ]


def test_entries_of_a_server_are_sorted_by_rank(tmp_path: Path) -> None:
    table = two_servers()
    table["server_list"][0]["device"].reverse()
    assert read(tmp_path, table) == read(tmp_path, two_servers())


def test_a_table_is_created_from_the_addresses_of_the_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_table, "ADDRESSES", tmp_path / "hccn.conf")
    with pytest.raises(DeviceError, match="hccn.conf, which holds .*, cannot be read"):
        rank_table.create((0,))
    (tmp_path / "hccn.conf").write_text("address_0=192.168.1.1\nnetmask_0=255.0.0.0\naddress_1=192.168.1.2\n")
    (server,) = read(tmp_path, rank_table.create((0, 1)))
    assert [(entry.rank, entry.card, entry.address) for entry in server] == [
        (0, 0, "192.168.1.1"),
        (1, 1, "192.168.1.2"),
    ]
    with pytest.raises(DeviceError, match="no address_2"):
        rank_table.create((2,))


@pytest.mark.parametrize("cards", [(0,), (5,), (2, 3), (4, 5, 6, 7), tuple(range(8))])
def test_cards_that_can_train_together(tmp_path: Path, cards: Tuple[int, ...]) -> None:
    (server,) = rank_table.read(ascend_host.rank_table(tmp_path / "ranks.json", cards))
    assert tuple(entry.card for entry in server) == cards


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ((0, 1, 2), "1, 2, 4 or 8 cards, not on 3"),
        ((3, 4), "must all be of 0-3 or all of 4-7"),
        ((0, 1, 2, 4), "must all be of 0-3 or all of 4-7"),
        ((1, 1), "are 0 to 7, each at most once, got 1, 1"),
        ((8,), "are 0 to 7, each at most once, got 8"),
    ],
)
def test_cards_that_cannot_train_together(tmp_path: Path, cards: Tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match="server node_0: .*" + message):
        rank_table.read(ascend_host.rank_table(tmp_path / "ranks.json", cards))


def test_a_table_that_hccl_would_not_accept_is_refused(tmp_path: Path) -> None:
    def changed(**values: Any) -> Dict[str, Any]:
        return dict(two_servers(), **values)

    def device(**values: Any) -> Dict[str, Any]:
        table = two_servers()
        table["server_list"][1]["device"][0].update(values)
        return table

    absent = two_servers()
    del absent["server_list"][0]["device"][1]["device_ip"]
    same = two_servers()
    same["server_list"][1]["server_id"] = "node_0"
    for table, message in [
        ("{", "not valid JSON"),
        ("[]", "'status' is missing"),
        (changed(status="initializing"), "status must be 'completed', got 'initializing'"),
        (changed(version=1.0), "version must be a string .* got 1.0"),
        (changed(server_count="3"), "server_count is '3', but server_list has 2"),
        (changed(server_list=[]), "server_list must be a list with at least one entry"),
        (changed(server_list=[7, 8]), "'server_id' is missing in 7"),
        (device(rank_id="3"), r"rank_id must count from 0 without gaps, server by server, got \[0, 1, 3, 3\]"),
        (device(rank_id=2), "rank_id must be a string"),
        (device(rank_id="two"), "rank_id must be a number in quotes, got 'two'"),
        (absent, "'device_ip' is missing"),
        (device(rank_id="\u00b2"), "rank_id must be a number in quotes"),
        (device(device_ip="10.0.0"), "device_ip must be an IP address .*, got '10.0.0'"),
        (device(device_ip="10.0.0.0"), "device_ip 10.0.0.0 occurs twice"),
        (same, "server_id node_0 occurs twice"),
    ]:
        with pytest.raises(ConfigError, match=r"rank table .*ranks.json: " + message):
            read(tmp_path, table)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        rank_table.read(tmp_path / "none.json")
