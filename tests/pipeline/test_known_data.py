"""Known data sets through the real program."""

import functools
import http.server
import json
import threading
import zipfile
from pathlib import Path

from tests.fse.datasets import layouts
from tests.pipeline.program import luigi


def test_files_to_download_by_hand_are_listed(tmp_path: Path) -> None:
    done = luigi(tmp_path, "Download", "--config", "300w", "--set", f"download.data_path={tmp_path}")
    assert done.returncode == 20, done.stderr
    assert "helen.zip (or the unpacked folder 'helen'): download by hand from https://ibug" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_data_set_ends_the_program_before_any_stage(tmp_path: Path) -> None:
    done = luigi(tmp_path, "Download", "--set", "dataset.name=celebA")
    assert done.returncode == 45
    assert "did you mean celeba?" in done.stderr


def test_cats_from_their_archives_to_records(tmp_path: Path) -> None:
    layouts.cats(tmp_path)
    overrides = f"download.data_path={tmp_path},crop.max_skipped=0.2"
    done = luigi(tmp_path, "ConvertTFRecord", "--config", "cats", "--set", overrides)
    assert done.returncode == 0, done.stderr
    stages = tmp_path / "workspace" / "cats" / "stages"
    assert json.loads((stages / "AlignCrop" / "crop.json").read_text())["reads_test_annotations"] is True
    assert json.loads((stages / "ConvertTFRecord" / "records.json").read_text())["images"] == {"train": 7, "test": 1}
    assert "terms" in json.loads((stages / "Download" / "dataset.json").read_text())


class TokenServer(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder to requests with the token."""

    def do_GET(self) -> None:
        if "token=s3cr3t" in self.path:
            super().do_GET()
        else:
            self.send_error(403)

    def log_message(self, *arguments: object) -> None:
        pass


def test_the_token_of_a_url_is_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with zipfile.ZipFile(str(tmp_path / "served" / "set.zip"), "w") as package:
        for number in range(3):
            package.writestr(f"images/{number}.jpg", layouts.image(number))
    handler = functools.partial(TokenServer, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/set.zip?token=s3cr3t"
        done = luigi(tmp_path, "Download", "--set", f"dataset.name=mine,dataset.archive='{url}'")
        refused = luigi(tmp_path, "Download", "--set", f"dataset.name=mine,dataset.archive='{url[:-3]}s'")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert refused.returncode == 55, refused.stderr
    assert "set.zip: the server answered 403" in refused.stderr
    files = [path for path in (tmp_path / "workspace").rglob("*") if path.is_file()]
    assert len(files) > 10
    contents = b"".join(path.read_bytes() + str(path).encode() for path in files).decode("latin-1")
    for text in (contents, done.stderr, done.stdout, refused.stderr, refused.stdout):
        assert "s3cr" not in text
