"""Versions of installed packages."""

import sys
from typing import Dict

if sys.version_info >= (3, 8):
    from importlib import metadata
else:
    import importlib_metadata as metadata

# Distributions whose versions a manifest records.
_RECORDED = (
    "factorized-spatial-embeddings",
    "tensorflow",
    "numpy",
    "pandas",
    "pillow",
    "numba",
    "protobuf",
    "luigi",
)


def installed_versions() -> Dict[str, str]:
    """Return the versions of the installed distributions that results may depend on, by name."""
    versions = {name: installed_version(name) for name in _RECORDED}
    versions["tensorflow"] = tensorflow_version()
    return {name: version for name, version in versions.items() if version}


def installed_version(distribution: str) -> str:
    """Return the version of a distribution; '' if it is not installed."""
    try:
        return str(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return ""


def tensorflow_version() -> str:
    """Return the version of TensorFlow, whichever of its distributions is installed; '' if none is."""
    versions = map(installed_version, ("tensorflow", "tensorflow-cpu", "tensorflow-gpu"))
    return next(filter(None, versions), "")
