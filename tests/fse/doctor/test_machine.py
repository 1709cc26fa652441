import json
import platform
from pathlib import Path

import pytest

from fse import cli


def test_a_plain_machine_is_fit_for_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--workspace", str(tmp_path / "new"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["device"], report["fit"], report["cards"]) == (2, "cpu", True, [])
    assert [check["name"] for check in report["checks"]] == ["python", "tensorflow", "disk", "workspace", "locks"]
    assert report["versions"]["python"] == platform.python_version()
    assert not (tmp_path / "new").exists()


def test_an_npu_machine_that_passes_all_checks(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--set", "train.device=npu", "--workspace", str(host), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all(check["status"] == "ok" and not check["fix"] for check in report["checks"]), report["checks"]
    names = ["cann", "npu_bridge", "driver", "card 0", "card 1", "card 2"]
    assert [check["name"] for check in report["checks"]][2:-3] == names
    versions = report["versions"]
    assert (versions["cann"], versions["driver"], versions["firmware"]) == ("7.0.0", "23.0.3", "7.1.0.5.220")
    assert report["cards"][0]["health"] == "OK"
    assert report["cards"][0]["processes"] == []


def test_a_failed_check_says_what_to_do_and_the_exit_code_is_3(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "npu-smi").unlink()
    assert cli.main(["doctor", "--set", "train.device=npu", "--workspace", str(host)]) == 3
    said = capsys.readouterr()
    assert "  failed   driver        npu-smi is not on the PATH" in said.out
    assert "\n                         → fix the driver; `npu-smi info` must list the cards\n" in said.out
    assert said.err == "error: this machine is not fit for train.device=npu: driver\n"


def test_the_exit_code_of_an_invalid_configuration_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--set", "train.device=tpu"]) == 2
    assert "train.device must be one of" in capsys.readouterr().err
