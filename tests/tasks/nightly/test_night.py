"""Verdicts of simulated nights, with a player that only says what came of a training."""

import datetime
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest
from PIL import Image

from fse import doctor
from fse.ascend import npu_smi
from fse.errors import ConfigError
from fse.runtime import processes
from tasks.nightly import alarms, baseline, environment, night, page, settings
from tasks.nightly.history import History
from tasks.nightly.night import Circumstances, Played
from tasks.nightly.settings import Hook
from tests.tasks.nightly.test_bisect import repository

FILE = """
[nightly]
name = "toy"
[[run]]
name = "accuracy"
seeds = [1, 2]
[run.metrics.nme]
minimum = 2.0
maximum = 12.0
[[run]]
name = "speed"
kind = "performance"
[run.metrics.pairs_per_second]
tolerance = 0.2
noise = 0.05
"""

HERE = {"python": "3.13", "host": "here"}

# An NPU's machine, as `fse doctor` finds it.
DOCTOR = doctor.as_dictionary(
    doctor.Machine(
        "npu",
        [doctor.Check("cann", "ok", "8.0.0"), doctor.Check("disk", "warning", "5.0 GB free", "free some")],
        {"cann": "8.0.0"},
        [npu_smi.Card(0, 0, "910A", "OK", 66.5, 41.0, "0000:C1:00.0", 2000, 32768)],
    )
)


class Toy:
    """A nightly whose trainings are made up. `nme` and `speed` are taken from turn by turn; the last one stays."""

    def __init__(self, folder: Path) -> None:
        (folder / "toy.toml").write_text(FILE)
        self.folder = folder
        self.plan = settings.load(str(folder / "toy.toml"))
        self.history = History(folder / "history.sqlite")
        self.accepted: List[baseline.Baseline] = []
        self.nme: List[Any] = [7.0]
        self.speed: List[Any] = [100.0]
        self.played: List[str] = []
        self.ill = ""
        self.environment = "here"

    def player(self, run: settings.Run, seed: int, occasion: str) -> Played:
        values = self.nme if run.name == "accuracy" else self.speed
        value = values.pop(0) if len(values) > 1 else values[0]
        self.played.append(f"{occasion} {run.name} {seed}")
        if isinstance(value, BaseException):
            raise value
        if isinstance(value, Played):
            return value
        name = "nme" if run.name == "accuracy" else "pairs_per_second"
        stages = {"Train": {"key": "0" * 16, "seconds": 1.0, "reused": False, "resumed": False}}
        stages["Download"] = dict(stages["Train"], reused=True)
        return Played("ok", "", stages, {name: value}, f"{run.name}-{seed}/Report/report.html")

    def play(self, day: int) -> Dict[str, Any]:
        date = str(datetime.date(2026, 1, 1) + datetime.timedelta(days=day - 1))
        now = Circumstances(HERE, self.environment, "k", f"c{day}", True, ["abc someone: a change"], [DOCTOR], self.ill)
        night.close_unfinished(self.history, date)
        return night.play(self.plan, date, self.history, self.accepted, now, self.player)

    def verdict(self, day: int) -> str:
        return str(self.play(day)["verdict"])

    def accept(self, day: int) -> None:
        record = self.history.record(str(datetime.date(2026, 1, day)))
        assert record is not None
        self.accepted.append(baseline.accept(self.folder / "b.toml", record, "here", "meant"))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def reasons(record: Dict[str, Any], level: str = "regression") -> List[str]:
    return ["{metric}: {words}".format(**reason) for reason in record["reasons"] if reason["level"] == level]


def test_a_good_night_plays_every_run_with_every_seed_once(toy: Toy) -> None:
    record = toy.play(1)
    assert record["verdict"] == "pass"
    assert toy.played == ["2026-01-01 accuracy 1", "2026-01-01 accuracy 2", "2026-01-01 speed 1"]
    assert record["metrics"]["accuracy.nme"]["mean"] == 7.0
    notes = ["accuracy.nme, speed.pairs_per_second: no trend yet: 0 of 8 nights", ": no baseline is accepted yet"]
    assert reasons(record, "note") == notes


def test_a_regression_is_called_when_a_repeat_says_so_too_and_both_are_kept(toy: Toy) -> None:
    toy.play(1)
    toy.played = []
    toy.nme = [13.0]
    record = toy.play(2)
    assert record["verdict"] == "regression"
    assert toy.played[3:] == ["2026-01-02 repeat accuracy 1", "2026-01-02 repeat accuracy 2"]  # not the other run
    assert [play["repeat"] for play in record["plays"]] == [False, False, False, True, True]
    assert reasons(record)[0] == "accuracy.nme: 13 is above its maximum 12"
    assert record["last_good"] == {"date": "2026-01-01", "commit": "c1"}
    assert toy.verdict(3) == "regression"
    toy.nme = [7.0]
    assert toy.verdict(4) == "pass"


def test_of_several_bad_nights_the_first_counts(toy: Toy) -> None:
    toy.play(1)
    toy.speed = [Played("infrastructure", "busy")]
    toy.play(2)
    toy.nme, toy.speed = [13.0], [100.0]
    assert toy.play(3)["first_bad"] == {}
    record = toy.play(4)
    assert record["last_good"] == {"date": "2026-01-01", "commit": "c1"}
    assert record["first_bad"] == {"date": "2026-01-03", "commit": "c3"}
    page.write(toy.folder, toy.plan, toy.history, toy.accepted)
    text = (toy.folder / "index.html").read_text()
    assert "between the last good night, 2026-01-01, and the first bad one, 2026-01-03" in text
    assert "Bisect --metric accuracy.nme --good c1 --bad c3<" in text
    toy.nme = [7.0]
    toy.play(5)
    assert toy.play(6)["first_bad"] == {}


def test_commits_between_two_nights(tmp_path: Path) -> None:
    commits = repository(tmp_path, ["1", "2", "3", "4"])
    lines = environment.commits(tmp_path, commits[0], commits[2])
    assert [line.split()[0] for line in lines] == [commit[:7] for commit in (commits[2], commits[1])]
    assert lines[0].endswith(" t: commit 2")
    assert environment.commits(tmp_path, "", commits[2]) == environment.commits(tmp_path, "0" * 40, commits[2]) == []
    assert environment.commit(tmp_path) == (commits[3], True)
    (tmp_path / "metric").write_text("5")
    assert environment.commit(tmp_path) == (commits[3], False)


def test_a_repeat_that_is_good_is_a_warning(toy: Toy) -> None:
    toy.nme = [13.0, 13.0, 7.0]
    record = toy.play(1)
    assert record["verdict"] == "warn"
    assert reasons(record, "warn") == ["accuracy.nme: 13 is above its maximum 12; a repeat was good"]
    assert toy.history.past("here", "accuracy", "nme", "", "2026-02-01") == [10.0]


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_too_good_and_not_a_number_are_regressions(toy: Toy, value: float) -> None:
    toy.nme = [value]
    assert toy.verdict(1) == "regression"


def test_code_that_fails_is_a_regression_and_a_machine_that_fails_is_none(toy: Toy) -> None:
    toy.speed = [Played("failed", "a bug")]
    record = toy.play(1)
    assert record["verdict"] == "regression"
    assert reasons(record)[0] == "speed: seed 1: a bug"
    toy.speed = [Played("infrastructure", "disk full"), 100.0]
    record = toy.play(2)
    assert (record["verdict"], reasons(record)) == ("infrastructure", ["speed: disk full"])
    toy.ill = "fse doctor ended with exit code 1: NPU 0: Alarm"
    toy.played = []
    record = toy.play(3)
    assert (record["verdict"], toy.played) == ("infrastructure", [])
    toy.ill = ""
    assert toy.history.past("here", "accuracy", "nme", "", "2026-02-01") == []
    assert toy.verdict(4) == "pass"


def test_the_environment_is_what_nights_must_have_in_common() -> None:
    versions = {"python": "3.7.5", "cann": "8.0.0", "driver": "24.1", "firmware": "", "system": "Linux 5", "fse": "1"}
    found = environment.describe(["npu", "npu"], versions)
    assert {*found} == {"python", "cann", "driver", "device", "machine", "host"}
    assert environment.fingerprint(found) != environment.fingerprint(dict(found, driver="25.0"))


@pytest.mark.parametrize(
    ("code", "output", "errors", "ill"),
    [
        (0, json.dumps(DOCTOR), "", ""),
        (
            3,
            json.dumps(dict(DOCTOR, checks=[{"name": "cann", "status": "failed", "found": "none"}])),
            "",
            "cann: none",
        ),
        (1, "", "Traceback\nValueError: x", "ValueError: x"),
        (1, "", "", "exit code 1"),
        (None, "", "", "did not end within 900 seconds"),
    ],
)
def test_what_the_doctor_says(monkeypatch: pytest.MonkeyPatch, code: Any, output: str, errors: str, ill: str) -> None:
    monkeypatch.setattr(processes, "run", lambda command, seconds: processes.Ended(code, output, errors))
    found, words = environment.doctor("", "", Path("w"))
    assert bool(found) == bool(output)
    assert words.startswith("fse doctor") and words.endswith(ill) if ill else words == ""


def test_a_night_that_the_machine_stopped_goes_on_where_it_was(toy: Toy) -> None:
    toy.speed = [Played("infrastructure", "busy"), 100.0]
    assert toy.verdict(1) == "infrastructure"
    toy.played = []
    record = toy.play(1)
    assert (record["verdict"], toy.played) == ("pass", ["2026-01-01 speed 1"])
    assert [attempt["verdict"] for attempt in record["attempts"]] == ["infrastructure"]


def test_a_killed_night_goes_on_or_is_closed_by_the_next(toy: Toy) -> None:
    toy.nme = [7.0, KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        toy.play(1)
    toy.nme = [7.0]
    assert toy.verdict(2) == "pass"
    closed = toy.history.record("2026-01-01")
    assert closed is not None and closed["verdict"] == "infrastructure"
    assert "killed: it began at" in reasons(closed)[0]
    toy.played = []
    assert toy.verdict(1) == "pass"
    assert "2026-01-01 accuracy 1" not in toy.played


def test_a_night_that_goes_on_knows_of_a_figure_that_is_no_number(toy: Toy) -> None:
    toy.nme = [float("nan"), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        toy.play(1)
    toy.nme = [7.0]
    record = toy.play(1)
    assert record["verdict"] == "warn"
    assert reasons(record, "warn") == ["accuracy.nme: is not a number; a repeat was good"]


def test_no_data(toy: Toy) -> None:
    toy.nme, toy.speed = [None], [None]
    assert toy.verdict(1) == "no-data"
    toy.nme = [Played("no-data", "no such archive")]
    record = toy.play(2)
    assert (record["verdict"], reasons(record)) == ("no-data", ["accuracy: no such archive"])
    toy.nme, toy.speed = [None], [100.0]
    record = toy.play(3)
    assert (record["verdict"], reasons(record, "warn")) == ("warn", ["accuracy.nme: has no value"])


def test_missing_nights_and_clocks_that_were_set_back(toy: Toy) -> None:
    toy.play(1)
    record = toy.play(4)
    assert record["missing"] == ["2026-01-02", "2026-01-03"]
    # Filled in, or played by a clock that goes wrong: nights are in the order of their dates.
    toy.nme = [8.0]
    record = toy.play(2)
    assert record["last_good"]["date"] == "2026-01-01"
    assert toy.history.past("here", "accuracy", "nme", "", "2026-01-05") == [7.0, 8.0, 7.0]
    assert toy.history.past("here", "accuracy", "nme", "", "2026-01-02") == [7.0]


def test_a_baseline_holds_in_its_environment_only(toy: Toy) -> None:
    toy.play(1)
    toy.accept(1)
    toy.nme = [7.3]
    assert toy.verdict(2) == "pass"
    toy.nme = [7.5]
    record = toy.play(3)
    assert record["verdict"] == "regression"
    assert reasons(record)[0] == "accuracy.nme: 7.5 is 7.1 % worse than the baseline's 7 (tolerance 5 %)"
    toy.environment = "elsewhere"
    record = toy.play(4)
    assert record["verdict"] == "warn"
    assert "the baseline is of another environment (here)" in reasons(record, "warn")[0]
    toy.environment = "here"
    toy.accept(3)
    assert toy.verdict(5) == "pass"


def test_a_trend_begins_anew_with_an_accepted_change(toy: Toy) -> None:
    for day in range(1, 10):
        assert toy.verdict(day) == "pass"
    toy.nme = [7.3]
    record = toy.play(10)
    assert record["verdict"] == "regression"
    assert "worse than the last 9 nights' 7" in reasons(record)[0]
    toy.accept(10)
    assert toy.verdict(11) == "pass"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = [1, 2]", "seeds = []"), "seeds must be at least one"),
        (("seeds = [1, 2]", "seed = [1]"), "unknown key run.seed; did you mean run.seeds"),
        (("maximum = 12.0", "maximum = 1.0"), "minimum is above maximum"),
        (("metrics.nme", "metrics.nmw"), "unknown metric nmw"),
        (('name = "speed"', 'name = "accuracy"'), "each of another name"),
        (('name = "toy"', 'name = "../toy"'), "must be letters"),
        (("[nightly]", "[nigthly]"), "unknown section .nigthly"),
        (("[nightly]", "[[hook]]\nseconds = 3.0\n[nightly]"), "a command or a url"),
    ],
)
def test_a_nightly_that_cannot_be_meant_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    (tmp_path / "bad.toml").write_text(FILE.replace(*change, 1))
    with pytest.raises(ConfigError, match=message):
        settings.load(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("name", ["nightly", "nightly_cpu"])
def test_shipped_nightlies_can_be_loaded(name: str) -> None:
    plan = settings.load(name)
    assert {run.kind for run in plan.runs} == {"accuracy", "performance"}
    assert len(plan.experiments("")) == len(plan.runs)
    assert plan.metric("pairs_per_second") == "performance.pairs_per_second"
    assert name == "nightly_cpu" or plan.gates()["port.loss_align"].maximum == 8.0


def test_hooks_are_told_of_changes_only(toy: Toy, tmp_path: Path) -> None:
    hooks = [Hook(command=f"sh -c 'cat >> {tmp_path}/told'")]

    def told(day: int, nme: float) -> List[str]:
        toy.nme = [nme]
        return [one.state for one in alarms.tell(toy.play(day), toy.history, hooks)]

    assert told(2, 7.0) == []
    assert told(3, 13.0) == ["regression"]
    assert told(4, 13.0) == []
    assert told(1, 7.0) == []  # an old night that is filled in
    assert told(5, 7.0) == ["good"]
    assert told(6, 7.0) == []
    text = (tmp_path / "told").read_text()
    assert text.count('"verdict": "regression"') == 1
    assert '"before": "regression"' in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sh -c 'echo no; exit 3'", "ended with exit code 3: no"),
        ("/no/such/program", "cannot be run"),
        ("sh -c 'sleep 60 & sleep 60'", "did not end within 0.3 s"),
        ("'", "cannot be run"),
    ],
)
def test_a_hook_that_fails_or_hangs_changes_nothing_and_is_told_again(toy: Toy, command: str, words: str) -> None:
    hooks = [Hook(command=command, seconds=0.3)]
    toy.nme = [13.0]
    for day in (1, 2):
        record = toy.play(day)
        (told,) = alarms.tell(record, toy.history, hooks)
        assert words in told.outcome
        assert toy.history.record(record["date"]) == record
    assert [told.outcome for told in toy.history.told()] == [told.outcome] * 2


def chromium() -> Optional[str]:
    return next(
        (found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found), None
    )


def image(browser: str, html: Path, width: int, dark: bool, tmp_path: Path) -> np.ndarray:
    """What a browser shows: uint8 [height, width, 3]."""
    shot = tmp_path / "{}{}.png".format(width, "-dark" if dark else "")
    with tempfile.TemporaryDirectory() as profile:
        options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        options += " --disable-component-update --disable-sync --hide-scrollbars --disable-dev-shm-usage"
        command = [browser, *options.split(), "--user-data-dir=" + profile, "--screenshot=" + str(shot)]
        command += [
            f"--window-size={width},1600",
            *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        subprocess.run(
            [*command, html.as_uri()], check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    return np.asarray(Image.open(str(shot)).convert("RGB"))


def months(toy: Toy) -> None:
    """Forty nights: an accepted change, a machine that failed, missing nights, and a regression at the end."""
    random = np.random.RandomState(4)
    for day in range(1, 41):
        if day in (9, 10):
            continue
        level = 7.0 if day < 20 else 6.5
        toy.nme = [level * (1.0 + 0.01 * random.randn()) for _ in range(4)]
        toy.speed = [100.0 * (1.0 + 0.03 * random.randn()) for _ in range(4)]
        if day == 15:
            toy.speed = [Played("infrastructure", "device npu of this host is in use"), 100.0]
        if day == 40:
            toy.nme = [7.3]
        record = toy.play(day)
        (toy.folder / record["date"] / "accuracy-1" / "Report").mkdir(parents=True)
        (toy.folder / record["date"] / "accuracy-1" / "Report" / "report.html").write_text("")
        if day in (1, 20):
            toy.accept(day)


def test_the_page_says_what_happened(toy: Toy) -> None:
    months(toy)
    page.write(toy.folder, toy.plan, toy.history, toy.accepted)
    text = (toy.folder / "index.html").read_text()
    assert "<h1>regression</h1>" in text
    assert "worse than the baseline" in text
    assert "abc someone: a change" in text
    assert '<td class="quiet">Download</td>' in text  # reused
    assert 'href="2026-02-09/accuracy-1/Report/report.html"' in text
    assert "2026-01-20 accepted: meant" in text
    assert "910A, OK, 41.0 °C, 66.5 W, 2000 of 32768 MB used" in text
    assert '<b class="warn">warning</b> 5.0 GB free' in text
    assert "device npu of this host is in use" in text
    assert "Bisect --metric accuracy.nme --good c39 --bad c40" in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_page_in_a_browser(toy: Toy, tmp_path: Path) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("no Chromium here to look at the page with")
    months(toy)
    page.write(toy.folder, toy.plan, toy.history, toy.accepted)
    shots = Path(os.environ.get("FSE_IMAGES", str(tmp_path)))
    light = image(browser, toy.folder / "index.html", 500, False, shots)
    dark = image(browser, toy.folder / "index.html", 1200, True, shots)
    assert light[2, 2].min() > 230 and dark[2, 2].max() < 60
    # Nothing reaches into the page's margin on a narrow screen, where a wide line would.
    assert (light[:, -4:].reshape(-1, 3) == light[2, 2]).all()
    red = (light[:, :, 0].astype(int) > 150) & (light[:, :, 1] < 90) & (light[:, :, 2] < 90)
    assert red.sum() > 200
