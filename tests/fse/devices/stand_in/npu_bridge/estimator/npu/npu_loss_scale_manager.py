"""Loss scale managers, documented as subclasses of those in tf.contrib.mixed_precision, with the same variables."""

from typing import Any

from fse.tf1 import tf


class FixedLossScaleManager:
    def __init__(self, loss_scale: Any, enable_overflow_check: Any = True) -> None:
        if loss_scale < 1:
            raise ValueError("loss scale must be at least 1")
        self._scale = tf.constant(loss_scale, tf.float32)

    def get_loss_scale(self) -> Any:
        return self._scale

    def update_loss_scale(self, finite: Any) -> Any:
        return tf.no_op()


class ExponentialUpdateLossScaleManager:
    def __init__(
        self,
        init_loss_scale: Any,
        incr_every_n_steps: Any,
        decr_every_n_nan_or_inf: Any = 2,
        incr_ratio: Any = 2,
        decr_ratio: Any = 0.8,
    ) -> None:
        self._scale = tf.Variable(float(init_loss_scale), trainable=False, name="loss_scale")
        self._good = tf.Variable(0, trainable=False, name="good_steps")
        self._bad = tf.Variable(0, trainable=False, name="bad_steps")
        self._every = incr_every_n_steps, decr_every_n_nan_or_inf
        self._ratios = float(incr_ratio), float(decr_ratio)

    def get_loss_scale(self) -> Any:
        return self._scale.read_value()

    def update_loss_scale(self, finite: Any) -> Any:
        good, bad = self._good + tf.cast(finite, tf.int32), self._bad + tf.cast(tf.logical_not(finite), tf.int32)
        up, down = good >= self._every[0], bad >= self._every[1]
        ratio = tf.where(down, self._ratios[1], tf.where(up, self._ratios[0], 1.0))
        over = tf.logical_or(up, down)
        return tf.group(
            tf.assign(self._scale, self._scale * ratio),
            tf.assign(self._good, tf.where(tf.logical_or(over, tf.logical_not(finite)), 0, good)),
            tf.assign(self._bad, tf.where(over, 0, bad)),
        )
