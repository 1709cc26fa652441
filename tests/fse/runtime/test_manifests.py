import hashlib
import json
from pathlib import Path
from typing import Any

from fse.config import Config, redact_config
from fse.runtime.manifests import LISTING, MANIFEST, new_manifest, read_manifest
from fse.runtime.outputs import atomic_output


def write_output(output: Path, text: str = "hello", **options: Any) -> None:
    with atomic_output(output, {"stage": "demo"}, **options) as building:
        (building / "a.txt").write_text(text)


def test_the_listing_has_the_format_of_sha256sum(tmp_path: Path) -> None:
    write_output(tmp_path / "out")
    digest = hashlib.sha256(b"hello").hexdigest()
    assert (tmp_path / "out" / LISTING).read_text() == digest + "  a.txt\n"


def test_the_manifest_repeats_the_numbers_of_the_summary(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "out", {}, summary="sum.json") as building:
        (building / "sum.json").write_text('{"images": 3, "nme": 1.5, "name": "a", "ok": true, "splits": {"test": 2}}')
    manifest = read_manifest(tmp_path / "out")
    assert manifest["counts"] == {"images": 3, "splits.test": 2}
    assert manifest["metrics"] == {"nme": 1.5}


def test_an_unreadable_manifest_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    assert read_manifest(tmp_path) == {}
    (tmp_path / MANIFEST).write_text("[]")
    assert read_manifest(tmp_path) == {}


def test_a_manifest_records_settings_inputs_device_and_commit(tmp_path: Path) -> None:
    write_output(tmp_path / "before")
    settings = redact_config(Config())
    manifest = new_manifest("train", settings, "gpu", {"convert": tmp_path / "before"}, {"key": "k"})
    assert manifest["inputs"]["convert"]["content"] == read_manifest(tmp_path / "before")["content"]
    assert manifest["key"] == "k"
    assert manifest["device"] == "gpu"
    assert json.loads(json.dumps(manifest))["config"]["train"]["seed"] == 1234
    assert manifest["git"] is None or (
        len(manifest["git"]["commit"]) == 40 and manifest["git"]["clean"] in (True, False)
    )
