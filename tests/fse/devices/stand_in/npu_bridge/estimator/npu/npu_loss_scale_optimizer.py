"""An optimizer with loss scaling, documented to skip a step if the hardware's overflow flag is set.

The stand-in pretends an overflow at the steps in STAND_IN_OVERFLOWS.
"""

import os
from typing import Any

from fse.tf1 import tf


class NPULossScaleOptimizer(tf.train.Optimizer):
    def __init__(self, opt: Any, loss_scale_manager: Any, is_distributed: Any = False) -> None:
        super().__init__(use_locking=False, name="NPULossScaleOptimizer")
        self._opt, self._manager = opt, loss_scale_manager
        if not isinstance(is_distributed, bool) or is_distributed != (os.environ.get("RANK_SIZE", "1") != "1"):
            raise RuntimeError("stand-in: is_distributed must be True for several ranks, otherwise False")

    def compute_gradients(self, loss: Any, var_list: Any = None) -> Any:
        scale = self._manager.get_loss_scale()
        pairs = self._opt.compute_gradients(loss * scale, var_list=var_list)
        return [(gradient / scale, variable) for gradient, variable in pairs]

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: Any = None) -> Any:
        if global_step is None:
            raise RuntimeError("stand-in: without global_step, skipped steps would be counted")
        calls = tf.Variable(0, trainable=False, name="calls")
        overflowing = [int(number) for number in os.environ.get("STAND_IN_OVERFLOWS", "").split(",") if number]
        with tf.control_dependencies([gradient for gradient, _ in grads_and_vars]):
            call = tf.assign_add(calls, 1)
        finite = tf.reduce_all(tf.not_equal(call, tf.constant(overflowing or [0])))

        def applied() -> Any:
            return self._opt.apply_gradients(grads_and_vars, global_step)

        # Create the slots outside the branch.
        variables = [variable for _, variable in grads_and_vars]
        self._opt._create_slots(variables)
        update = tf.cond(finite, lambda: tf.group(applied()), tf.no_op)
        with tf.control_dependencies([update]):
            return self._manager.update_loss_scale(finite)
