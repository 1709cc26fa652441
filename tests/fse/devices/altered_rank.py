"""A program that runs one rank of a training with a fault: `altered_rank.py CHANGE rank --config …`.

The environment variable ALTERED_RANK names the rank with the fault. CHANGE is one of

momentum              all ranks use TensorFlow's momentum optimizer instead of Adam
dies first            the rank kills itself while the other ranks wait for it
dies in broadcast     the rank kills itself while it computes its part of the broadcast of the first weights
stops in broadcast    the rank stops there without exiting; the other ranks wait only two seconds for the broadcast, or for
                      the first step if the broadcast has already left them
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ContextManager, List

from fse import cli
from fse.devices import collective
from fse.distributed import ranks
from fse.tf1 import tf

change = sys.argv[1]
output = Path(sys.argv[sys.argv.index("--output") + 1])
chosen = os.environ["RANK_ID"] == os.environ.get("ALTERED_RANK")
initialize, broadcast, time_limit = collective.Group.initialize, collective.Group.broadcast, ranks.time_limit


def signal_self(signal_number: int) -> None:
    time.sleep(1.0)  # by now the other rank is waiting
    (output / "dying").touch()
    os.kill(os.getpid(), signal_number)


def die_before_initialize(self: Any, config: Any) -> str:
    signal_self(signal.SIGKILL)
    return initialize(self, config)


def fail_in_broadcast(self: Any, tensors: List[Any]) -> List[Any]:
    def fail(value: Any) -> Any:
        signal_self(signal.SIGKILL if change.startswith("dies") else signal.SIGSTOP)
        return value

    first = tf.py_func(fail, [tensors[0]], tf.float32)
    first.set_shape(tensors[0].shape)
    return broadcast(self, [first, *tensors[1:]])


def short_time_limit(seconds: float, what: str) -> ContextManager[None]:
    return time_limit(2.0 if what.startswith(("the first weights", "step 1,")) else seconds, what)


if change == "momentum":
    tf.train.AdamOptimizer = lambda rate, beta1: tf.train.MomentumOptimizer(rate, beta1)
elif chosen and change == "dies first":
    collective.Group.initialize = die_before_initialize  # type: ignore[method-assign]
elif chosen:
    collective.Group.broadcast = fail_in_broadcast  # type: ignore[method-assign]
elif change == "stops in broadcast":
    ranks.time_limit = short_time_limit  # type: ignore[assignment]
sys.exit(cli.main(sys.argv[2:]))
