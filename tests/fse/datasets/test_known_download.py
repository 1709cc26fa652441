"""Known data sets through the Download stage: missing, broken and unpacked files."""

import shutil
import zipfile
from pathlib import Path
from typing import List

import pytest

from fse import config
from fse.datasets import celeba, download, http_download, registry
from fse.datasets.http_download import DownloadRequest
from fse.errors import ArchiveError, DataError, DownloadError
from tests.fse.datasets import layouts
from tests.fse.datasets.conftest import KnownDatasets
from tests.fse.datasets.layouts import known_settings
from tests.fse.datasets.web_server import Server


def test_unpacked_folder_replaces_an_archive_at_any_depth(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    with zipfile.ZipFile(known.data / "img_align_celeba.zip") as package:
        package.extractall(known.data / "celeba" / "Img")
    (known.data / "img_align_celeba.zip").unlink()
    assert len(known.bring("celeba", "train", {"train": 7, "test": 0})[0]) == 7


def test_images_that_are_listed_but_missing(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    layouts.zipped(known.data / "img_align_celeba.zip", {"img_align_celeba/000001.jpg": layouts.image(1)})
    with pytest.raises(DataError, match=r"6 of its images are missing: 000003\.jpg"):
        known.bring("celeba")


def test_files_that_only_a_person_can_download_are_listed(tmp_path: Path) -> None:
    message = r"afw\.zip .*, helen\.zip .*: download by hand from https://ibug.*put into .*\Z"
    with pytest.raises(DataError, match=message):
        download.download(known_settings("300w", tmp_path), tmp_path / "out")


def test_incomplete_and_packed_7z_archives_are_explained(tmp_path: Path) -> None:
    settings = known_settings("celeba_wild", tmp_path)
    for number in (1, 2, 4):
        (tmp_path / f"img_celeba.7z.00{number}").write_bytes(b"1234567")
    message = r"img_celeba\.7z\.001: 14 bytes in 2 volumes, expected 10,191,072,466; download "
    with pytest.raises(DataError, match=message):
        download.download(settings, tmp_path / "out")
    (tmp_path / "img_celeba.7z.001").unlink()
    message = r"\Aimg_celeba\.7z\.001 and all volumes after it: download by hand from https.*`7z x img_celeba\.7z\.001`"
    with pytest.raises(DataError, match=message):
        download.download(settings, tmp_path / "out")


def test_quota_page_saved_under_the_name_of_a_file(tmp_path: Path) -> None:
    name = celeba.LANDMARKS.name
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno" / name).write_text("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    message = r"expected 12,156,055, and it is a web page, perhaps about a quota; download .* again"
    with pytest.raises(DataError, match=message):
        download.download(known_settings("celeba", tmp_path), tmp_path / "out")


def test_one_error_lists_all_failed_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls: List[str] = []

    def refuse(request: DownloadRequest, cache: Path) -> Path:
        urls.append(request.url)
        raise DownloadError(f"{request.url}: a quota")

    monkeypatch.setattr(http_download, "download", refuse)
    with pytest.raises(DownloadError) as caught:
        download.download(known_settings("celeba", tmp_path), tmp_path / "out")
    for file in celeba.DATASET.files:
        assert f"{file.name}, {file.urls[0]}: a quota" in str(caught.value)
    message = (
        "Run again, or list_landmarks_align_celeba.txt, list_eval_partition.txt, "
        f"training.txt ({celeba.MAFL_TRAIN.urls[0]}), testing.txt ({celeba.MAFL_TEST.urls[0]}), "
        "img_align_celeba.zip (or the unpacked folder 'img_align_celeba'): download by hand from https://mmlab"
    )
    assert message in str(caught.value)
    assert [url.split(":")[0] for url in urls] == ["drive", "drive", "https", "https", "drive"]


def test_corrupt_download_is_downloaded_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and hash of this file are not known, so that a truncated download is only noticed when it is unpacked."""
    layouts.shoes(tmp_path)
    complete = (tmp_path / "ut-zap50k-images-square.zip").read_bytes()
    shoes = layouts.fitted(registry.KNOWN["shoes"], tmp_path / "none", {"": {}})
    monkeypatch.setitem(registry.KNOWN, "shoes", shoes)
    settings = config.from_tables({"dataset": {"name": "shoes"}, "download": {"mirrors": [server.root + "/a"]}})
    server.data = complete[:-100]
    with pytest.raises(ArchiveError, match="truncated or corrupt"):
        download.download(settings, tmp_path / "out", tmp_path / "cache")
    server.data = complete
    download.download(settings, tmp_path / "out2", tmp_path / "cache")
    assert len(server.requests) == 2


def test_second_run_gives_the_same_result(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    first, _ = known.bring("celeba")
    shutil.rmtree(known.output)
    assert known.bring("celeba")[0] == first
