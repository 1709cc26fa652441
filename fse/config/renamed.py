"""Former names of settings and of their values, for error messages that name the new one.

This file holds words that `tests/test_conventions.py` bans elsewhere.
"""

from typing import Dict

# New names of settings, by `section.setting`.
SETTINGS: Dict[str, str] = {
    "augment.bend": "control_point_jitter",
    "augment.colour": "color",
    "crop.face_width": "eye_distance",
    "evaluate.draws": "samples",
    "export.pictures": "images",
    "loss.reading_weight": "softargmax_weight",
    "network.reading_radius": "softargmax_radius",
    "network.reading_temperature": "softargmax_temperature",
    "train.average": "ema_decay",
    "train.clip": "clip_norm",
    "train.occasion": "repetition",
    "train.start_from": "init_from",
}

# New names of values, by `section.setting` and former value.
VALUES: Dict[str, Dict[str, str]] = {"crop.mode": {"centre": "center"}}


def new_setting(section: str, setting: str) -> str:
    """Return the new name of a setting; '' if the setting was not renamed.

    Args:
      section: name of the section; `evaluate.crop` has the settings of `crop`.
      setting: name of the setting in the section.
    """
    return SETTINGS.get(f"{_kind(section)}.{setting}", "")


def new_value(section: str, setting: str, value: str) -> str:
    """Return the new name of a setting's value; '' if the value was not renamed."""
    return VALUES.get(f"{_kind(section)}.{setting}", {}).get(value, "")


def _kind(section: str) -> str:
    """Return the last part of a section's name: `crop` of `evaluate.crop`."""
    return section.rpartition(".")[2]
