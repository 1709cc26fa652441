"""The ranks, connected through TensorFlow's collective operations; not a module of the original."""

import json
import os
from typing import Any

from fse.devices.collective import Group
from fse.distributed.ranks import Rank
from fse.tf1 import tf

size = int(os.environ.get("RANK_SIZE", "1"))
_number = int(os.environ.get("RANK_ID", "0"))
group = Group(Rank(_number, size, "0", tuple(os.environ.get("FSE_ADDRESSES", "").split(","))), 60.0)
_target = [""]

if size > 1:
    with open(os.environ["RANK_TABLE_FILE"]) as _table:
        _devices = [device for server in json.load(_table)["server_list"] for device in server["device"]]
    if _devices[_number]["rank_id"] != str(_number) or len(_devices) != size:
        raise RuntimeError("stand-in: the rank table contradicts RANK_ID or RANK_SIZE")
    _cluster = tf.train.ClusterSpec({"worker": list(group.rank.addresses)})
    group._server = tf.distribute.Server(_cluster, "worker", _number, config=group.configure(tf.ConfigProto()))
    _target[0] = group._server.target


def target() -> Any:
    return _target[0]


def configure(config: Any) -> Any:
    return group.configure(config)


def job() -> Any:
    """Return the number of ranks as the distributed optimizer does, whose job is None without JOB_ID."""
    if "JOB_ID" not in os.environ:
        raise AttributeError("'NoneType' object has no attribute '_rank_size'")
    return size
