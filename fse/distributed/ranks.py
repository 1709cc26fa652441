"""Ranks: the processes that compute one training together, one per card.

Ranks are numbered host by host in the order of `train.hosts`, and on a host card by card. Needs no TensorFlow.
"""

import contextlib
import glob
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from fse.ascend import rank_table
from fse.config import Train
from fse.errors import ConfigError, DeviceError
from fse.runtime import processes

_DEVICE_FILES = {"npu": "/dev/davinci[0-9]*", "gpu": "/dev/nvidia[0-9]*"}

# Environment variables of a rank's process. HCCL reads the first three too.
_RANK, _SIZE, _DEVICE, _ADDRESSES = "RANK_ID", "RANK_SIZE", "ASCEND_DEVICE_ID", "FSE_ADDRESSES"


class Rank(NamedTuple):
    """One process of a training."""

    number: int  # from 0 to size - 1
    size: int  # number of ranks on all hosts
    device: str = "0"  # the card, by its number or name on this host
    addresses: Tuple[str, ...] = ()  # name:port of every rank; empty for a single rank


@dataclass(frozen=True)
class Topology:
    """All ranks of a training, as one host sees them."""

    host_index: int  # this host's index in `hosts`
    hosts: Tuple[str, ...]  # name:port of each host; empty if this is the only one
    devices: Tuple[str, ...]  # the card of each rank on this host
    size: int  # number of ranks on all hosts

    @property
    def rank_numbers(self) -> Tuple[int, ...]:
        """The numbers of this host's ranks."""
        first = self.host_index * len(self.devices)
        return tuple(range(first, first + len(self.devices)))


def rank_count(train: Train) -> int:
    """Return the number of ranks on all hosts.

    Raises:
      ConfigError: the rank table is invalid.
    """
    if train.rank_table:
        return sum(map(len, rank_table.read(Path(train.rank_table))))
    return max(1, train.devices) * max(1, len(train.hosts))


def topology(train: Train, environment: Mapping[str, str] = os.environ) -> Topology:
    """Return which ranks run on this host, and on which cards.

    A rank table lists the cards. Without one they come from the environment: CUDA_VISIBLE_DEVICES lists GPUs, and
    ASCEND_DEVICE_ID is the first NPU. By default the first card is 0. FSE_HOST is this host's index in `train.hosts`; by
    default it is the entry that resolves to an address of this machine.

    Raises:
      ConfigError: there are more ranks than cards, the cards cannot work together, or this host is not in the list.
    """
    if environment.get(_SIZE, "1") != "1" and rank_count(train) == 1:
        raise ConfigError(
            f"RANK_SIZE is {environment[_SIZE]} in the environment, but train.devices is {train.devices}; this program "
            f"starts the ranks itself, so unset RANK_SIZE and say --devices {environment[_SIZE]}"
        )
    host_index = _host_index(train.hosts, environment)
    if train.rank_table:
        cards = _cards_of_table(train, host_index)
    else:
        cards = _cards(train.device, max(1, train.devices), environment)
    if train.device == "npu":
        if len(train.hosts) > 1 and not train.rank_table:
            raise ConfigError("npu ranks on several hosts need train.rank_table")
        rank_table.check_cards([int(card) for card in cards])
    return Topology(host_index, tuple(train.hosts), tuple(cards), rank_count(train))


def environment_of(rank: Rank, train: Train, table: Optional[Path]) -> Dict[str, str]:
    """Return the environment variables that a rank's process gets in addition to this process's.

    Args:
      rank: the rank.
      train: its settings.
      table: the rank table for HCCL; None without one.
    """
    values = {_RANK: str(rank.number), _SIZE: str(rank.size), _ADDRESSES: ",".join(rank.addresses)}
    if train.device == "gpu":
        values["CUDA_VISIBLE_DEVICES"] = rank.device
    if train.device == "npu":
        values.update(
            {
                _DEVICE: rank.device,
                "DEVICE_ID": rank.device,
                # The distributed optimizer fails without a job.
                "JOB_ID": os.environ.get("JOB_ID", "10087"),
                "HCCL_CONNECT_TIMEOUT": str(max(120, train.connect_timeout)),
                "HCCL_EXEC_TIMEOUT": str(train.step_timeout),
                # The line that proves the use of the NPU has TensorFlow's level INFO.
                "TF_CPP_MIN_LOG_LEVEL": "0",
            }
        )
        if table:
            values["RANK_TABLE_FILE"] = str(table)
    return values


def current_rank(train: Train, environment: Mapping[str, str] = os.environ) -> Rank:
    """Return the rank of this process.

    Raises:
      DeviceError: the environment does not define it, or contradicts the configuration.
    """
    needed = [_RANK, _SIZE, _ADDRESSES]
    if train.device == "npu":
        needed += [_DEVICE, "JOB_ID"] + (["RANK_TABLE_FILE"] if environment.get(_SIZE) not in ("1", None) else [])
    missing = [name for name in needed if name not in environment]
    if missing:
        raise DeviceError(
            f"a rank's process needs {' and '.join(missing)} in its environment; `fse train` sets the variables when it "
            "starts the ranks"
        )
    addresses = tuple(filter(None, environment[_ADDRESSES].split(",")))
    try:
        rank = Rank(int(environment[_RANK]), int(environment[_SIZE]), environment.get(_DEVICE, "0"), addresses)
    except ValueError as error:
        raise DeviceError(f"RANK_ID and RANK_SIZE must be whole numbers ({error})") from None
    count = rank_count(train)
    if not 0 <= rank.number < rank.size or rank.size != count:
        raise DeviceError(
            f"RANK_ID is {rank.number} and RANK_SIZE {rank.size}, but the configuration defines {count} ranks"
        )
    if train.device == "npu" and not rank.device.isdigit():
        raise DeviceError(f"ASCEND_DEVICE_ID must be a card's number, got {rank.device!r}")
    if rank.size > 1 and train.device != "npu" and len(addresses) != rank.size:
        raise DeviceError(f"{_ADDRESSES} lists {len(addresses)} addresses for {rank.size} ranks")
    return rank


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """End this process with an error if the block takes longer.

    This is the only way to abort a hung collective: neither HCCL nor TensorFlow 1.15 can cancel one.

    Args:
      seconds: the limit.
      what: what the block waits for, for the message.
    """

    def give_up() -> None:
        # The line feed ends the line of a progress bar.
        print(f"\nerror: waited {seconds:.0f} seconds for {what}; gave up", file=sys.stderr, flush=True)
        os._exit(1)

    with processes.call_after(seconds, give_up):
        yield


def is_local(name: str) -> bool:
    """Return whether a host name or address belongs to this machine."""
    try:
        resolved = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in resolved:
        # Only addresses of this machine can be bound.
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def _host_index(hosts: Tuple[str, ...], environment: Mapping[str, str]) -> int:
    """Return this host's index in `train.hosts`."""
    if not hosts:
        return 0
    chosen = environment.get("FSE_HOST", "")
    if chosen:
        if not chosen.isdigit() or int(chosen) >= len(hosts):
            raise ConfigError(f"FSE_HOST must be a number below {len(hosts)} (train.hosts), got {chosen!r}")
        return int(chosen)
    local = [number for number, host in enumerate(hosts) if is_local(host.rpartition(":")[0])]
    if len(local) != 1:
        raise ConfigError(
            f"train.hosts ({', '.join(hosts)}) names this machine {len(local)} times; set FSE_HOST to this host's index in "
            "the list (0, 1, …)"
        )
    return local[0]


def _cards_of_table(train: Train, host_index: int) -> List[str]:
    """Return the cards that the rank table lists for a host."""
    servers = rank_table.read(Path(train.rank_table))
    if len(servers) != max(1, len(train.hosts)):
        raise ConfigError(
            f"train.rank_table {train.rank_table} lists {len(servers)} servers; train.hosts must list as many hosts in the "
            f"same order, got {len(train.hosts)}"
        )
    cards = [str(device.card) for device in servers[host_index]]
    if train.devices not in (0, len(cards)):
        raise ConfigError(
            f"train.devices is {train.devices}, but {train.rank_table} lists {len(cards)} devices for this host; leave "
            "train.devices at 0"
        )
    if len({len(server) for server in servers}) > 1:
        raise ConfigError(f"train.rank_table {train.rank_table}: its servers have different numbers of devices")
    return cards


def _cards(device: str, count: int, environment: Mapping[str, str]) -> List[str]:
    """Return the first `count` cards of a kind of device that the environment selects."""
    if device == "cpu":
        return [str(number) for number in range(count)]
    if device == "gpu":
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        cards = [part.strip() for part in visible.split(",")] if visible else [str(number) for number in range(count)]
        if len(cards) < count:
            raise ConfigError(
                f"train.devices is {count}, but CUDA_VISIBLE_DEVICES names {len(cards)} cards ({visible})"
            )
    else:
        first = environment.get(_DEVICE) or environment.get("DEVICE_ID") or "0"
        if not first.isdigit():
            raise ConfigError(f"ASCEND_DEVICE_ID must be a card's number, got {first!r}")
        cards = [str(int(first) + number) for number in range(count)]
    present = sorted(glob.glob(_DEVICE_FILES[device]))  # noqa: PTH207 (the pattern is an absolute path)
    if present and len(present) < count:
        raise ConfigError(f"train.devices is {count}, but this host has {len(present)} cards ({', '.join(present)})")
    return cards[:count]
