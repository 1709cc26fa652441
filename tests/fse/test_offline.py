"""The offline model with stand-ins for `atc`, which show what is run and how its end is met, not that CANN takes it."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from fse import config, offline
from fse.errors import ExportError
from tests import ascend_host

SETTINGS = config.Config()
WRITES = 'printf "%s\\n" "$@" > arguments; echo om > model.om\n'


@pytest.fixture()
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model; `host` beside it is first on the PATH."""
    (tmp_path / "host").mkdir()
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("PATH", "{}:/usr/bin:/bin".format(tmp_path / "host"))
    return tmp_path / "model"


def test_without_atc_the_command_is_left_and_said_not_to_have_run(model: Path) -> None:
    told = offline.convert(SETTINGS, model)
    assert (told["was_run"], told["soc_version"], told["soc_version_from"]) == (False, "Ascend910A", "assumed")
    assert [path.name for path in model.iterdir()] == ["atc.sh"]
    arguments = shlex.split((model / "atc.sh").read_text().rpartition("exec ")[2])
    assert arguments == shlex.split(told["command"]) == offline.command(SETTINGS, "Ascend910A")
    assert "--input_shape=pictures:1,146,146,3" in arguments
    assert "--out_nodes=landmarks:0;heatmaps:0" in arguments


def test_with_atc_the_model_is_made_for_the_card_that_is_there(model: Path) -> None:
    ascend_host.program(model.parent / "host", "atc", WRITES)
    ascend_host.npu_smi(model.parent / "host", ascend_host.TWO_CHIPS)
    told = offline.convert(SETTINGS, model)
    assert (told["was_run"], told["soc_version"], told["soc_version_from"]) == (True, "Ascend910", "npu-smi")
    assert (model / "arguments").read_text().splitlines() == offline.command(SETTINGS, "Ascend910")[1:]
    assert (model / "model.om").is_file()


def test_the_configuration_may_name_the_chip(model: Path) -> None:
    told = offline.convert(config.load(None, "export.soc_version=Ascend310P3,export.offline_batch=8"), model)
    assert (told["soc_version"], told["soc_version_from"]) == ("Ascend310P3", "export.soc_version")
    assert "pictures:8,64,64,3" in told["command"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'E10001: value is invalid' >&2; exit 7\n", "atc ended with exit code 7: E10001: value is invalid"),
        ("sleep 60\n", r"atc did not end within export.offline_seconds \(1 seconds\)"),
        ("true\n", "atc ended well, but wrote no model.om"),
    ],
)
def test_an_atc_that_fails_hangs_or_writes_nothing(script: str, message: str, model: Path) -> None:
    ascend_host.program(model.parent / "host", "atc", script)
    settings = dataclasses.replace(SETTINGS, export=dataclasses.replace(SETTINGS.export, offline_seconds=1))
    with pytest.raises(ExportError, match=message):
        offline.convert(settings, model)
