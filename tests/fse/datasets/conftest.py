"""Fixtures of the data sets' tests."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import pytest

from fse.datasets import download, http_download, registry
from tests.fse.datasets import layouts, web_server
from tests.fse.datasets.layouts import known_settings

Rows = Dict[str, Dict[str, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[web_server.Server]:
    """Run a web server; downloads from it do not pause between attempts."""
    monkeypatch.setattr(http_download, "PAUSE", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with web_server.running() as server:
        yield server


class KnownDatasets:
    """Brings known data sets, of which a test writes small copies into `data`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data, self.output, self._cache = folder / "data", folder / "out", folder / "cache"
        self.data.mkdir()
        self._monkeypatch = monkeypatch

    def bring(self, name: str, part: str = "", counts: Optional[Dict[str, int]] = None) -> Tuple[Rows, Dict[str, Any]]:
        """Run the Download stage; return the annotations by file, and `dataset.json`.

        Args:
          name: of the data set, whose sizes, hashes and counts are replaced by those of the copy.
          part: as in `dataset.part`.
          counts: the published number of images; None publishes none.
        """
        known = registry.KNOWN[name]
        parts = dict.fromkeys(known.parts, counts or {})
        self._monkeypatch.setitem(registry.KNOWN, name, layouts.fitted(known, self.data, parts))
        download.download(known_settings(name, self.data, part), self.output, self._cache)
        with open(self.output / "landmarks.csv", newline="") as stream:
            rows = {row["file"]: row for row in csv.DictReader(stream)}
        images = self.output / "images"
        assert {path.relative_to(images).as_posix() for path in images.rglob("*") if path.is_file()} == set(rows)
        assert sorted(path.name for path in self.output.iterdir()) == ["dataset.json", "images", "landmarks.csv"]
        return rows, json.loads((self.output / "dataset.json").read_text())


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownDatasets:
    """Bring known data sets from small copies."""
    return KnownDatasets(tmp_path, monkeypatch)
