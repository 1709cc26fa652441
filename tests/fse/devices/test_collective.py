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


def single_threaded(settings: config.Config, **train: Any) -> config.Config:
    """Return settings with one thread per rank."""
    return with_train(settings, **dict({"threads": 1}, **train))


def assert_equal(actual: Dict[str, np.ndarray], expected: Dict[str, np.ndarray]) -> None:
    assert set(actual) == set(expected)
    for name in actual:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def train_in_one_process(settings: config.Config, shards: Path, parts: int, steps: int) -> Dict[str, np.ndarray]:
    """Train by momentum in one process that averages over the parts of each batch; return all variables."""
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
        pairs = [
            (tf.add_n([pair[0] for pair in of_variable]) / parts, of_variable[0][1]) for of_variable in zip(*gradients)
        ]
        update = [network.batch_norm_updates(averages, means), optimizer.apply_gradients(pairs, step)]
        session.run(tf.global_variables_initializer())
        session.run([iterator.initializer for iterator in iterators])
        for _ in range(steps):
            session.run(update)
        return dict(session.run(checkpoints.variables_by_name(tf.global_variables())))


def run_ranks(change: str, settings: config.Config, shards: Path, output: Path) -> None:
    """Train on several ranks with a fault in them; see `altered_rank`."""
    script = Path(__file__).with_name("altered_rank.py")
    command = [sys.executable, str(script), change, "rank", "--config", write_experiment(settings, output)]
    command += ["--records", str(shards), "--output", str(output)]
    launcher.run(settings.train, ranks.topology(settings.train), command, output, {})


@pytest.fixture(scope="module")
def two_ranks(tiny: config.Config, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_ranks")
    train.train(single_threaded(tiny, devices=2), shards, folder)
    return folder


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_ranks_equal_one_process(tiny: config.Config, shards: Path, tmp_path: Path, count: int) -> None:
    """Compare weights, gradients (summed in the optimizer's slots) and moving averages after three steps.

    The optimizer is plain momentum. Adam divides gradients by their size, so gradients that are pure rounding errors would
    move weights as far as any others.
    """
    settings = single_threaded(tiny, devices=count, steps=3, learning_rate=1e-5)
    run_ranks("momentum", settings, shards, tmp_path)
    actual, expected = (
        read_checkpoint(tmp_path),
        train_in_one_process(single_threaded(settings, devices=0), shards, count, 3),
    )
    assert set(actual) == set(expected)
    for kind in ("Momentum", ""):
        names = [name for name in actual if name.endswith("/Momentum") == bool(kind)]
        largest = max(1.0, *(float(np.abs(expected[name]).max()) for name in names))
        for name in names:
            np.testing.assert_allclose(actual[name], expected[name], rtol=0.0, atol=1e-5 * largest, err_msg=name)


def test_rank_0_writes_the_outputs_and_every_rank_a_log(two_ranks: Path) -> None:
    assert sorted(path.name for path in two_ranks.iterdir()) == [
        "checkpoints",
        "logs",
        "losses.csv",
        "summaries",
        "training.json",
    ]
    assert {"train_0.log", "train_1.log"} < {path.name for path in (two_ranks / "logs").iterdir()}
    assert "progress  epoch 1  step 1 " in (two_ranks / "logs" / "train_0.log").read_text()
    assert "progress" not in (two_ranks / "logs" / "train_1.log").read_text()
    for log in (two_ranks / "logs").glob("train_*.log"):
        assert "Exception ignored" not in log.read_text()
    assert '"ranks": 2' in (two_ranks / "training.json").read_text()


def test_training_resumes_with_the_same_or_another_number_of_ranks(
    tiny: config.Config, shards: Path, two_ranks: Path, tmp_path: Path
) -> None:
    """From step 4 of two ranks, two ranks give the same result as an uninterrupted run; one rank resumes too."""
    for count in (2, 1):
        run = tmp_path / str(count)
        shutil.copytree(str(two_ranks), str(run))
        for file in (run / "checkpoints").glob("model-6.*"):
            file.unlink()
        train.train(single_threaded(tiny, devices=count), shards, run)
        resumed, uninterrupted = read_checkpoint(run), read_checkpoint(two_ranks)
        assert set(resumed) == set(uninterrupted)
        if count == 2:
            assert all((resumed[name] == uninterrupted[name]).all() for name in uninterrupted)
            assert "resuming from step 4 of 6" in (run / "logs" / "train_0.log").read_text()
        assert int(resumed["global_step"]) == 6


def test_every_rank_reads_its_share_of_the_same_batches(tiny: config.Config, shards: Path) -> None:
    data = records.read(shards)

    def views(part: int, parts: int) -> np.ndarray:
        with tf.Graph().as_default(), tf.Session() as session:
            batch = batches(tiny, data, tf.constant(3, tf.int64), 6, part, parts)
            iterator = tf.data.make_initializable_iterator(batch)
            session.run(iterator.initializer)
            return np.asarray(session.run(iterator.get_next()).views)

    all_views, parts = views(0, 1), [views(part, 2) for part in range(2)]
    together = np.stack([part.reshape(2, 2, 16, 16, 3) for part in parts], axis=1)
    np.testing.assert_array_equal(together.reshape(all_views.shape), all_views)


def test_a_batch_size_must_be_a_multiple_of_the_ranks(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size \\(4\\) must be a multiple of the number of ranks, 3"):
        train.train(single_threaded(tiny, devices=3), shards, tmp_path)


@contextlib.contextmanager
def started(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `fse …` in a child process and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fse", *arguments],
        cwd="/",  # because Python looks for packages in the current folder first
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
    """Return the running child processes of a process."""
    running = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                running.append(int(status.parent.name))
    return sorted(running)


def write_experiment(settings: config.Config, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "experiment.json", config.as_tables(settings))
    return str(folder / "experiment.json")


def wait_for(text: str, file: Path, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists() or text not in file.read_text():
        assert time.monotonic() < deadline, file
        time.sleep(0.05)


def test_killing_one_rank_stops_the_others_and_is_reported(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    endless = single_threaded(tiny, devices=2, steps=1_000_000, save_freq=1_000_000)
    path = write_experiment(endless, tmp_path)
    with started("train", "--config", path, "--records", str(shards), "--output", str(tmp_path / "out")) as process:
        wait_for("progress", tmp_path / "out.building" / "logs" / "train_0.log")
        ranks_of_process = children(process.pid)
        assert len(ranks_of_process) == 2
        os.kill(ranks_of_process[1], signal.SIGKILL)
        killed = time.monotonic()
        output, _ = process.communicate(timeout=30)
        assert time.monotonic() - killed < 10.0
    assert process.returncode == 1
    assert "error: rank 1 of 2: it was killed by signal SIGKILL (log: " in output
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{child}").exists() for child in ranks_of_process)


@pytest.mark.parametrize(("change", "dead"), [("dies first", 1), ("dies in broadcast", 0), ("dies in broadcast", 1)])
def test_a_rank_that_dies_at_the_start_stops_the_others(
    tiny: config.Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, dead: int
) -> None:
    """The rank is killed while the other one waits for it, or during the broadcast of the first weights."""
    monkeypatch.setenv("ALTERED_RANK", str(dead))
    with pytest.raises(TrainingError, match=f"rank {dead} of 2: it was killed by signal SIGKILL"):
        run_ranks(change, single_threaded(tiny, devices=2), shards, tmp_path)
    died = [path.stat().st_mtime for path in tmp_path.glob("dying")]
    assert len(died) == 1
    assert time.time() - died[0] < 10.0


def test_the_wait_for_a_hanging_rank_is_limited(
    tiny: config.Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 stops during the broadcast and never continues."""
    monkeypatch.setenv("ALTERED_RANK", "1")
    expected = (
        "rank 0 of 2: waited 2 seconds for (the first weights to go from rank 0 to all ranks|"
        "step 1, which all 2 ranks take together); gave up"
    )
    with pytest.raises(TrainingError, match=expected):
        run_ranks("stops in broadcast", single_threaded(tiny, devices=2), shards, tmp_path)


def ports(count: int) -> List[int]:
    """Return first ports of free ranges of ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one_socket in sockets:
            one_socket.bind(("127.0.0.1", 0))
        return [min(one_socket.getsockname()[1], 64_000) for one_socket in sockets]


def two_hosts(settings: config.Config, **train: Any) -> config.Config:
    first, second = ports(2)
    return single_threaded(settings, hosts=(f"127.0.0.1:{first}", f"127.0.0.1:{second}"), **train)


@contextlib.contextmanager
def hosts(shards: Sequence[Path], configs: Sequence[str], folder: Path, **second: str) -> Iterator[List[Any]]:
    """Run `fse train` and `fse join` on two hosts, which two ports stand for.

    Each host has its own records and configuration. `second`: environment variables of the second host.
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


def test_two_ports_stand_for_two_hosts(tiny: config.Config, shards: Path, two_ranks: Path, tmp_path: Path) -> None:
    path = write_experiment(two_hosts(tiny), tmp_path)
    with hosts([shards] * 2, [path] * 2, tmp_path) as processes:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert_equal(read_checkpoint(tmp_path / "train"), read_checkpoint(two_ranks))
    assert [path.name for path in (tmp_path / "join").iterdir()] == ["logs"]


@pytest.mark.slow
def test_a_host_that_goes_away_ends_the_others(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    path = write_experiment(two_hosts(tiny, steps=1_000_000, save_freq=1_000_000), tmp_path)
    with hosts([shards] * 2, [path] * 2, tmp_path) as (first, second):
        wait_for("progress", tmp_path / "train.building" / "logs" / "train_0.log")
        second.kill()
        killed = time.monotonic()
        output, _ = first.communicate(timeout=30)
        assert time.monotonic() - killed < 10.0
    assert first.returncode == 1
    assert "host 1" in output
    assert "gone away" in output or "ended" in output or "stopped" in output


@pytest.mark.parametrize("what", ["settings", "code", "records"])
def test_hosts_that_differ_are_refused_before_ranks_start(
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
        (code / "model" / "losses.py").write_text((code / "model" / "losses.py").read_text() + "\nTHEIRS = 1\n")
        environment = {"PYTHONPATH": str(code.parent)}
    else:
        expected = "the records (sha256): "
        theirs_records = tmp_path / "records"
        shutil.copytree(str(shards), str(theirs_records))
        first, second = sorted(theirs_records.glob("train-*"))
        first.rename(tmp_path / "first")
        second.rename(first)
        (tmp_path / "first").rename(second)
    configs = [write_experiment(ours, tmp_path / "a"), write_experiment(theirs, tmp_path / "b")]
    with hosts([ours_records, theirs_records], configs, tmp_path, **environment) as processes:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], outputs
    for text in outputs:
        assert "error: host 0 and host 1 (127.0.0.1:" in text
        assert "differ in " + expected in text
        assert "give all hosts the same" in text
        assert "Traceback" not in text
    assert not list(tmp_path.rglob("train_*.log"))


def test_a_missing_host_is_reported(
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


def test_a_rank_whose_wait_times_out_reports_what_it_waited_for(
    tiny: config.Config, shards: Path, tmp_path: Path
) -> None:
    settings = single_threaded(tiny, devices=2, connect_timeout=2)
    first, second = ports(2)
    rank = ranks.Rank(0, 2, "0", (f"127.0.0.1:{first}", f"127.0.0.1:{second}"))
    options = [
        "--config",
        write_experiment(settings, tmp_path),
        "--records",
        str(shards),
        "--output",
        str(tmp_path / "out"),
    ]
    with started("rank", *options, **ranks.environment_of(rank, settings.train, None)) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: waited 2 seconds for the other 1 ranks to begin; gave up" in output
    with started("rank", *options) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "needs RANK_ID and RANK_SIZE and FSE_ADDRESSES in its environment" in output


def test_a_port_in_use_is_reported(tiny: config.Config) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        rank = ranks.Rank(0, 2, "0", (f"127.0.0.1:{port}", "127.0.0.1:1"))
        device = devices.find(single_threaded(tiny, devices=2), rank)
        with pytest.raises(DeviceError, match=f"rank 0 cannot listen at 127.0.0.1:{port}"):
            device.initialize()
