from pathlib import Path

import pytest

from tests.fse.doctor import npu_host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate an NPU host that passes all checks; return the folder that is first on the PATH."""
    npu_host.simulate(tmp_path, monkeypatch)
    return tmp_path
