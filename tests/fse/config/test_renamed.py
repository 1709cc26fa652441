import dataclasses

import pytest

from fse import config
from fse.config import renamed
from fse.errors import ConfigError


@pytest.mark.parametrize("old", sorted(renamed.SETTINGS))
def test_a_former_name_is_refused_with_the_new_one(old: str) -> None:
    section, new = old.split(".")[0], renamed.SETTINGS[old]
    assert new in [item.name for item in dataclasses.fields(config.SECTIONS[section])]
    with pytest.raises(ConfigError, match=f"{old} was renamed; write {section}.{new}$"):
        config.load("synthetic", f"{old}=1")


def test_a_former_value_is_refused_with_the_new_one() -> None:
    with pytest.raises(ConfigError, match="crop.mode: the value 'centre' was renamed; write \"center\""):
        config.load("synthetic", "crop.mode=centre")


def test_former_names_are_known_in_the_sections_of_evaluation() -> None:
    with pytest.raises(ConfigError, match="evaluate.crop.face_width was renamed; write evaluate.crop.eye_distance"):
        config.load("synthetic", "evaluate.crop.face_width=0.5")
    with pytest.raises(ConfigError, match="evaluate.crop.mode: the value 'centre' was renamed"):
        config.load("synthetic", "evaluate.crop.mode=centre")
