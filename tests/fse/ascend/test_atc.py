"""The offline model with stand-ins for `atc` and `aoe`.

They show which commands run and how results are handled, not that CANN accepts the commands.
"""

import shlex
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from fse import config
from fse.ascend import atc
from fse.config import Config
from fse.errors import ExportError
from tests import ascend_host

LOG_CALL = 'echo "$0 $@" | sed "s|.*/||" >> {}/calls\n'


@pytest.fixture()
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model; the folder `host` beside it is first on the PATH."""
    (tmp_path / "host").mkdir()
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'host'}:/usr/bin:/bin")
    (tmp_path / "model" / "model.pb").write_text("pb")
    return tmp_path / "model"


def convert(folder: Path, **options: Any) -> Dict[str, Any]:
    """Convert a model with the defaults of the configuration, except for `options`."""
    export = Config().export
    defaults: Dict[str, Any] = {
        "view": Config().network.view,
        "batch": export.offline_batch,
        "soc_version": export.soc_version,
        "aoe": export.aoe,
        "seconds": export.offline_seconds,
    }
    return atc.convert(folder, **dict(defaults, **options))


def stand_in(model: Path, name: str, then: str) -> None:
    """Install a program that logs its call, reads the model and leaves a file in its folder, as CANN's programs do."""
    script = LOG_CALL.format(model.parent) + "cat model.pb > /dev/null && touch fusion_result.json\n" + then
    ascend_host.program(model.parent / "host", name, script)


def calls(model: Path) -> List[List[str]]:
    return [shlex.split(line.replace(";", r"\;")) for line in (model.parent / "calls").read_text().splitlines()]


def test_without_atc_the_command_is_left_and_was_run_is_false(model: Path) -> None:
    description = convert(model)
    assert (description["was_run"], description["soc_version"], description["soc_version_from"]) == (
        False,
        "Ascend910A",
        "assumed",
    )
    assert sorted(path.name for path in model.iterdir()) == ["atc.sh", "model.pb"]
    (line,) = description["commands"]
    assert line in (model / "atc.sh").read_text().splitlines()
    assert shlex.split(line) == atc.atc_command(146, 1, "Ascend910A")
    assert "--input_shape=images:1,146,146,3" in shlex.split(line)
    assert "--out_nodes=landmarks:0;heatmaps:0" in shlex.split(line)


@pytest.mark.parametrize("written", ["model.om", "model_linux_aarch64.om"])
def test_with_atc_the_model_is_made_for_the_card_of_the_host(model: Path, written: str) -> None:
    stand_in(model, "atc", f"echo om > {written}\n")
    ascend_host.npu_smi(model.parent / "host", ascend_host.TWO_CHIPS)
    description = convert(model)
    assert (description["was_run"], description["soc_version"], description["soc_version_from"]) == (
        True,
        "Ascend910",
        "npu-smi",
    )
    assert calls(model) == [atc.atc_command(146, 1, "Ascend910")]
    assert sorted(path.name for path in model.iterdir()) == ["atc.sh", "model.om", "model.pb"]


def test_the_script_makes_the_model_on_another_host(model: Path) -> None:
    convert(model)
    stand_in(model, "atc", "echo om > model.om\n")
    subprocess.run(["sh", str(model / "atc.sh")], check=True, cwd="/")
    assert (model / "model.om").read_text() == "om\n"


def test_the_configuration_may_name_the_chip(model: Path) -> None:
    settings = config.load(None, "export.soc_version=Ascend310P3,export.offline_batch=8")
    description = convert(
        model,
        view=settings.network.view,
        batch=settings.export.offline_batch,
        soc_version=settings.export.soc_version,
    )
    assert (description["soc_version"], description["soc_version_from"]) == ("Ascend310P3", "export.soc_version")
    assert "images:8,64,64,3" in description["commands"][0]


@pytest.mark.parametrize(("choice", "jobs"), [("subgraphs", "1"), ("operators", "2"), ("both", "12")])
def test_aoe_tunes_before_atc_on_request(model: Path, choice: str, jobs: str) -> None:
    stand_in(model, "atc", "echo om > model.om\n")
    stand_in(model, "aoe", "mkdir aoe_workspace; echo Aoe process finished\n")
    description = convert(model, aoe=choice)
    assert [line.split()[0] for line in description["commands"]] == ["aoe"] * len(jobs) + ["atc"]
    *aoe_calls, atc_call = calls(model)
    assert [arguments[:2] for arguments in aoe_calls] == [["aoe", "--job_type=" + job] for job in jobs]
    model_options = {
        argument for argument in atc_call if not argument.startswith(("atc", "--output=", "--soc_version"))
    }
    assert all(model_options < {*arguments} for arguments in aoe_calls)
    assert sorted(path.name for path in model.iterdir()) == ["atc.sh", "model.om", "model.pb"]


def test_aoe_that_is_missing_or_does_not_finish(model: Path) -> None:
    assert len(convert(model, aoe="both")["commands"]) == 3  # for a host that has both programs
    stand_in(model, "atc", "echo om > model.om\n")
    with pytest.raises(ExportError, match="export.aoe is 'both', but aoe is not on the PATH although atc is"):
        convert(model, aoe="both")
    stand_in(model, "aoe", "echo Aoe process failed\n")
    with pytest.raises(ExportError, match="did not print 'Aoe process finished': Aoe process failed"):
        convert(model, aoe="both")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'E10001: value is invalid' >&2; exit 7\n", "atc.sh ended with exit code 7: E10001: value is invalid"),
        ("sleep 60\n", r"atc.sh did not end within export.offline_seconds \(1 seconds\)"),
        ("true\n", "atc succeeded, but wrote no model.om"),
    ],
)
def test_an_atc_that_fails_hangs_or_writes_nothing(script: str, message: str, model: Path) -> None:
    stand_in(model, "atc", script)
    with pytest.raises(ExportError, match=message):
        convert(model, seconds=1)
