"""One Luigi task per stage, and what makes any stage safe: artifact keys, publishing, child processes.

Nothing here imports TensorFlow or pandas: a scheduling process stays small, starts fast and holds no device.
"""
