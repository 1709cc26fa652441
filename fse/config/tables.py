"""Configurations as nested dictionaries, as a TOML or JSON file holds them."""

import dataclasses
import json
from typing import Any, Dict

from fse.config.schema import SECTIONS, Config
from fse.redaction import redact_url

Tables = Dict[str, Any]  # settings by section; a section that is not a dictionary is reported later


def flatten(tables: Tables) -> Tables:
    """Return tables whose nested sections have dotted names: `evaluate.dataset` instead of `dataset` in `evaluate`.

    A string in place of the section `evaluate.dataset` is the data set's name.
    """
    flat: Tables = {}
    for section, values in tables.items():
        nested = {key for key in values if f"{section}.{key}" in SECTIONS} if isinstance(values, dict) else set()
        own = {key: values[key] for key in values if key not in nested} if nested else values
        merge(flat, section, own)
        for key in sorted(nested):
            is_name = isinstance(values[key], str) and f"{section}.{key}" == "evaluate.dataset"
            merge(flat, f"{section}.{key}", {"name": values[key]} if is_name else values[key])
    return flat


def merge(tables: Tables, section: str, values: Any) -> None:
    """Set values of a section in place. A value that is not a section replaces it; `from_tables` refuses it later."""
    if isinstance(values, dict) and isinstance(tables.get(section, {}), dict):
        tables[section] = dict(tables.get(section, {}), **values)
    else:
        tables[section] = values


def as_tables(config: Config) -> Dict[str, Dict[str, Any]]:
    """Return a configuration as nested dictionaries of JSON values, which `from_tables` reads back."""
    sections = {name: getattr(config, name.replace(".", "_")) for name in SECTIONS}
    tables = {name: dataclasses.asdict(section) for name, section in sections.items() if section is not None}
    return dict(json.loads(json.dumps(tables)))


def redact_config(config: Config) -> Dict[str, Dict[str, Any]]:
    """Return a configuration as `as_tables` does, with redacted URLs, for files that others may read."""
    tables = as_tables(config)
    for section in {"dataset", "evaluate.dataset"} & {*tables}:
        tables[section]["archive"] = redact_url(tables[section]["archive"])
    tables["download"]["mirrors"] = [redact_url(mirror) for mirror in tables["download"]["mirrors"]]
    return tables
