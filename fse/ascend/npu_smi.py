"""The state of this machine's cards as reported by `npu-smi`, the tool of the Ascend driver.

Its table has two lines per chip: name and health, then bus and memory. Columns and widths differ between versions (compared:
1.8.21, 21.0.4, 23.0 and 26.0), so the parser recognizes lines by the content of their cells.
"""

import dataclasses
import re
import shutil
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Tuple

from fse.errors import DeviceError
from fse.runtime import processes

# Time limit. npu-smi answers within a second; if the driver is broken, it hangs.
SECONDS = 20.0

_BUS = re.compile(r"(?:[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]|NA)\Z")

# How much of npu-smi's output an error message quotes.
_QUOTED_CHARACTERS = 300


@dataclass(frozen=True)
class Process:
    """A process that uses a card."""

    pid: int
    name: str


@dataclass(frozen=True)
class Card:
    """A chip, on which one rank trains. Its place in the table is the number for ASCEND_DEVICE_ID."""

    npu: int  # number of the module
    chip: int  # number of the chip in its module
    name: str  # for example 910A
    health: str  # OK, Warning, Alarm, Critical or UNKNOWN
    watts: Optional[float] = None  # power; None if npu-smi shows none, as in the fields below
    celsius: Optional[float] = None  # temperature
    bus: str = ""  # PCI address; '' if npu-smi shows none
    hbm_used: Optional[int] = None  # used memory, in megabytes
    hbm_total: Optional[int] = None  # memory, in megabytes
    processes: Tuple[Process, ...] = ()  # that use the chip


class Overview(NamedTuple):
    """The table of `npu-smi info`."""

    version: str  # of the driver, as in the table's head
    cards: List[Card]  # in the table's order


def overview(seconds: float = SECONDS) -> Overview:
    """Return the driver's version and all cards.

    Args:
      seconds: time limit.

    Raises:
      DeviceError: npu-smi is missing, fails, hangs, or shows no card.
    """
    return parse(_run(["info"], seconds))


def board(card: Card, seconds: float = SECONDS) -> Dict[str, str]:
    """Return the fields of `npu-smi info -t board` for a card.

    "Software Version" is the version of the driver, "Firmware Version" that of the firmware.

    Raises:
      DeviceError: npu-smi is missing, fails or hangs.
    """
    lines = _run(["info", "-t", "board", "-i", str(card.npu)], seconds).splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def soc_version(card: Card) -> str:
    """Return the name of a chip for `atc --soc_version`: "Ascend" and the card's name (CANN's ATC manual)."""
    return card.name if card.name.startswith("Ascend") else "Ascend" + card.name


def parse(text: str) -> Overview:
    """Parse the table of `npu-smi info`.

    Raises:
      DeviceError: the text shows no card.
    """
    version = re.search(r"Version:\s*(\S+)", text)
    cards: List[Card] = []
    first_line: Optional[Card] = None  # a card whose second line is still to come
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        numbers = cells[0].split()
        if len(cells) < 3 or not numbers or not numbers[0].isdigit():
            continue
        if _BUS.match(cells[1]) and first_line:
            cards.append(_with_memory(first_line, int(numbers[0]), cells))
            first_line = None
        elif cells[1].isdigit() and len(numbers) == 2 and numbers[1].isdigit():
            process = Process(int(cells[1]), cells[2])
            cards = [_with_process(card, int(numbers[0]), int(numbers[1]), process) for card in cards]
        elif len(numbers) >= 2 and re.match(r"[A-Za-z]+\Z", cells[1]):
            watts, celsius = (_numbers_in(cells[2]) + [None, None])[:2]
            first_line = Card(int(numbers[0]), 0, numbers[1], cells[1], watts, celsius)
    if not cards:
        raise DeviceError(f"npu-smi info shows no card; its output: {text.strip()[-_QUOTED_CHARACTERS:]!r}")
    return Overview(version.group(1) if version else "", cards)


def _with_memory(card: Card, chip: int, cells: List[str]) -> Card:
    """Return a card with the content of its second line."""
    pairs = re.findall(r"(\d+)\s*/\s*(\d+)", cells[2])
    used, total = map(int, pairs[-1]) if pairs else (None, None)
    return dataclasses.replace(card, chip=chip, bus=cells[1], hbm_used=used, hbm_total=total)


def _with_process(card: Card, npu: int, chip: int, process: Process) -> Card:
    """Return a card with one more process, if the process uses this card."""
    if (card.npu, card.chip) != (npu, chip):
        return card
    return dataclasses.replace(card, processes=(*card.processes, process))


def _numbers_in(text: str) -> List[Optional[float]]:
    """Return the numbers in a cell; `-` and `NA` are None."""
    words = [word for word in text.split() if re.match(r"[\d.]+\Z|-\Z|NA\Z", word)]
    return [float(word) if re.match(r"\d+(\.\d+)?\Z", word) else None for word in words]


def _run(arguments: List[str], seconds: float) -> str:
    """Return the output of npu-smi.

    Raises:
      DeviceError: npu-smi is missing, fails or hangs.
    """
    program, command = shutil.which("npu-smi"), " ".join(["npu-smi", *arguments])
    if program is None:
        raise DeviceError("npu-smi is not on the PATH; install the Ascend driver, or add npu-smi's folder to PATH")
    try:
        result = processes.run([program, *arguments], seconds)
    except OSError as error:
        raise DeviceError(f"{program} cannot be run: {error.strerror}") from None
    if result.code is None:
        raise DeviceError(
            f"{command} did not answer within {seconds:.0f} seconds: the driver hangs; read `dmesg`, reset the card or "
            "restart the machine"
        )
    if result.code:
        output = (result.errors.strip() or result.output.strip() or "no output")[-_QUOTED_CHARACTERS:]
        raise DeviceError(f"{command} ended with exit code {result.code}: {output}")
    return result.output
