"""A stand-in for Huawei's npu_bridge, for tests on machines without an NPU.

It has the modules, names, signatures and rules of the public documentation of the TF Adapter for TensorFlow 1.15 that this
project's device uses, and no others, and computes with stock TensorFlow on the processor, several ranks through
TensorFlow's collective operations. Importing `npu_init` patches tf.Session, as the original does from 2022 on.

What it proves: that the device's code runs from the first line to the last, alone and on several ranks; that every call
fits the documented signature (a name or position that is not in it is a TypeError) and the documented types; that what
the documentation forbids does not happen: shapes that are not known, float64, iterators made in the same run as other
work, ranks without JOB_ID, an all-reduce of a variable itself, a broadcast of something else than a list, an unwrapped
configuration. That options are ignored silently, and that the line about compiling comes once per graph.

What it cannot prove: that the documentation is right or complete, that real operators exist and are right on the
hardware, anything about half precision, overflow, speed, memory or HCCL's failures. `fse.devices.npu.UNVERIFIED` lists what
nobody has seen.
"""
