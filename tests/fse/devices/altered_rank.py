"""A rank of a training with something changed: `altered_rank.py CHANGE rank --config …`. ALTERED_RANK says in which rank.

momentum              all ranks take TensorFlow's momentum optimizer instead of Adam
dies first            the rank kills itself when the others wait for it
dies in broadcast     the rank kills itself when its part of the broadcast of the first weights is being computed
stops in broadcast    there it stops for ever, without ending; the others wait two seconds only, for the broadcast or, if what
                      they send is on its way already, for the first step
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
initialize, broadcast, bounded = collective.Group.initialize, collective.Group.broadcast, ranks.bounded


def end(number: int) -> None:
    time.sleep(1.0)  # the other one is waiting by now
    (output / "dying").touch()
    os.kill(os.getpid(), number)


def meets_nobody(self: Any, config: Any) -> str:
    end(signal.SIGKILL)
    return initialize(self, config)


def breaks_off(self: Any, tensors: List[Any]) -> List[Any]:
    def stop(value: Any) -> Any:
        end(signal.SIGKILL if change.startswith("dies") else signal.SIGSTOP)
        return value

    first = tf.py_func(stop, [tensors[0]], tf.float32)
    first.set_shape(tensors[0].shape)
    return broadcast(self, [first, *tensors[1:]])


def impatient(seconds: float, what: str) -> ContextManager[None]:
    return bounded(2.0 if what.startswith(("the first weights", "step 1,")) else seconds, what)


if change == "momentum":
    tf.train.AdamOptimizer = lambda rate, beta1: tf.train.MomentumOptimizer(rate, beta1)
elif chosen and change == "dies first":
    collective.Group.initialize = meets_nobody  # type: ignore[method-assign]
elif chosen:
    collective.Group.broadcast = breaks_off  # type: ignore[method-assign]
elif change == "stops in broadcast":
    ranks.bounded = impatient
sys.exit(cli.main(sys.argv[2:]))
