"""Checks of Python and TensorFlow, and the versions of the installed software."""

import platform
import sys
from typing import Dict

from fse import __version__
from fse.doctor import ascend
from fse.doctor.check import Check, check_code
from fse.runtime.versions import installed_version, tensorflow_version

_TRY_TENSORFLOW = """
from fse.tf1 import tf
with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
    assert session.run(tf.constant(1.0) + 1.0) == 2.0
"""
_TRY_GPU = """
from fse import config
from fse.devices import gpu
from fse.distributed import ranks
gpu.find(config.Config(), ranks.Rank(0, 1))
"""


def installed() -> Dict[str, str]:
    """Return the versions of the installed software by name; '' for software that is missing.

    The versions of driver and firmware come from files; npu-smi may know them better.
    """
    return {
        "fse": __version__,
        "python": platform.python_version(),
        "tensorflow": tensorflow_version(),
        "npu_bridge": installed_version("npu-bridge"),
        "cann": ascend.cann_version(),
        "driver": ascend.version_in(ascend.ASCEND / "driver" / "version.info"),
        "firmware": ascend.version_in(ascend.ASCEND / "firmware" / "version.info"),
        "system": platform.platform(),
    }


def check_python(device: str) -> Check:
    """Check the version of Python; for NPUs, CANN limits it."""
    version = sys.version_info[:3]
    found = platform.python_version()
    if device == "npu" and version[:2] != (3, 7):
        return Check("python", "failed", found, "CANN's TF Adapter needs Python 3.7.5 to 3.7.11")
    if device == "npu" and not (3, 7, 5) <= version <= (3, 7, 11):
        return Check("python", "warning", found, "CANN's manual names 3.7.5 to 3.7.11")
    return Check("python", "ok", found)


def check_tensorflow(device: str, version: str) -> Check:
    """Check the version of TensorFlow, and whether a graph runs."""
    if not version:
        return Check("tensorflow", "failed", "not installed", "install it: `pip install .` of this package does")
    if device == "npu" and not version.startswith("1.15."):
        return Check("tensorflow", "failed", version, "CANN's TF Adapter needs TensorFlow 1.15")
    return check_code("tensorflow", _TRY_TENSORFLOW, version, "install a build for this CPU")


def check_gpu() -> Check:
    """Check whether TensorFlow sees a GPU."""
    return check_code("gpu", _TRY_GPU, "TensorFlow sees a GPU", "install the NVIDIA driver and the gpu extra")
