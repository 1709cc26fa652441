"""What `npu-smi`, the tool of the Ascend driver, says about this machine's cards.

Its table has a line of name and health and one of bus and memory per chip; columns and widths differ from version to
version (read in tables of 1.8.21, 21.0.4, 23.0 and 26.0), so that lines are known by what is in their cells.
"""

import re
import shutil
from typing import Dict, List, NamedTuple, Optional

from fse.errors import DeviceError
from fse.runtime import processes

# It answers within a second; with a sick driver it hangs.
SECONDS = 20.0


class Process(NamedTuple):
    """A process that uses a card."""

    pid: int
    name: str


class Card(NamedTuple):
    """A chip: what training runs on. None or '' is what npu-smi does not tell.

    npu, chip: its numbers. Its logical number, which ASCEND_DEVICE_ID chooses by, is its place in the table.
    name: such as 910A. health: OK, Warning, Alarm, Critical or UNKNOWN.
    watts, celsius: power and temperature. hbm_used, hbm_total: its memory, in megabytes.
    """

    npu: int
    chip: int
    name: str
    health: str
    watts: Optional[float] = None
    celsius: Optional[float] = None
    bus: str = ""
    hbm_used: Optional[int] = None
    hbm_total: Optional[int] = None
    processes: List[Process] = []  # noqa: RUF012 (nobody changes it)


class Overview(NamedTuple):
    """version: of the driver, as the table's head has it. cards: in the table's order."""

    version: str
    cards: List[Card]


def overview(seconds: float = SECONDS) -> Overview:
    """All cards.

    Raises:
      DeviceError: npu-smi is missing, fails, hangs, or shows no card.
    """
    return parse(_ask(["info"], seconds))


def board(card: Card, seconds: float = SECONDS) -> Dict[str, str]:
    """What `npu-smi info -t board` tells of a card's board: "Software Version" is the driver's, "Firmware Version".

    Raises:
      DeviceError: npu-smi is missing, fails or hangs.
    """
    lines = _ask(["info", "-t", "board", "-i", str(card.npu)], seconds).splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def soc_version(card: Card) -> str:
    """What `atc --soc_version` calls the chip: "Ascend" and its name (CANN's ATC manual)."""
    return card.name if card.name.startswith("Ascend") else "Ascend" + card.name


def parse(text: str) -> Overview:
    """Reads the table of `npu-smi info`.

    Raises:
      DeviceError: there is no card in it.
    """
    found = re.search(r"Version:\s*(\S+)", text)
    cards: List[Card] = []
    waiting: Optional[Card] = None  # for its second line
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        head = cells[0].split()
        if len(cells) < 3 or not head or not head[0].isdigit():
            continue
        if re.match(r"(?:[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]|NA)\Z", cells[1]) and waiting:
            cards.append(_with_memory(waiting, int(head[0]), cells))
            waiting = None
        elif cells[1].isdigit() and len(head) == 2 and head[1].isdigit():
            user = Process(int(cells[1]), cells[2])
            cards = [_used(card, user) if [card.npu, card.chip] == list(map(int, head)) else card for card in cards]
        elif len(head) >= 2 and re.match(r"[A-Za-z]+\Z", cells[1]):
            watts, celsius = (_numbers(cells[2]) + [None, None])[:2]
            waiting = Card(int(head[0]), 0, head[1], cells[1], watts, celsius)
    if not cards:
        raise DeviceError(f"npu-smi info shows no card; it says: {text.strip()[-300:]!r}")
    return Overview(found.group(1) if found else "", cards)


def _with_memory(card: Card, chip: int, cells: List[str]) -> Card:
    pairs = re.findall(r"(\d+)\s*/\s*(\d+)", cells[2])
    used, total = map(int, pairs[-1]) if pairs else (None, None)
    return card._replace(chip=chip, bus=cells[1], hbm_used=used, hbm_total=total)


def _used(card: Card, user: Process) -> Card:
    return card._replace(processes=[*card.processes, user])


def _numbers(text: str) -> List[Optional[float]]:
    """The numbers in a cell; `-` and `NA` are None."""
    words = [word for word in text.split() if re.match(r"[\d.]+\Z|-\Z|NA\Z", word)]
    return [float(word) if re.match(r"\d+(\.\d+)?\Z", word) else None for word in words]


def _ask(arguments: List[str], seconds: float) -> str:
    program, command = shutil.which("npu-smi"), " ".join(["npu-smi", *arguments])
    if program is None:
        raise DeviceError("npu-smi is not on the PATH; install the Ascend driver, or add npu-smi's folder to PATH")
    try:
        ended = processes.run([program, *arguments], seconds)
    except OSError as error:
        raise DeviceError(f"{program} cannot be run: {error.strerror}") from None
    if ended.code is None:
        raise DeviceError(
            f"{command} did not answer within {seconds:.0f} seconds: the driver hangs; look at `dmesg`, reset the card or restart the "
            "machine"
        )
    if ended.code:
        said = (ended.errors.strip() or ended.output.strip() or "it said nothing")[-300:]
        raise DeviceError(f"{command} ended with exit code {ended.code}: {said}")
    return ended.output
