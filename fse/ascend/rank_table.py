"""The rank table: which card of which server has which rank, as HCCL reads it on the Ascend 910.

Format: "template 1" of HCCL's user guide (rank_table_config_910). Its rules on numbers of cards are those of one 910
server, whose cards 0-3 and 4-7 are two separate networks. Whatever HCCL would not accept is told before it runs.
"""

import ipaddress
import json
import socket
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from fse.errors import ConfigError, DeviceError

# Cards of a server, and how many of them may take part.
CARDS = 8
COUNTS = (1, 2, 4, CARDS)

# The network addresses of a server's cards: lines `address_<card>=…`.
ADDRESSES = Path("/etc/hccn.conf")


class Device(NamedTuple):
    """One process's card: its rank, its server's name, the card's physical number and network address."""

    rank: int
    server: str
    card: int
    address: str


def read(path: Path) -> List[List[Device]]:
    """The devices of each server of a table, in the order of their ranks.

    Raises:
      ConfigError: the file cannot be read, or HCCL would not accept it.
    """
    try:
        return _servers(json.loads(path.read_bytes().decode()))
    except OSError as error:
        raise ConfigError(f"rank table {path}: cannot be read ({error.strerror})") from None
    except ConfigError as error:
        raise ConfigError(f"rank table {path}: {error}") from None
    except ValueError as error:  # of JSON and UTF-8 alike
        raise ConfigError(f"rank table {path}: not valid JSON: {error}") from None


def of_cards(cards: Sequence[int]) -> Dict[str, Any]:
    """The rank table of this host's cards, whose network addresses are in /etc/hccn.conf.

    Raises:
      DeviceError: an address is not there.
    """
    instead = "or name a rank table in train.rank_table"
    try:
        pairs = [line.split("=", 1) for line in ADDRESSES.read_text().splitlines() if "=" in line]
    except OSError as error:
        raise DeviceError(
            f"{ADDRESSES}, which has the cards' network addresses, cannot be read ({error.strerror}); mend it, {instead}"
        ) from None
    addresses = {name.strip(): value.strip() for name, value in pairs}
    for card in cards:
        if f"address_{card}" not in addresses:
            raise DeviceError(
                f"{ADDRESSES} has no address_{card}; set it with `hccn_tool -i {card} -ip -s …`, {instead}"
            )
    devices = [
        {"device_id": str(card), "device_ip": addresses[f"address_{card}"], "rank_id": str(rank)}
        for rank, card in enumerate(cards)
    ]
    server = {"server_id": socket.gethostname(), "device": devices}
    return {"status": "completed", "version": "1.0", "server_count": "1", "server_list": [server]}


def check_cards(cards: Sequence[int]) -> None:
    """Makes sure that these cards of one server can train together.

    Raises:
      ConfigError: they cannot (HCCL: 1, 2, 4 or 8, 2 or 4 of them from one half).
    """
    if len(cards) not in COUNTS:
        raise ConfigError(f"an Ascend 910 server trains on 1, 2, 4 or 8 cards, not on {len(cards)}")
    listed = ", ".join(map(str, cards))
    if len(set(cards)) < len(cards) or not all(0 <= card < CARDS for card in cards):
        raise ConfigError(f"an Ascend 910 server has the cards 0 to 7, once each, got {listed}")
    if len(cards) < CARDS and len({card // (CARDS // 2) for card in cards}) > 1:
        raise ConfigError(
            "2 or 4 cards of an Ascend 910 server must all be of 0-3 or all of 4-7, which are separate networks; got "
            f"{listed}"
        )


def _servers(table: Any) -> List[List[Device]]:
    for key, wanted in (("status", "completed"), ("version", "1.0")):
        if _text(table, key) != wanted:
            raise ConfigError(f"{key} must be {wanted!r}, got {table[key]!r}")
    servers = _list(table, "server_list")
    if _text(table, "server_count") != str(len(servers)):
        raise ConfigError("server_count is {!r}, but server_list has {}".format(table["server_count"], len(servers)))
    found: List[List[Device]] = []
    for server in servers:
        name = _text(server, "server_id")
        found.append(sorted(_device(device, name) for device in _list(server, "device")))
        try:
            check_cards([device.card for device in found[-1]])
        except ConfigError as error:
            raise ConfigError(f"server {name}: {error}") from None
    devices = [device for server in found for device in server]
    numbers = [device.rank for device in devices]
    if numbers != list(range(len(devices))):
        raise ConfigError(f"rank_id must run from 0 without gaps, server by server, got {numbers}")
    for what, values in (
        ("device_ip", [device.address for device in devices]),
        ("server_id", [server[0].server for server in found]),
    ):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError(f"{what} {twice[0]} is there twice")
    return found


def _device(device: Any, server: str) -> Device:
    numbers = {}
    for key in ("rank_id", "device_id"):
        if not _text(device, key).isdecimal():
            raise ConfigError(f"{key} must be a number in quotes, got {device[key]!r}")
        numbers[key] = int(device[key])
    try:
        address = str(ipaddress.ip_address(_text(device, "device_ip")))
    except ValueError:
        raise ConfigError(
            "device_ip must be an address (`hccn_tool -i {} -ip -g` tells it), got {!r}".format(
                numbers["device_id"], device["device_ip"]
            )
        ) from None
    return Device(numbers["rank_id"], server, numbers["device_id"], address)


def _text(table: Any, key: str) -> str:
    value = _value(table, key)
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a string (HCCL wants all values in quotes), got {value!r}")
    return value


def _list(table: Any, key: str) -> List[Any]:
    value = _value(table, key)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{key} must be a list with something in it, got {value!r}")
    return value


def _value(table: Any, key: str) -> Any:
    if not isinstance(table, dict) or key not in table:
        raise ConfigError(f"{key!r} is missing in {json.dumps(table)[:80]}")
    return table[key]
