"""The offline model with stand-ins for `atc`, which show what is run and how its end is met, not that CANN takes it."""

import dataclasses
import shlex
import subprocess
from pathlib import Path

import pytest

from fse import config
from fse.ascend import atc
from fse.errors import ExportError
from tests import ascend_host

SETTINGS = config.Config()
SAYS = 'echo "$0 $@" | sed "s|.*/||" >> {}/calls\n'


@pytest.fixture()
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model; `host` beside it is first on the PATH."""
    (tmp_path / "host").mkdir()
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("PATH", "{}:/usr/bin:/bin".format(tmp_path / "host"))
    (tmp_path / "model" / "model.pb").write_text("pb")
    return tmp_path / "model"


def stand_in(model: Path, name: str, then: str) -> None:
    """A program that notes how it was called, and needs the model in its folder, where it leaves a file as CANN's do."""
    script = SAYS.format(model.parent) + "cat model.pb > /dev/null && touch fusion_result.json\n" + then
    ascend_host.program(model.parent / "host", name, script)


def calls(model: Path) -> list:
    return [shlex.split(line.replace(";", r"\;")) for line in (model.parent / "calls").read_text().splitlines()]


def changed(**export: object) -> config.Config:
    return dataclasses.replace(SETTINGS, export=dataclasses.replace(SETTINGS.export, **export))


def test_without_atc_the_command_is_left_and_said_not_to_have_run(model: Path) -> None:
    told = atc.convert(SETTINGS, model)
    assert (told["was_run"], told["soc_version"], told["soc_version_from"]) == (False, "Ascend910A", "assumed")
    assert sorted(path.name for path in model.iterdir()) == ["atc.sh", "model.pb"]
    (line,) = told["commands"]
    assert line in (model / "atc.sh").read_text().splitlines()
    assert shlex.split(line) == atc.command(SETTINGS, "Ascend910A")
    assert "--input_shape=images:1,146,146,3" in shlex.split(line)
    assert "--out_nodes=landmarks:0;heatmaps:0" in shlex.split(line)


@pytest.mark.parametrize("written", ["model.om", "model_linux_aarch64.om"])
def test_with_atc_the_model_is_made_for_the_card_that_is_there(model: Path, written: str) -> None:
    stand_in(model, "atc", f"echo om > {written}\n")
    ascend_host.npu_smi(model.parent / "host", ascend_host.TWO_CHIPS)
    told = atc.convert(SETTINGS, model)
    assert (told["was_run"], told["soc_version"], told["soc_version_from"]) == (True, "Ascend910", "npu-smi")
    assert calls(model) == [atc.command(SETTINGS, "Ascend910")]
    assert sorted(path.name for path in model.iterdir()) == ["atc.sh", "model.om", "model.pb"]


def test_the_script_that_was_left_makes_the_model_elsewhere(model: Path) -> None:
    atc.convert(SETTINGS, model)
    stand_in(model, "atc", "echo om > model.om\n")
    subprocess.run(["sh", str(model / "atc.sh")], check=True, cwd="/")
    assert (model / "model.om").read_text() == "om\n"


def test_the_configuration_may_name_the_chip(model: Path) -> None:
    told = atc.convert(config.load(None, "export.soc_version=Ascend310P3,export.offline_batch=8"), model)
    assert (told["soc_version"], told["soc_version_from"]) == ("Ascend310P3", "export.soc_version")
    assert "images:8,64,64,3" in told["commands"][0]


@pytest.mark.parametrize(("choice", "jobs"), [("subgraphs", "1"), ("operators", "2"), ("both", "12")])
def test_aoe_tunes_before_atc_if_it_is_chosen(model: Path, choice: str, jobs: str) -> None:
    stand_in(model, "atc", "echo om > model.om\n")
    stand_in(model, "aoe", "mkdir aoe_workspace; echo Aoe process finished\n")
    told = atc.convert(changed(aoe=choice), model)
    assert [line.split()[0] for line in told["commands"]] == ["aoe"] * len(jobs) + ["atc"]
    *tunings, made = calls(model)
    assert [arguments[:2] for arguments in tunings] == [["aoe", "--job_type=" + job] for job in jobs]
    model_options = {argument for argument in made if not argument.startswith(("atc", "--output=", "--soc_version"))}
    assert all(model_options < {*arguments} for arguments in tunings)
    assert sorted(path.name for path in model.iterdir()) == ["atc.sh", "model.om", "model.pb"]


def test_aoe_that_is_not_there_or_does_not_finish(model: Path) -> None:
    assert len(atc.convert(changed(aoe="both"), model)["commands"]) == 3  # left for a host that has both
    stand_in(model, "atc", "echo om > model.om\n")
    with pytest.raises(ExportError, match="export.aoe is 'both', but aoe is not on the PATH, where atc is"):
        atc.convert(changed(aoe="both"), model)
    stand_in(model, "aoe", "echo Aoe process failed\n")
    with pytest.raises(ExportError, match="did not say 'Aoe process finished': Aoe process failed"):
        atc.convert(changed(aoe="both"), model)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'E10001: value is invalid' >&2; exit 7\n", "atc.sh ended with exit code 7: E10001: value is invalid"),
        ("sleep 60\n", r"atc.sh did not end within export.offline_seconds \(1 seconds\)"),
        ("true\n", "atc ended well, but wrote no model.om"),
    ],
)
def test_an_atc_that_fails_hangs_or_writes_nothing(script: str, message: str, model: Path) -> None:
    stand_in(model, "atc", script)
    with pytest.raises(ExportError, match=message):
        atc.convert(changed(offline_seconds=1), model)
