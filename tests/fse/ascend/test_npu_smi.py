from pathlib import Path

import pytest

from fse.ascend import npu_smi
from fse.ascend.npu_smi import Card, Process
from fse.errors import DeviceError
from tests import ascend_host


@pytest.fixture()
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, first on the PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_an_old_table() -> None:
    found = npu_smi.parse(ascend_host.OLD)
    assert found.version == "20.2.2.spc001"
    assert [card.npu for card in found.cards] == [0, 1, 2]
    assert found.cards[0] == Card(0, 0, "910A", "OK", 68.6, 36.0, "0000:C1:00.0", 0, 32768)


def test_health_and_processes_are_seen() -> None:
    found = npu_smi.parse(ascend_host.USED)
    assert [card.health for card in found.cards] == ["OK", "Alarm", "OK", "Warning"]
    assert (found.cards[1].watts, found.cards[1].celsius) == (None, None)
    assert [card.processes for card in found.cards] == [[], [], [Process(4242, "python3.7")], []]
    assert found.cards[2].hbm_used == 30750


def test_two_chips_a_module() -> None:
    found = npu_smi.parse(ascend_host.TWO_CHIPS)
    assert [(card.npu, card.chip, card.bus) for card in found.cards] == [(0, 0, "0000:9D:00.0"), (0, 1, "0000:9F:00.0")]
    assert [card.processes for card in found.cards] == [[], [Process(632268, "python3.1")]]
    assert found.cards[1].watts is None


@pytest.mark.parametrize(
    ("name", "soc"), [("910A", "Ascend910A"), ("Ascend910", "Ascend910"), ("310P3", "Ascend310P3")]
)
def test_the_name_that_atc_wants(name: str, soc: str) -> None:
    assert npu_smi.soc_version(Card(0, 0, name, "OK")) == soc


@pytest.mark.parametrize("cut", range(0, len(ascend_host.USED), 97))
def test_a_table_that_breaks_off_is_read_as_far_as_it_goes(cut: int) -> None:
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
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="npu-smi info shows no card"):
        npu_smi.parse(text)


def test_the_board_tells_driver_and_firmware(host: Path) -> None:
    ascend_host.npu_smi(host, ascend_host.OLD)
    told = npu_smi.board(npu_smi.overview().cards[0])
    assert (told["Software Version"], told["Firmware Version"]) == ("23.0.3", "7.1.0.5.220")


def test_a_missing_one_is_told(host: Path) -> None:
    with pytest.raises(DeviceError, match="npu-smi is not on the PATH; install the Ascend driver"):
        npu_smi.overview()


def test_one_that_fails_is_told_with_its_words(host: Path) -> None:
    ascend_host.program(host, "npu-smi", "echo 'dcmi module initialize failed. ret is -8005'; exit 1\n")
    with pytest.raises(DeviceError, match=r"npu-smi info ended with exit code 1: dcmi module .* -8005"):
        npu_smi.overview()


def test_one_that_hangs_is_stopped(host: Path) -> None:
    ascend_host.program(host, "npu-smi", "echo '| npu-smi'; sleep 60\n")
    with pytest.raises(DeviceError, match="did not answer within 0 seconds: the driver hangs"):
        npu_smi.overview(0.3)


def test_one_that_is_no_program_is_told(host: Path) -> None:
    (host / "npu-smi").write_bytes(b"\x7fELF")
    (host / "npu-smi").chmod(0o755)
    with pytest.raises(DeviceError, match="npu-smi cannot be run: Exec format error"):
        npu_smi.overview()
