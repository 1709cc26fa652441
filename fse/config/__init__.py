"""The configuration of an experiment: typed, frozen, strict.

A TOML file holds one table per section of `Config`; settings that it leaves out keep their defaults. An unknown key, a wrong
type, a value out of range or a contradiction between settings raises `ConfigError` before anything runs.
"""

from fse.config.loading import configs_folder, find_file, from_tables, load, read_tables, shipped_configs
from fse.config.overrides import parse_overrides
from fse.config.schema import (
    SECTIONS,
    Augment,
    Config,
    Crop,
    Dataset,
    Download,
    Evaluate,
    Experiment,
    Export,
    Loss,
    Network,
    Npu,
    Records,
    Report,
    Train,
    evaluates_other_data,
    for_evaluation,
    is_remote,
    setting,
)
from fse.config.sections import parse_section
from fse.config.tables import as_tables, redact_config

__all__ = [
    "SECTIONS",
    "Augment",
    "Config",
    "Crop",
    "Dataset",
    "Download",
    "Evaluate",
    "Experiment",
    "Export",
    "Loss",
    "Network",
    "Npu",
    "Records",
    "Report",
    "Train",
    "as_tables",
    "configs_folder",
    "evaluates_other_data",
    "find_file",
    "for_evaluation",
    "from_tables",
    "is_remote",
    "load",
    "parse_overrides",
    "parse_section",
    "read_tables",
    "redact_config",
    "setting",
    "shipped_configs",
]
