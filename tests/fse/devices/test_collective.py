"""Several ranks on one machine, through TensorFlow's real collective runtime."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
import pytest

from fse import config, devices
from fse.distributed import launcher, ranks
from fse.errors import ConfigError, DeviceError, TrainingError
from fse.inputs import records
from fse.inputs.batches import Batch, batches
from fse.model import network
from fse.runtime.files import write_json
from fse.tf1 import tf
from fse.training import checkpoints, train
from fse.training.graph import LossWeights, build_heatmaps, build_objective, learning_rate
from tests.fse.trainings import read_checkpoint, with_train

ROOT = Path(__file__).resolve().parents[3]


def single(settings: config.Config, **train: Any) -> config.Config:
    """With one thread a rank."""
    return with_train(settings, **dict({"threads": 1}, **train))


def assert_equal(one: Dict[str, np.ndarray], other: Dict[str, np.ndarray]) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def reference(settings: config.Config, shards: Path, parts: int, steps: int) -> Dict[str, np.ndarray]:
    """As `by_momentum`, but of one process that takes the mean over the parts of each batch."""
    data, device = records.read(shards), devices.find(settings)
    with tf.Graph().as_default(), tf.Session(config=device.session_config()) as session:
        step = tf.train.create_global_step()
        optimizer = tf.train.MomentumOptimizer(learning_rate(settings, step, steps), settings.train.beta1)
        iterators, gradients, statistics = [], [], []
        for part in range(parts):
            images = batches(settings, data, tf.constant(0, tf.int64), steps, part, parts)
            iterators.append(tf.data.make_initializable_iterator(images))
            batch = Batch(*iterators[-1].get_next())
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                maps = build_heatmaps(settings, batch.views, device)
            objective = build_objective(settings, maps, batch.cell_points, LossWeights(50.0, 0.0), device)
            gradients.append(optimizer.compute_gradients(objective.total))
            averages, values = network.batch_norm_statistics()
            statistics.append(values[len(values) // (part + 1) * part :])
            averages = averages[: len(statistics[0])]
        means = [tf.add_n(values) / parts for values in zip(*statistics)]
        pairs = [(tf.add_n([pair[0] for pair in same]) / parts, same[0][1]) for same in zip(*gradients)]
        update = [network.batch_norm_updates(averages, means), optimizer.apply_gradients(pairs, step)]
        session.run(tf.global_variables_initializer())
        session.run([iterator.initializer for iterator in iterators])
        for _ in range(steps):
            session.run(update)
        return session.run(checkpoints.variables_by_name(tf.global_variables()))


def run_ranks(change: str, settings: config.Config, shards: Path, output: Path) -> None:
    """Trains on several ranks with something changed in them; see `altered_rank`."""
    script = Path(__file__).with_name("altered_rank.py")
    command = [sys.executable, str(script), change, "rank", "--config", experiment(settings, output)]
    command += ["--records", str(shards), "--output", str(output)]
    launcher.run(settings.train, ranks.topology(settings.train), command, output, {})


@pytest.fixture(scope="module")
def two(tiny: config.Config, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    train.train(single(tiny, devices=2), shards, folder)
    return folder


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_equal_one_that_computes_all_shares(
    tiny: config.Config, shards: Path, tmp_path: Path, count: int
) -> None:
    """Weights, gradients (the optimizer's slots hold their sum) and batch norm's averages, after three steps.

    By plain momentum: Adam divides a gradient by its own size, so that one which is nothing but rounding moves a weight
    as far as any other does.
    """
    settings = single(tiny, devices=count, steps=3, learning_rate=1e-5)
    run_ranks("momentum", settings, shards, tmp_path)
    one, other = read_checkpoint(tmp_path), reference(single(settings, devices=0), shards, count, 3)
    assert set(one) == set(other)
    for kind in ("Momentum", ""):
        names = [name for name in one if name.endswith("/Momentum") == bool(kind)]
        largest = max(1.0, *(float(np.abs(other[name]).max()) for name in names))
        for name in names:
            np.testing.assert_allclose(one[name], other[name], rtol=0.0, atol=1e-5 * largest, err_msg=name)


def test_one_rank_writes_and_each_has_its_log(two: Path) -> None:
    assert sorted(path.name for path in two.iterdir()) == [
        "checkpoints",
        "logs",
        "losses.csv",
        "summaries",
        "training.json",
    ]
    assert {"train_0.log", "train_1.log"} < {path.name for path in (two / "logs").iterdir()}
    assert "progress  epoch 1  step 1 " in (two / "logs" / "train_0.log").read_text()
    assert "progress" not in (two / "logs" / "train_1.log").read_text()
    for log in (two / "logs").glob("train_*.log"):
        assert "Exception ignored" not in log.read_text()
    assert '"ranks": 2' in (two / "training.json").read_text()


def test_resuming_and_another_number_of_ranks(tiny: config.Config, shards: Path, two: Path, tmp_path: Path) -> None:
    """From step 4 of two ranks on: two give what an uninterrupted run of two gives, one goes on too."""
    for count in (2, 1):
        run = tmp_path / str(count)
        shutil.copytree(str(two), str(run))
        for file in (run / "checkpoints").glob("model-6.*"):
            file.unlink()
        train.train(single(tiny, devices=count), shards, run)
        again, whole = read_checkpoint(run), read_checkpoint(two)
        assert set(again) == set(whole)
        if count == 2:
            assert all((again[name] == whole[name]).all() for name in whole)
            assert "resuming from step 4 of 6" in (run / "logs" / "train_0.log").read_text()
        assert int(again["global_step"]) == 6


def test_every_rank_reads_its_share_of_the_same_batches(tiny: config.Config, shards: Path) -> None:
    data = records.read(shards)

    def views(part: int, parts: int) -> np.ndarray:
        with tf.Graph().as_default(), tf.Session() as session:
            batch = batches(tiny, data, tf.constant(3, tf.int64), 6, part, parts)
            iterator = tf.data.make_initializable_iterator(batch)
            session.run(iterator.initializer)
            return session.run(iterator.get_next()).views

    whole, parts = views(0, 1), [views(part, 2) for part in range(2)]
    together = np.stack([part.reshape(2, 2, 16, 16, 3) for part in parts], axis=1)
    np.testing.assert_array_equal(together.reshape(whole.shape), whole)


def test_a_batch_that_ranks_cannot_share_is_refused(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size \\(4\\) must be a multiple of the number of ranks, 3"):
        train.train(single(tiny, devices=3), shards, tmp_path)


@contextlib.contextmanager
def started(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """`fse …` in a child process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fse", *arguments],
        cwd="/",  # before all else Python looks for packages in the current folder
        env=dict(os.environ, **dict({"PYTHONPATH": str(ROOT)}, **environment)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def children(parent: int) -> List[int]:
    """Processes that a process started and that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(status.parent.name))
    return sorted(found)


def experiment(settings: config.Config, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "experiment.json", config.as_tables(settings))
    return str(folder / "experiment.json")


def wait_for(text: str, file: Path, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not file.exists() or text not in file.read_text():
        assert time.monotonic() < until, file
        time.sleep(0.05)


def test_killing_one_rank_ends_the_others_and_says_so(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    endless = single(tiny, devices=2, steps=1_000_000, save_freq=1_000_000)
    path = experiment(endless, tmp_path)
    with started("train", "--config", path, "--records", str(shards), "--output", str(tmp_path / "out")) as process:
        wait_for("progress", tmp_path / "out.building" / "logs" / "train_0.log")
        found = children(process.pid)
        assert len(found) == 2
        os.kill(found[1], signal.SIGKILL)
        killed = time.monotonic()
        said, _ = process.communicate(timeout=30)
        assert time.monotonic() - killed < 10.0
    assert process.returncode == 1
    assert "error: rank 1 of 2: it was killed by signal SIGKILL (log: " in said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{child}").exists() for child in found)


@pytest.mark.parametrize(("change", "dead"), [("dies first", 1), ("dies in broadcast", 0), ("dies in broadcast", 1)])
def test_a_rank_that_dies_at_the_start_ends_the_others(
    tiny: config.Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, dead: int
) -> None:
    """Killed while the other one waits to meet it, or in the middle of the broadcast of the first weights."""
    monkeypatch.setenv("ALTERED_RANK", str(dead))
    with pytest.raises(TrainingError, match=f"rank {dead} of 2: it was killed by signal SIGKILL"):
        run_ranks(change, single(tiny, devices=2), shards, tmp_path)
    died = [path.stat().st_mtime for path in tmp_path.glob("dying")]
    assert len(died) == 1
    assert time.time() - died[0] < 10.0


def test_a_rank_that_does_not_answer_is_waited_for_with_a_bound(
    tiny: config.Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 stops for ever in the middle of the broadcast."""
    monkeypatch.setenv("ALTERED_RANK", "1")
    expected = (
        "rank 0 of 2: waited 2 seconds for (the first weights to go from rank 0 to all ranks|"
        "step 1, which all 2 ranks take together); gave up"
    )
    with pytest.raises(TrainingError, match=expected):
        run_ranks("stops in broadcast", single(tiny, devices=2), shards, tmp_path)


def ports(count: int) -> List[int]:
    """Beginnings of free ranges of ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [min(each.getsockname()[1], 64_000) for each in sockets]


def two_hosts(settings: config.Config, **train: Any) -> config.Config:
    first, second = ports(2)
    return single(settings, hosts=(f"127.0.0.1:{first}", f"127.0.0.1:{second}"), **train)


@contextlib.contextmanager
def hosts(shards: Sequence[Path], configs: Sequence[str], folder: Path, **second: str) -> Iterator[List[Any]]:
    """`fse train` on one host and `fse join` on another, by two ports; `second` is in the environment of the latter.

    Each has its records, its experiment and its device.
    """
    with contextlib.ExitStack() as stack:
        processes = []
        for number, verb in enumerate(("train", "join")):
            locks, environment = folder / f"locks-{number}", second if number else {}
            locks.mkdir()
            options = ["--config", configs[number], "--records", str(shards[number]), "--output", str(folder / verb)]
            environment = dict({"FSE_HOST": str(number), "FSE_LOCKS": str(locks)}, **environment)
            processes.append(stack.enter_context(started(verb, *options, **environment)))
        yield processes


def test_two_ports_stand_for_two_hosts(tiny: config.Config, shards: Path, two: Path, tmp_path: Path) -> None:
    path = experiment(two_hosts(tiny), tmp_path)
    with hosts([shards] * 2, [path] * 2, tmp_path) as processes:
        said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert_equal(read_checkpoint(tmp_path / "train"), read_checkpoint(two))
    assert [path.name for path in (tmp_path / "join").iterdir()] == ["logs"]


@pytest.mark.slow
def test_a_host_that_goes_away_ends_the_others(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    path = experiment(two_hosts(tiny, steps=1_000_000, save_freq=1_000_000), tmp_path)
    with hosts([shards] * 2, [path] * 2, tmp_path) as (first, second):
        wait_for("progress", tmp_path / "train.building" / "logs" / "train_0.log")
        second.kill()
        killed = time.monotonic()
        said, _ = first.communicate(timeout=30)
        assert time.monotonic() - killed < 10.0
    assert first.returncode == 1
    assert "host 1" in said
    assert "gone away" in said or "ended" in said or "stopped" in said


@pytest.mark.parametrize("what", ["settings", "code", "records"])
def test_hosts_with_something_else_are_refused_before_anything_starts(
    tiny: config.Config, shards: Path, tmp_path: Path, what: str
) -> None:
    ours = theirs = two_hosts(tiny)
    ours_records = theirs_records = shards
    environment = {}
    if what == "settings":
        theirs, expected = with_train(ours, learning_rate=0.5), "train.learning_rate: 0.001 and 0.5"
    elif what == "code":
        expected = "the code of fse (sha256): "
        code = tmp_path / "code" / "fse"
        shutil.copytree(str(ROOT / "fse"), str(code), ignore=shutil.ignore_patterns("__pycache__"))
        (code / "losses.py").write_text((code / "losses.py").read_text() + "\nTHEIRS = 1\n")
        environment = {"PYTHONPATH": str(code.parent)}
    else:
        expected = "the records (sha256): "
        theirs_records = tmp_path / "records"
        shutil.copytree(str(shards), str(theirs_records))
        one, other = sorted(theirs_records.glob("train-*"))
        one.rename(tmp_path / "one")
        other.rename(one)
        (tmp_path / "one").rename(other)
    configs = [experiment(ours, tmp_path / "a"), experiment(theirs, tmp_path / "b")]
    with hosts([ours_records, theirs_records], configs, tmp_path, **environment) as processes:
        said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], said
    for text in said:
        assert "error: host 0 and host 1 (127.0.0.1:" in text
        assert "differ in " + expected in text
        assert "give all hosts the same" in text
        assert "Traceback" not in text
    assert not list(tmp_path.rglob("train_*.log"))


def test_a_host_that_does_not_come_is_told(
    tiny: config.Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = two_hosts(tiny, connect_timeout=1)
    monkeypatch.setenv("FSE_HOST", "0")
    with pytest.raises(TrainingError, match="waited 1 seconds for host 1 of train.hosts, 127.0.0.1:.*run `fse join`"):
        train.train(settings, shards, tmp_path)
    monkeypatch.setenv("FSE_HOST", "1")
    with pytest.raises(TrainingError, match="waited 1 seconds for host 0 of train.hosts"):
        train.join(settings, shards, tmp_path)
    with pytest.raises(ConfigError, match="this is host 1 of train.hosts; run `fse join` here"):
        train.train(settings, shards, tmp_path)


def test_a_rank_that_waits_in_vain_says_for_what(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    settings = single(tiny, devices=2, connect_timeout=2)
    first, second = ports(2)
    place = ranks.Rank(0, 2, "0", (f"127.0.0.1:{first}", f"127.0.0.1:{second}"))
    options = ["--config", experiment(settings, tmp_path), "--records", str(shards), "--output", str(tmp_path / "out")]
    with started("rank", *options, **ranks.environment_of(place, settings.train, None)) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: waited 2 seconds for the other 1 ranks to begin; gave up" in said
    with started("rank", *options) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "needs RANK_ID and RANK_SIZE and FSE_ADDRESSES in its environment" in said


def test_a_port_that_is_taken_is_told(tiny: config.Config) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        rank = ranks.Rank(0, 2, "0", (f"127.0.0.1:{port}", "127.0.0.1:1"))
        device = devices.find(single(tiny, devices=2), rank)
        with pytest.raises(DeviceError, match=f"rank 0 cannot listen at 127.0.0.1:{port}"):
            device.initialize()
