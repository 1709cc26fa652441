"""The configuration files of nightlies."""

from pathlib import Path
from typing import Tuple

import pytest

from fse.errors import ConfigError
from tasks.nightly import config
from tests.tasks.nightly.fake_nightly import CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = [1, 2]", "seeds = []"), "seeds must be at least one"),
        (("seeds = [1, 2]", "seed = [1]"), "run.seed; did you mean run.seeds"),
        (("maximum = 12.0", "maximum = 1.0"), "minimum is above maximum"),
        (("metrics.nme", "metrics.nmw"), "unknown metric nmw"),
        (('name = "speed"', 'name = "accuracy"'), "each with a different name"),
        (('name = "toy"', 'name = "../toy"'), "must be letters"),
        (("[nightly]", "[nigthly]"), "unknown section .nigthly"),
        (("[nightly]", "[[hook]]\nseconds = 3.0\n[nightly]"), "either a command or a url"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path: Path, change: Tuple[str, str], message: str) -> None:
    (tmp_path / "bad.toml").write_text(CONFIG.replace(*change, 1))
    with pytest.raises(ConfigError, match=message):
        config.load(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("name", ["nightly", "nightly_cpu"])
def test_the_shipped_nightlies_are_valid(name: str) -> None:
    nightly = config.load(name)
    assert {run.kind for run in nightly.runs} == {"accuracy", "performance"}
    assert len(nightly.experiments("")) == len(nightly.runs)
    assert nightly.resolve_metric("pairs_per_second") == "performance.pairs_per_second"
    assert name == "nightly_cpu" or nightly.gates()["port.loss_align"].maximum == 8.0
