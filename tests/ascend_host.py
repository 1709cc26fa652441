"""Stand-ins for the software of an Ascend host: `npu-smi`, CANN's folders, npu_bridge.

The tables have the layout that public bug reports and manuals show for the named versions; the numbers are invented. They
prove that such tables are parsed correctly, not that a driver prints them.
"""

import os
from pathlib import Path
from typing import Sequence

import pytest

# npu-smi 1.8.21, the first three cards of a server with eight: no columns for huge pages and processes.
OLD = """\
+------------------------------------------------------------------------------------+
| npu-smi 1.8.21                   Version: 20.2.2.spc001                            |
+----------------------+---------------+---------------------------------------------+
| NPU   Name           | Health        | Power(W)   Temp(C)                          |
| Chip                 | Bus-Id        | AICore(%)  Memory-Usage(MB)  HBM-Usage(MB)  |
+======================+===============+=============================================+
| 0     910A           | OK            | 68.6       36                               |
| 0                    | 0000:C1:00.0  | 0          591  / 14795      0    / 32768   |
+======================+===============+=============================================+
| 1     910A           | OK            | 63.7       31                               |
| 0                    | 0000:81:00.0  | 0          303  / 15177      0    / 32768   |
+======================+===============+=============================================+
| 2     910A           | OK            | 66.1       31                               |
| 0                    | 0000:41:00.0  | 0          1821 / 15177      0    / 32768   |
+======================+===============+=============================================+
"""

# npu-smi 23.0: card 1 has an alarm, card 2 is in use, card 3 has a warning.
USED = """\
+-------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc1                 Version: 23.0.rc1                                        |
+----------------------+---------------+----------------------------------------------------+
| NPU   Name           | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                 | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+======================+===============+====================================================+
| 0     910A           | OK            | 72.0        39                0    / 0             |
| 0                    | 0000:C1:00.0  | 0           938  / 15137      3    / 32768         |
+======================+===============+====================================================+
| 1     910A           | Alarm         | -           NA                15   / 15            |
| 0                    | 0000:81:00.0  | 0           1820 / 15137      3    / 32768         |
+======================+===============+====================================================+
| 2     910A           | OK            | 70.8        37                15   / 15            |
| 0                    | 0000:41:00.0  | 97          1667 / 15137      30750/ 32768         |
+======================+===============+====================================================+
| 3     910A           | Warning       | 68.8        39                0    / 0             |
| 0                    | 0000:01:00.0  | 0           938  / 15137      3    / 32768         |
+======================+===============+====================================================+
| NPU     Chip         | Process id    | Process name             | Process memory(MB)      |
+======================+===============+====================================================+
| 2       0            | 4242          | python3.7                | 30680                   |
+======================+===============+====================================================+
| No running processes found in NPU 0                                                       |
+======================+===============+====================================================+
"""

# A newer driver: two chips per module, physical numbers, and five columns for processes.
TWO_CHIPS = """\
+------------------------------------------------------------------------------------------------------------------+
| npu-smi 26.0.rc2                            Version: 26.0.rc2                                                    |
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU   Name                | Health        | Power(W)             Temp(C)                 Hugepages-Usage(page)   |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           |
+===========================+===============+======================================================================+
| 0     Ascend910           | OK            | 162.6                34                      0    / 0                |
| 0     0                   | 0000:9D:00.0  | 0                    0    / 0                3419 / 65536            |
+------------------------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -                    34                      0    / 0                |
| 1     1                   | 0000:9F:00.0  | 0                    0    / 0                31877/ 65536            |
+===========================+===============+======================================================================+
| NPU     Chip              | Process id    | Process name       | Process memory(MB)    | Process id in container |
+===========================+===============+======================================================================+
| 0       1                 | 632268        | python3.1          | 28400                 | NA                      |
+===========================+===============+======================================================================+
"""

BOARD = """\
\tNPU ID                         : 0
\tProduct Name                   : NA
\tSoftware Version               : 23.0.3
\tFirmware Version               : 7.1.0.5.220
\tCompatibility                  : OK
\tPCI Slot                       : 0000:C1:00.0
"""

RANKS = """
{{"status": "completed", "version": "1.0", "server_count": "1",
  "server_list": [{{"server_id": "node_0", "device": [{}]}}]}}
"""


def program(folder: Path, name: str, script: str) -> Path:
    """Write an executable shell script and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def npu_smi(folder: Path, table: str, board: str = BOARD) -> Path:
    """Install an `npu-smi` that prints a table, or a board with `-t board`."""
    (folder / "table").write_text(table)
    (folder / "board").write_text(board)
    script = 'case "$*" in *board*) cat "{0}/board" ;; *) cat "{0}/table" ;; esac\n'
    return program(folder, "npu-smi", script.format(folder))


def rank_table(path: Path, cards: Sequence[int]) -> Path:
    """Write the rank table of a server with these cards, in the order of their ranks."""
    entry = '{{"device_id": "{0}", "device_ip": "192.168.100.{0}", "rank_id": "{1}"}}'
    path.write_text(RANKS.format(", ".join(entry.format(card, rank) for rank, card in enumerate(cards))))
    return path


def cann(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create CANN's folders and set the environment variables of its set_env.sh."""
    home = folder / "ascend-toolkit" / "latest"
    (home / "aarch64-linux").mkdir(parents=True)
    info = home / "aarch64-linux" / "ascend_toolkit_install.info"
    info.write_text("package_name=Ascend-cann-toolkit\nversion=7.0.0\ninnerversion=V100R001C15SPC001B220\n")
    operators = home / "opp" / "built-in" / "framework" / "tensorflow"
    operators.mkdir(parents=True)
    (operators / "npu_supported_ops.json").write_text("{}")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(home))
    monkeypatch.setenv("ASCEND_OPP_PATH", str(home / "opp"))


def npu_bridge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create empty packages `npu_bridge` and `hccl` that child processes can import too."""
    for name in ("npu_bridge", "hccl"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
    (folder / "npu_bridge" / "npu_init.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
