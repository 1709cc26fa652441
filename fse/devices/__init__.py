"""Where training computes, and how ranks work together there.

    rank, size                   which of how many ranks this process is
    session_config()             how its sessions are set up
    initialize()                 meets the other ranks; returns what sessions connect to
    float32_scope()              a context whose operations keep float32
    wrap_optimizer(optimizer)    averages gradients over the ranks; scales the loss in mixed precision
    average(tensors)             means over the ranks, in the graph
    broadcast(tensors)           rank 0's values, in the graph
    repeat(session, operation)   the operation, several times a call where the device can
    shutdown()                   leaves the other ranks

Chosen by name in `train.device`: `fse.devices.cpu`, `gpu` or `npu`, each with a `find(config, rank)`. A device that was
asked for and is missing is an error, never a silent run elsewhere. On every device each rank normalizes its share of the
batch by the share's own statistics; what their moving averages follow, and the losses that are shown, are means over the
ranks.
"""

import importlib
from typing import Any

from fse.config import Config
from fse.distributed.ranks import Rank

ALONE = Rank(0, 1)


def find(config: Config, rank: Rank = ALONE) -> Any:
    """The device that `train.device` names, for one rank.

    Raises:
      DeviceError: it is not available here.
    """
    return importlib.import_module("fse.devices." + config.train.device).find(config, rank)
