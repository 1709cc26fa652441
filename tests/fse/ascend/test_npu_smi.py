from pathlib import Path

import pytest

from fse.ascend import npu_smi
from fse.ascend.npu_smi import Card, Process
from fse.errors import DeviceError
from tests import ascend_host


@pytest.fixture()
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on the PATH, for stand-ins."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_table_of_an_old_driver() -> None:
    table = npu_smi.parse(ascend_host.OLD)
    assert table.version == "20.2.2.spc001"
    assert [card.npu for card in table.cards] == [0, 1, 2]
    assert table.cards[0] == Card(0, 0, "910A", "OK", 68.6, 36.0, "0000:C1:00.0", 0, 32768)


def test_health_and_processes_are_read() -> None:
    table = npu_smi.parse(ascend_host.USED)
    assert [card.health for card in table.cards] == ["OK", "Alarm", "OK", "Warning"]
    assert (table.cards[1].watts, table.cards[1].celsius) == (None, None)
    assert [card.processes for card in table.cards] == [(), (), (Process(4242, "python3.7"),), ()]
    assert table.cards[2].hbm_used == 30750


def test_a_module_may_have_two_chips() -> None:
    table = npu_smi.parse(ascend_host.TWO_CHIPS)
    assert [(card.npu, card.chip, card.bus) for card in table.cards] == [(0, 0, "0000:9D:00.0"), (0, 1, "0000:9F:00.0")]
    assert [card.processes for card in table.cards] == [(), (Process(632268, "python3.1"),)]
    assert table.cards[1].watts is None


@pytest.mark.parametrize(
    ("name", "soc"), [("910A", "Ascend910A"), ("Ascend910", "Ascend910"), ("310P3", "Ascend310P3")]
)
def test_the_name_of_the_chip_for_atc(name: str, soc: str) -> None:
    assert npu_smi.soc_version(Card(0, 0, name, "OK")) == soc


@pytest.mark.parametrize("cut", range(0, len(ascend_host.USED), 97))
def test_a_truncated_table_is_read_up_to_its_end(cut: int) -> None:
    try:
        assert len(npu_smi.parse(ascend_host.USED[:cut]).cards) <= 4
    except DeviceError as error:
        assert "shows no card" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\xff",
        "dcmi module initialize failed. ret is -8005",
        ascend_host.OLD.replace("0000:", "0000-"),
        "| | | |\n" * 9,
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="npu-smi info shows no card"):
        npu_smi.parse(text)


def test_the_board_has_the_versions_of_driver_and_firmware(host: Path) -> None:
    ascend_host.npu_smi(host, ascend_host.OLD)
    board = npu_smi.board(npu_smi.overview().cards[0])
    assert (board["Software Version"], board["Firmware Version"]) == ("23.0.3", "7.1.0.5.220")


def test_a_missing_npu_smi_is_reported(host: Path) -> None:
    with pytest.raises(DeviceError, match="npu-smi is not on the PATH; install the Ascend driver"):
        npu_smi.overview()


def test_a_failing_npu_smi_is_reported_with_its_output(host: Path) -> None:
    ascend_host.program(host, "npu-smi", "echo 'dcmi module initialize failed. ret is -8005'; exit 1\n")
    with pytest.raises(DeviceError, match=r"npu-smi info ended with exit code 1: dcmi module .* -8005"):
        npu_smi.overview()


def test_a_hanging_npu_smi_is_stopped(host: Path) -> None:
    ascend_host.program(host, "npu-smi", "echo '| npu-smi'; sleep 60\n")
    with pytest.raises(DeviceError, match="did not answer within 0 seconds: the driver hangs"):
        npu_smi.overview(0.3)


def test_an_npu_smi_that_is_not_a_program_is_reported(host: Path) -> None:
    (host / "npu-smi").write_bytes(b"\x7fELF")
    (host / "npu-smi").chmod(0o755)
    with pytest.raises(DeviceError, match="npu-smi cannot be run: Exec format error"):
        npu_smi.overview()
