"""Packages are found, not listed by hand; `configs/` is installed as the package `fse.configs`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["fse", "fse.*", "tasks", "tasks.*", "pipeline", "pipeline.*"]), "fse.configs"],
    package_dir={"fse.configs": "configs"},
)
