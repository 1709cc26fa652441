"""Configuration files: finding, reading and checking them."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Union

from fse.config.checks import check
from fse.config.overrides import parse_overrides
from fse.config.schema import SECTIONS, Config, is_remote
from fse.config.sections import parse_section, suggestion
from fse.config.tables import flatten, merge
from fse.errors import ConfigError
from fse.redaction import redact_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Settings that name files or folders: relative paths in a file are relative to the file's folder.
_PATHS = (("dataset", "archive"), ("evaluate.dataset", "archive"), ("download", "data_path"), ("train", "init_from"))

# Files among the shipped configurations that are not experiments, by the beginning of their names.
_NOT_EXPERIMENTS = ("nightly", "baselines")


def load(path: Union[str, "os.PathLike[str]", None] = None, overrides: str = "") -> Config:
    """Read and check the configuration of an experiment.

    Args:
      path: a TOML file (or its equivalent in JSON, `*.json`), or the name of a configuration that ships with the package
        (`synthetic`, `celeba`, …). None is `synthetic`. Relative paths in the file are relative to the file's folder.
      overrides: `section.key=value` pairs, comma-separated, with values as in TOML (a bare word is a string). Relative
        paths are relative to the current folder.

    Raises:
      ConfigError: the file cannot be read, or a setting in it or in `overrides` is invalid.
    """
    file = find_file(path)
    tables = read_tables(file)
    changes = parse_overrides(overrides)
    _make_paths_absolute(changes, Path.cwd())
    for section, values in changes.items():
        merge(tables, section, values)
    return from_tables(tables, f"{file} with --set {redact_text(overrides)}" if overrides else str(file))


def find_file(path: Union[str, "os.PathLike[str]", None]) -> Path:
    """Return the file of a configuration.

    Args:
      path: a path, or the name of a shipped configuration. None or '' is `synthetic`.

    Raises:
      ConfigError: there is neither such a file nor a shipped configuration of that name.
    """
    wanted = Path(path or "synthetic")
    if wanted.is_file():
        return wanted
    shipped = shipped_configs()
    if str(wanted) in shipped:
        return shipped[str(wanted)]
    raise ConfigError(
        f"configuration {wanted}: no such file, and no shipped configuration has this name; choose from {', '.join(shipped)}"
    )


def shipped_configs() -> Dict[str, Path]:
    """Return the files of the experiments that ship with the package, by name."""
    files = sorted(configs_folder().glob("*.toml"))
    return {file.stem: file for file in files if not file.stem.startswith(_NOT_EXPERIMENTS)}


def configs_folder() -> Path:
    """Return the folder of the configurations that ship with the package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"  # the latter in a source checkout


def read_tables(file: Path) -> Dict[str, Any]:
    """Return the settings in a file by section, unchecked, with absolute paths.

    Raises:
      ConfigError: the file cannot be read.
    """
    parse = json.loads if file.suffix == ".json" else tomllib.loads
    try:
        tables = parse(file.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"configuration {file}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # of TOML, JSON and UTF-8 alike
        raise ConfigError(f"configuration {file}: not valid {file.suffix[1:].upper()}: {error}") from None
    if not isinstance(tables, dict):
        raise ConfigError(f"configuration {file}: wanted sections, got {tables!r}")
    tables = flatten(tables)
    _make_paths_absolute(tables, file.resolve().parent)
    return tables


def from_tables(tables: Dict[str, Any], source: str = "configuration") -> Config:
    """Return a checked configuration from nested dictionaries (a parsed TOML or JSON file).

    Args:
      tables: settings by section.
      source: origin of the settings, for error messages.

    Raises:
      ConfigError: a section or setting is unknown or invalid, or settings contradict each other.
    """
    tables = flatten(tables)
    evaluated = tables.get("evaluate.dataset")
    if isinstance(evaluated, dict) and evaluated.get("name") == "":  # an override that cancels the file's section
        del tables["evaluate.dataset"]
    sections: Dict[str, Any] = {}
    for section, values in tables.items():
        if section not in SECTIONS:
            raise ConfigError(f"{source}: unknown section [{section}]{suggestion(section, SECTIONS)}")
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {section} must be a section, [{section}], not a value")
        if section == "evaluate.crop":  # settings that it leaves out are those of training
            values = dict(tables.get("crop", {}), **values)
        sections[section.replace(".", "_")] = parse_section(SECTIONS[section], section, values, source)
    if "name" not in tables.get("evaluate.dataset", {"name": ""}):
        raise ConfigError(f"{source}: evaluate.dataset.name is missing; set it to the data set to evaluate on")
    config = _without_equal_sections(Config(**sections))
    check(config, source)
    return config


def _without_equal_sections(config: Config) -> Config:
    """Return the configuration without sections of evaluation that equal those of training."""
    if config.evaluate_dataset == config.dataset:
        config = dataclasses.replace(config, evaluate_dataset=None)
    if config.evaluate_crop == config.crop:
        config = dataclasses.replace(config, evaluate_crop=None)
    return config


def _make_paths_absolute(tables: Dict[str, Any], folder: Path) -> None:
    """Resolve the relative paths in tables against a folder, in place."""
    for section, key in _PATHS:
        values = tables.get(section)
        path: Optional[Any] = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(path, str) and _is_path(key, path):
            values[key] = str((folder / Path(path).expanduser()).resolve())


def _is_path(key: str, text: str) -> bool:
    """Return whether a setting's value is a path, not a URL and not the name of an experiment in the workspace."""
    if not text or "://" in text or is_remote(text):
        return False
    return key != "init_from" or "/" in text
