"""The one door to TensorFlow: graph mode, the same names on 1.15 and on current releases.

    from fse.tf1 import tf

Nothing else in the package imports tensorflow, and nothing uses `tf.contrib`.
"""

import logging
import os
import sys
import warnings

# The C++ side's start-up chatter (no CUDA here, oneDNN is on) is not the user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Nor are the deprecation notices of graph mode, which is what this package is written in.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# Current TensorFlow imports Keras too where it finds it: a third of the time, 70 MB, and nothing here uses it.
_without_keras = "keras" not in sys.modules
if _without_keras:
    sys.modules["keras"] = None  # type: ignore[assignment]
try:
    with warnings.catch_warnings():
        # TensorFlow 1.15 on its contemporary NumPy warns about its own dtype tables while it is imported.
        warnings.simplefilter("ignore")
        import tensorflow.compat.v1 as tf
finally:
    if _without_keras:
        del sys.modules["keras"]

tf.disable_v2_behavior()

# For the functions of a data set. Otherwise AutoGraph rewrites them and what they call, and that of TensorFlow 1.15 takes a
# comprehension's two `for`s in the wrong order: views were interpolated between the wrong pixels.
as_written = tf.autograph.experimental.do_not_convert

__all__ = ["as_written", "reason", "tf"]


def reason(error: "tf.errors.OpError") -> str:
    """What an error of TensorFlow's says, in one line: without the call stack that current releases put before it."""
    _, stack, after = error.message.rpartition("\nNode: ")
    said = after.split("\n", 1)[1] if stack else after.replace("Graph execution error:", "", 1)
    return str(said.strip().split("\n")[0])
