"""What of an Ascend host a test can have: stand-ins for `npu-smi` and CANN's folders.

The tables are laid out as those that public bug reports and manuals show of the named versions; the numbers are made up.
They prove that such a table is read right, not that a driver prints one.
"""

import os
from pathlib import Path

import pytest

# An eight-card server's first three, npu-smi 1.8.21: no huge pages, no processes.
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

# 23.0: card 1 is ill, card 2 is in use, card 3 warns.
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

# A newer driver: two chips a module, physical numbers, a fifth column of processes.
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
    """An executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def npu_smi(folder: Path, table: str, board: str = BOARD) -> Path:
    """An `npu-smi` that shows a table, and a board with `-t board`."""
    (folder / "table").write_text(table)
    (folder / "board").write_text(board)
    script = 'case "$*" in *board*) cat "{0}/board" ;; *) cat "{0}/table" ;; esac\n'
    return program(folder, "npu-smi", script.format(folder))


def rank_table(path: Path, devices: tuple) -> Path:
    """A rank table of one server."""
    entry = '{{"device_id": "{0}", "device_ip": "192.168.100.{0}", "rank_id": "{1}"}}'
    path.write_text(RANKS.format(", ".join(entry.format(device, rank) for rank, device in enumerate(devices))))
    return path


def cann(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CANN's folders, and the environment that its set_env.sh makes."""
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
    """Packages that can be imported under the names of npu_bridge and hccl, in child processes too; nothing is in them."""
    for name in ("npu_bridge", "hccl"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
    (folder / "npu_bridge" / "npu_init.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
