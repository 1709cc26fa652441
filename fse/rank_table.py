"""The rank table: which card of which server has which rank, as HCCL reads it on the Ascend 910.

Format: "template 1" of HCCL's user guide (rank_table_config_910). Its rules on numbers of cards are those of one 910
server, whose cards 0-3 and 4-7 are two separate networks.
"""

import ipaddress
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from fse.errors import ConfigError

# How many cards of a server may take part.
COUNTS = (1, 2, 4, 8)


class Rank(NamedTuple):
    """One process: its rank, its server's name, its card's physical number and network address."""

    rank: int
    server: str
    device: int
    address: str


def read(path: Path) -> List[Rank]:
    """The ranks of a table, in their order.

    Raises:
      ConfigError: the file cannot be read, or HCCL would not accept it.
    """
    try:
        return _ranks(json.loads(path.read_bytes().decode()))
    except OSError as error:
        raise ConfigError("rank table {}: cannot be read ({})".format(path, error.strerror)) from None
    except ConfigError as error:
        raise ConfigError("rank table {}: {}".format(path, error)) from None
    except ValueError as error:  # of JSON and UTF-8 alike
        raise ConfigError("rank table {}: not valid JSON: {}".format(path, error)) from None


def _ranks(table: Any) -> List[Rank]:
    for key, wanted in (("status", "completed"), ("version", "1.0")):
        if _text(table, key) != wanted:
            raise ConfigError("{} must be {!r}, got {!r}".format(key, wanted, table[key]))
    servers = _list(table, "server_list")
    if _text(table, "server_count") != str(len(servers)):
        raise ConfigError("server_count is {!r}, but server_list has {}".format(table["server_count"], len(servers)))
    ranks: List[Rank] = []
    for server in servers:
        found = [_rank(device, _text(server, "server_id")) for device in _list(server, "device")]
        _check_cards(found)
        ranks += found
    numbers = [rank.rank for rank in ranks]
    if numbers != list(range(len(ranks))):
        raise ConfigError("rank_id must run from 0 without gaps, server by server, got {}".format(numbers))
    for what, values in (
        ("device_ip", [rank.address for rank in ranks]),
        ("server_id", [_id(item) for item in servers]),
    ):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError("{} {} is there twice".format(what, twice[0]))
    return ranks


def _id(server: Dict[str, Any]) -> str:
    return str(server["server_id"])


def _rank(device: Any, server: str) -> Rank:
    numbers = {}
    for key in ("rank_id", "device_id"):
        if not _text(device, key).isdigit():
            raise ConfigError("{} must be a number in quotes, got {!r}".format(key, device[key]))
        numbers[key] = int(device[key])
    try:
        address = str(ipaddress.ip_address(_text(device, "device_ip")))
    except ValueError:
        raise ConfigError(
            "device_ip must be an address (`hccn_tool -i {} -ip -g` tells it), got {!r}".format(
                numbers["device_id"], device["device_ip"]
            )
        ) from None
    return Rank(numbers["rank_id"], server, numbers["device_id"], address)


def _check_cards(ranks: List[Rank]) -> None:
    """Which cards of one server may work together (HCCL: 1, 2, 4 or 8; 2 or 4 from one half)."""
    devices, server = sorted(rank.device for rank in ranks), ranks[0].server
    if len(set(devices)) < len(devices) or devices[-1] > 7:
        raise ConfigError("server {}: device_id must be different numbers from 0 to 7, got {}".format(server, devices))
    if len(devices) not in COUNTS:
        raise ConfigError("server {}: 1, 2, 4 or 8 cards can work together, got {}".format(server, len(devices)))
    if len(devices) in (2, 4) and devices[0] // 4 != devices[-1] // 4:
        raise ConfigError(
            "server {}: 2 or 4 cards must be of 0-3 or of 4-7, which are separate networks, got {}".format(
                server, devices
            )
        )


def _text(table: Any, key: str) -> str:
    value = _value(table, key)
    if not isinstance(value, str):
        raise ConfigError("{} must be a string (HCCL wants all values in quotes), got {!r}".format(key, value))
    return value


def _list(table: Any, key: str) -> List[Any]:
    value = _value(table, key)
    if not isinstance(value, list) or not value:
        raise ConfigError("{} must be a list with something in it, got {!r}".format(key, value))
    return value


def _value(table: Any, key: str) -> Any:
    if not isinstance(table, dict) or key not in table:
        raise ConfigError("{!r} is missing in {}".format(key, json.dumps(table)[:80]))
    return table[key]
