"""A stand-in for Huawei's npu_bridge, for tests on machines without an NPU.

It has the modules, names, signatures and rules from the public documentation of the TF Adapter for TensorFlow 1.15, as far
as `fse.devices.npu` uses them. It computes with stock TensorFlow on the CPU, and connects ranks through TensorFlow's
collective operations. Importing `npu_init` patches tf.Session, as the original does since 2022.

The stand-in proves that

- the device's code runs from the first line to the last, with one rank and with several;
- every call fits the documented signature (an undocumented name or position raises TypeError) and the documented types;
- the code does nothing that the documentation forbids: unknown shapes, float64, iterators initialized in the same run as
  other work, ranks without JOB_ID, an all-reduce of a variable itself, a broadcast of anything but a list, a session
  configuration without NpuOptimizer.

It imitates two more properties of the original: it ignores unknown options silently, and logs once per graph that the graph
was compiled.

It cannot prove that the documentation is right or complete, or that the hardware supports the operators and computes them
correctly. It shows nothing about half precision, overflow, speed, memory or HCCL's failures. docs/ascend.md lists what has
not been verified.
"""
