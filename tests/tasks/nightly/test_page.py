"""The nightly's page: its text, and its look in a browser."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from PIL import Image

from tasks.nightly import page
from tasks.nightly.night import RunOutcome
from tests.tasks.nightly.fake_nightly import FakeNightly

_CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
]


def find_chromium() -> Optional[str]:
    """Return the path of a Chromium browser; None if there is none."""
    paths = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, paths), None)


def screenshot(browser: str, html: Path, width: int, dark: bool, folder: Path) -> np.ndarray:
    """Return what a browser shows: uint8 [height, width, 3]."""
    file = folder / f"{width}{'-dark' if dark else ''}.png"
    dark_options = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *_CHROMIUM_OPTIONS, f"--user-data-dir={profile}", f"--screenshot={file}"]
        command += [f"--window-size={width},1600", *dark_options, html.as_uri()]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return np.asarray(Image.open(file).convert("RGB"))


def run_forty_nights(nightly: FakeNightly) -> None:
    """Run nights with an accepted change, a machine failure, missing nights, and a regression at the end."""
    random = np.random.RandomState(4)
    for day in range(1, 41):
        if day in (9, 10):
            continue
        level = 7.0 if day < 20 else 6.5
        nightly.nme = [level * (1.0 + 0.01 * random.randn()) for _ in range(4)]
        nightly.speed = [100.0 * (1.0 + 0.03 * random.randn()) for _ in range(4)]
        if day == 15:
            nightly.speed = [RunOutcome("infrastructure", "device npu of this host is in use"), 100.0]
        if day == 40:
            nightly.nme = [7.3]
        record = nightly.run(day)
        report = nightly.folder / record["date"] / "accuracy-1" / "Report" / "report.html"
        report.parent.mkdir(parents=True)
        report.write_text("")
        if day in (1, 20):
            nightly.accept(day)


def test_the_page_shows_verdict_reasons_nights_and_machine(nightly: FakeNightly) -> None:
    run_forty_nights(nightly)
    page.write(nightly.folder, nightly.config, nightly.history, nightly.accepted)
    text = (nightly.folder / "index.html").read_text()
    assert "<h1>regression</h1>" in text
    assert "worse than the baseline" in text
    assert "abc someone: a change" in text
    assert '<td class="quiet">Download</td>' in text  # the reused stages
    assert 'href="2026-02-09/accuracy-1/Report/report.html"' in text
    assert "2026-01-20 accepted: intended" in text
    assert "910A, OK, 41.0 °C, 66.5 W, 2000 of 32768 MB used" in text
    assert '<b class="warn">warning</b> 5.0 GB free' in text
    assert "device npu of this host is in use" in text
    assert "Bisect --metric accuracy.nme --good c39 --bad c40" in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_first_of_several_bad_nights_ends_the_range_of_commits(nightly: FakeNightly) -> None:
    nightly.run(1)
    nightly.speed = [RunOutcome("infrastructure", "busy")]
    nightly.run(2)
    nightly.nme, nightly.speed = [13.0], [100.0]
    assert nightly.run(3)["first_bad"] == {}
    record = nightly.run(4)
    assert record["last_good"] == {"date": "2026-01-01", "commit": "c1"}
    assert record["first_bad"] == {"date": "2026-01-03", "commit": "c3"}
    page.write(nightly.folder, nightly.config, nightly.history, nightly.accepted)
    text = (nightly.folder / "index.html").read_text()
    assert "between the last good night (2026-01-01) and the first bad night (2026-01-03)" in text
    assert "Bisect --metric accuracy.nme --good c1 --bad c3<" in text
    nightly.nme = [7.0]
    nightly.run(5)
    assert nightly.run(6)["first_bad"] == {}


def test_the_page_in_a_browser(nightly: FakeNightly, tmp_path: Path) -> None:
    browser = find_chromium()
    if browser is None:
        pytest.skip("Chromium is not installed")
    run_forty_nights(nightly)
    page.write(nightly.folder, nightly.config, nightly.history, nightly.accepted)
    folder = Path(os.environ.get("FSE_IMAGES", tmp_path))
    light = screenshot(browser, nightly.folder / "index.html", 500, False, folder)
    dark = screenshot(browser, nightly.folder / "index.html", 1200, True, folder)
    assert light[2, 2].min() > 230 and dark[2, 2].max() < 60
    # On a narrow screen the margin stays empty. A line that is too wide would reach into it.
    assert (light[:, -4:].reshape(-1, 3) == light[2, 2]).all()
    red = (light[:, :, 0].astype(int) > 150) & (light[:, :, 1] < 90) & (light[:, :, 2] < 90)
    assert red.sum() > 200
