"""HCCL's rank table on the Ascend 910: the rank of every card of every server.

The format is "template 1" of HCCL's user guide (rank_table_config_910). The rules on the number of cards are those of a 910
server, whose cards 0-3 and 4-7 form two separate networks. A table that HCCL would not accept is refused before HCCL runs.
"""

import ipaddress
import json
import socket
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from fse.errors import ConfigError, DeviceError

# Cards of a server, and how many of them may train together.
CARDS = 8
COUNTS = (1, 2, 4, CARDS)

# The file with the IP addresses of a server's cards, in lines `address_<card>=…`.
ADDRESSES = Path("/etc/hccn.conf")


class Entry(NamedTuple):
    """A rank and its card."""

    rank: int
    server: str  # server_id
    card: int  # the card's physical number on its server
    address: str  # the card's IP address


def read(path: Path) -> List[List[Entry]]:
    """Return the entries of each server of a rank table, in the order of their ranks.

    Raises:
      ConfigError: the file cannot be read, or HCCL would not accept it.
    """
    try:
        return _parse(json.loads(path.read_bytes().decode()))
    except OSError as error:
        raise ConfigError(f"rank table {path}: cannot be read ({error.strerror})") from None
    except ConfigError as error:
        raise ConfigError(f"rank table {path}: {error}") from None
    except ValueError as error:  # of JSON and UTF-8 alike
        raise ConfigError(f"rank table {path}: not valid JSON: {error}") from None


def create(cards: Sequence[int]) -> Dict[str, Any]:
    """Return the rank table of this host's cards, with their IP addresses from /etc/hccn.conf.

    Args:
      cards: physical numbers, in the order of the ranks.

    Raises:
      DeviceError: an address is missing.
    """
    alternative = "or name a rank table in train.rank_table"
    try:
        pairs = [line.split("=", 1) for line in ADDRESSES.read_text().splitlines() if "=" in line]
    except OSError as error:
        raise DeviceError(
            f"{ADDRESSES}, which holds the IP addresses of the cards, cannot be read ({error.strerror}); make it readable, "
            f"{alternative}"
        ) from None
    addresses = {name.strip(): value.strip() for name, value in pairs}
    for card in cards:
        if f"address_{card}" not in addresses:
            raise DeviceError(
                f"{ADDRESSES} has no address_{card}; set it with `hccn_tool -i {card} -ip -s …`, {alternative}"
            )
    devices = [
        {"device_id": str(card), "device_ip": addresses[f"address_{card}"], "rank_id": str(rank)}
        for rank, card in enumerate(cards)
    ]
    server = {"server_id": socket.gethostname(), "device": devices}
    return {"status": "completed", "version": "1.0", "server_count": "1", "server_list": [server]}


def check_cards(cards: Sequence[int]) -> None:
    """Check that these cards of one server can train together.

    HCCL accepts 1, 2, 4 or 8 cards; 2 or 4 cards must belong to the same network.

    Raises:
      ConfigError: they cannot.
    """
    if len(cards) not in COUNTS:
        raise ConfigError(f"an Ascend 910 server trains on 1, 2, 4 or 8 cards, not on {len(cards)}")
    listed = ", ".join(map(str, cards))
    if len(set(cards)) < len(cards) or not all(0 <= card < CARDS for card in cards):
        raise ConfigError(f"the cards of an Ascend 910 server are 0 to 7, each at most once, got {listed}")
    if len(cards) < CARDS and len({card // (CARDS // 2) for card in cards}) > 1:
        raise ConfigError(
            f"2 or 4 cards of an Ascend 910 server must all be of 0-3 or all of 4-7, which are separate networks; got {listed}"
        )


def _parse(table: Any) -> List[List[Entry]]:
    """Return the entries of each server of a parsed file.

    Raises:
      ConfigError: HCCL would not accept the table.
    """
    for key, wanted in (("status", "completed"), ("version", "1.0")):
        if _text(table, key) != wanted:
            raise ConfigError(f"{key} must be {wanted!r}, got {table[key]!r}")
    server_tables = _list(table, "server_list")
    if _text(table, "server_count") != str(len(server_tables)):
        raise ConfigError(f"server_count is {table['server_count']!r}, but server_list has {len(server_tables)}")
    servers = [_parse_server(server) for server in server_tables]
    entries = [entry for server in servers for entry in server]
    ranks = [entry.rank for entry in entries]
    if ranks != list(range(len(entries))):
        raise ConfigError(f"rank_id must count from 0 without gaps, server by server, got {ranks}")
    _check_unique("device_ip", [entry.address for entry in entries])
    _check_unique("server_id", [server[0].server for server in servers])
    return servers


def _parse_server(server: Any) -> List[Entry]:
    """Return the entries of a server in the order of their ranks.

    Raises:
      ConfigError: a device is invalid, or the cards cannot train together.
    """
    name = _text(server, "server_id")
    entries = sorted(_parse_device(device, name) for device in _list(server, "device"))
    try:
        check_cards([entry.card for entry in entries])
    except ConfigError as error:
        raise ConfigError(f"server {name}: {error}") from None
    return entries


def _parse_device(device: Any, server: str) -> Entry:
    numbers = {}
    for key in ("rank_id", "device_id"):
        if not _text(device, key).isdecimal():
            raise ConfigError(f"{key} must be a number in quotes, got {device[key]!r}")
        numbers[key] = int(device[key])
    try:
        address = str(ipaddress.ip_address(_text(device, "device_ip")))
    except ValueError:
        raise ConfigError(
            f"device_ip must be an IP address (`hccn_tool -i {numbers['device_id']} -ip -g` shows it), got "
            f"{device['device_ip']!r}"
        ) from None
    return Entry(numbers["rank_id"], server, numbers["device_id"], address)


def _check_unique(key: str, values: Sequence[str]) -> None:
    """Check that no value of a key occurs twice.

    Raises:
      ConfigError: one does.
    """
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ConfigError(f"{key} {repeated[0]} occurs twice")


def _text(table: Any, key: str) -> str:
    value = _value(table, key)
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a string (HCCL wants all values in quotes), got {value!r}")
    return value


def _list(table: Any, key: str) -> List[Any]:
    value = _value(table, key)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{key} must be a list with at least one entry, got {value!r}")
    return value


def _value(table: Any, key: str) -> Any:
    if not isinstance(table, dict) or key not in table:
        raise ConfigError(f"{key!r} is missing in {json.dumps(table)[:80]}")
    return table[key]
