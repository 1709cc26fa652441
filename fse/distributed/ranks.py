"""Who computes a share of each batch, and where: ranks, cards, hosts.

A rank is one process with one card. Ranks are counted over the hosts in their order, and on a host over its cards.
Needs no TensorFlow.
"""

import contextlib
import glob
import os
import socket
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from fse.ascend import rank_table
from fse.config import Train
from fse.errors import ConfigError, DeviceError
from fse.runtime import processes

_DEVICE_FILES = {"npu": "/dev/davinci[0-9]*", "gpu": "/dev/nvidia[0-9]*"}

# What a rank's process finds in its environment. The upper three are HCCL's names too.
_RANK, _SIZE, _DEVICE, _ADDRESSES = "RANK_ID", "RANK_SIZE", "ASCEND_DEVICE_ID", "FSE_ADDRESSES"


class Rank(NamedTuple):
    """A rank: its number among `size`, its card on its host, and name:port of every rank (none if it is alone)."""

    number: int
    size: int
    device: str = "0"
    addresses: Tuple[str, ...] = ()


class Team(NamedTuple):
    """All ranks, from one host's point of view.

    here: number of this host. hosts: name:port of each, empty if it is this one alone. devices: the cards of this
    host's ranks. size: ranks on all hosts.
    """

    here: int
    hosts: Tuple[str, ...]
    devices: Tuple[str, ...]
    size: int

    @property
    def numbers(self) -> Tuple[int, ...]:
        """The ranks of this host."""
        first = self.here * len(self.devices)
        return tuple(range(first, first + len(self.devices)))


def size(train: Train) -> int:
    """The number of ranks on all hosts.

    Raises:
      ConfigError: the rank table cannot be meant.
    """
    if train.rank_table:
        return sum(map(len, rank_table.read(Path(train.rank_table))))
    return max(1, train.devices) * max(1, len(train.hosts))


def team(train: Train, environment: Mapping[str, str] = os.environ) -> Team:
    """Which ranks this host has, and on which cards.

    Without a rank table the cards are those that the environment names (CUDA_VISIBLE_DEVICES; ASCEND_DEVICE_ID is the
    first of them) or else 0, 1, …; FSE_HOST is the number of this host, which otherwise is the one with an address of
    this machine.

    Raises:
      ConfigError: more ranks than cards, cards that cannot work together, a host that is not in the list.
    """
    if environment.get(_SIZE, "1") != "1" and size(train) == 1:
        raise ConfigError(
            f"RANK_SIZE is {environment[_SIZE]} in the environment, but train.devices is {train.devices}: ranks are started by this program; unset it "
            f"and say --devices {environment[_SIZE]}"
        )
    here = _here(train.hosts, environment)
    count = max(1, train.devices)
    if train.rank_table:
        servers = rank_table.read(Path(train.rank_table))
        if len(servers) != max(1, len(train.hosts)):
            raise ConfigError(
                f"train.rank_table {train.rank_table} lists {len(servers)} servers; train.hosts must list as many hosts in the same order, got "
                f"{len(train.hosts)}"
            )
        cards = [str(device.card) for device in servers[here]]
        if train.devices not in (0, len(cards)):
            raise ConfigError(
                f"train.devices is {train.devices}, but {train.rank_table} lists {len(cards)} devices for this host; leave it at 0"
            )
        if len({len(server) for server in servers}) > 1:
            raise ConfigError(f"train.rank_table {train.rank_table}: its servers have different numbers of devices")
    else:
        cards = _cards(train.device, count, environment)
    if train.device == "npu":
        if len(train.hosts) > 1 and not train.rank_table:
            raise ConfigError("npu ranks on several hosts need train.rank_table")
        rank_table.check_cards([int(card) for card in cards])
    return Team(here, tuple(train.hosts), tuple(cards), size(train))


def environment_of(rank: Rank, train: Train, table: Optional[Path]) -> Dict[str, str]:
    """What a rank's process has in its environment besides ours."""
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
                # The line that proves the device's use is one of TensorFlow's information.
                "TF_CPP_MIN_LOG_LEVEL": "0",
            }
        )
        if table:
            values["RANK_TABLE_FILE"] = str(table)
    return values


def current(train: Train, environment: Mapping[str, str] = os.environ) -> Rank:
    """The rank that this process is.

    Raises:
      DeviceError: the environment does not say, or says what cannot be.
    """
    needed = [_RANK, _SIZE, _ADDRESSES]
    if train.device == "npu":
        needed += [_DEVICE, "JOB_ID"] + (["RANK_TABLE_FILE"] if environment.get(_SIZE) not in ("1", None) else [])
    missing = [name for name in needed if name not in environment]
    if missing:
        raise DeviceError(
            "a rank's process needs {} in its environment; `fse train` starts ranks with it".format(
                " and ".join(missing)
            )
        )
    addresses = tuple(filter(None, environment[_ADDRESSES].split(",")))
    try:
        rank = Rank(int(environment[_RANK]), int(environment[_SIZE]), environment.get(_DEVICE, "0"), addresses)
    except ValueError as error:
        raise DeviceError(f"RANK_ID and RANK_SIZE must be whole numbers ({error})") from None
    if not 0 <= rank.number < rank.size or rank.size != size(train):
        raise DeviceError(
            f"RANK_ID is {rank.number} and RANK_SIZE {rank.size}, but the configuration means {size(train)} ranks"
        )
    if train.device == "npu" and not rank.device.isdigit():
        raise DeviceError(f"ASCEND_DEVICE_ID must be a card's number, got {rank.device!r}")
    if rank.size > 1 and train.device != "npu" and len(addresses) != rank.size:
        raise DeviceError(f"{_ADDRESSES} lists {len(addresses)} addresses for {rank.size} ranks")
    return rank


@contextlib.contextmanager
def bounded(seconds: float, what: str) -> Iterator[None]:
    """Ends this process with an error if the block takes longer.

    Only so can waiting for another rank be given up: neither HCCL nor TensorFlow 1.15's collectives can be called off.

    Args:
      seconds: the bound.
      what: what is waited for, for the message.
    """

    def give_up() -> None:
        # On a line of its own: a progress bar's is open.
        print(f"\nerror: waited {seconds:.0f} seconds for {what}; gave up", file=sys.stderr, flush=True)
        os._exit(1)

    with processes.after(seconds, give_up):
        yield


def is_local(name: str) -> bool:
    """Whether a host's name or address is one of this machine's."""
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def _here(hosts: Tuple[str, ...], environment: Mapping[str, str]) -> int:
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
            "train.hosts ({}) names this machine {} times; say which of them it is by FSE_HOST=0, 1, …".format(
                ", ".join(hosts), len(local)
            )
        )
    return local[0]


def _cards(device: str, count: int, environment: Mapping[str, str]) -> List[str]:
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
    present = glob.glob(_DEVICE_FILES[device])
    if present and len(present) < count:
        raise ConfigError(
            "train.devices is {}, but this host has {} cards ({})".format(
                count, len(present), ", ".join(sorted(present))
            )
        )
    return cards[:count]
