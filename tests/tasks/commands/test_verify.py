"""`Verify`, on the toy pipeline."""

import os
from pathlib import Path

import pytest

from fse.errors import StageError
from fse.runtime.manifests import MANIFEST
from tasks.commands.lineage import Lineage
from tasks.commands.verify import Verify
from tasks.commands.workspace import output_folders
from tests.tasks import toy
from tests.tasks.commands.helpers import Execute


def test_verify_reads_everything_and_names_changed_files(capsys: pytest.CaptureFixture[str], execute: Execute) -> None:
    toy.run()
    assert [line.split()[0] for line in execute(Verify())] == ["ok"] * 3
    file = toy.folder("second") / "number"
    before = file.stat()
    file.write_text("99")
    os.utime(str(file), ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and time: quick checks do not notice
    assert toy.run() == []
    with pytest.raises(StageError, match="1 outputs differ from their manifests"):
        execute(Verify())
    assert f"DIFFERS   {file.parent}  number" in capsys.readouterr().out
    assert toy.run() == ["second"]


def test_a_manifest_that_cannot_be_read_stops_neither_verify_nor_lineage(
    capsys: pytest.CaptureFixture[str], execute: Execute
) -> None:
    for broken in ("{", '{"schema": 99}'):
        toy.run()
        (toy.folder("first") / MANIFEST).write_text(broken)
        with pytest.raises(StageError, match="1 outputs differ"):
            execute(Verify())
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["DIFFERS", "ok", "ok"]
        folders = output_folders(Path("workspace").absolute())
        key = next(folder.name for folder in folders if folder.parent.name == "Third")
        assert execute(Lineage(artifact=key))[-1].endswith("its manifest cannot be read")
        (toy.folder("first") / MANIFEST).unlink()
