"""The only module that imports TensorFlow: graph mode, with the same names on 1.15 and on current releases.

    from fse.tf1 import tf

No code uses `tf.contrib`, which TensorFlow 2 does not have.
"""

import logging
import os
import sys
import warnings

# Hide the start-up messages of TensorFlow's C++ code ("no CUDA", "oneDNN is on"), which users cannot act on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Hide the deprecation notices of graph mode, which this package uses on purpose.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# Keep current TensorFlow from importing Keras: nothing here uses it, and it costs a third of the import time and 70 MB.
_without_keras = "keras" not in sys.modules
if _without_keras:
    sys.modules["keras"] = None  # type: ignore[assignment]
try:
    with warnings.catch_warnings():
        # TensorFlow 1.15 with the NumPy of its time warns about its own dtype tables during the import.
        warnings.simplefilter("ignore")
        import tensorflow.compat.v1 as tf
finally:
    if _without_keras:
        del sys.modules["keras"]

tf.disable_v2_behavior()

# A decorator for functions that a data set maps. Without it, AutoGraph rewrites these functions and what they call. That
# of TensorFlow 1.15 swaps the two `for`s of a nested comprehension: views were interpolated between the wrong pixels.
without_autograph = tf.autograph.experimental.do_not_convert

__all__ = ["error_message", "tf", "without_autograph"]


def error_message(error: "tf.errors.OpError") -> str:
    """Return the message of a TensorFlow error in one line, without the call stack of current releases before it."""
    _, stack, after_stack = error.message.rpartition("\nNode: ")
    # After "Node: " follow the name of the operation, and on the next line the message.
    message = after_stack.split("\n", 1)[1] if stack else after_stack.replace("Graph execution error:", "", 1)
    return str(message.strip().split("\n")[0])
