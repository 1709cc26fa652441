"""`fse train` with the flags of the codes it replaces: alldbi's main.py and train.py of ModelZoo's Factorized_ID1301.

Their names and defaults hold; a folder of images goes in, checkpoints `model-<step>` and TensorBoard `logs` come out.
"""

import argparse
import shutil
from pathlib import Path
from typing import Callable, NamedTuple, Tuple

from fse import config as configuration
from fse.config import Config
from fse.errors import CheckpointError, ConfigError
from fse.stages import DATA, STAGES


class Flag(NamedTuple):
    """A flag that sets one value of the configuration."""

    names: Tuple[str, ...]
    section: str
    key: str


FLAGS = (
    Flag(("--batch_size",), "train", "batch_size"),
    Flag(("--learning_rate",), "train", "learning_rate"),
    Flag(("--beta1",), "train", "beta1"),
    Flag(("--max_epochs",), "train", "epochs"),
    Flag(("--devices",), "train", "devices"),
    Flag(("--summary_freq",), "train", "summary_freq"),
    Flag(("--save_freq",), "train", "save_freq"),
    Flag(("--random_seed", "--random-seed"), "train", "seed"),
    Flag(("--K",), "network", "landmarks"),
    Flag(("--M",), "loss", "diversity_window"),
    Flag(("--weight_decay",), "loss", "weight_decay"),
    Flag(("--diversity_weight",), "loss", "diversity_weight"),
    Flag(("--align_weight",), "loss", "align_weight"),
    Flag(("--scale_size",), "crop", "size"),
    Flag(("--crop_size",), "network", "view"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to the parser of `fse train`."""
    group = parser.add_argument_group(
        "flags of alldbi's main.py and ModelZoo's Factorized_ID1301",
        "they override --config; without it the other settings are those codes' defaults",
    )
    group.add_argument("--mode", choices=("train", "test"), default="train", help="test: draw landmarks on images")
    group.add_argument("--input_dir", type=Path, help="folder of images")
    group.add_argument("--output_dir", type=Path, help="where model-<step>, logs and (in test mode) images go")
    group.add_argument("--checkpoint", type=Path, help="folder of checkpoints to go on from, or to test")
    for flag in FLAGS:
        default = getattr(getattr(Config(), flag.section), flag.key)
        text = f"{flag.section}.{flag.key} (default: {default})"
        group.add_argument(*flag.names, type=type(default), dest=flag.names[0][2:], help=text)
    group.add_argument("--train_url", type=Path, help="another folder that gets the last checkpoint")
    group.add_argument("--data_url", help="accepted and, as in the port, not used")
    group.add_argument("--num_gpus", type=int, help="accepted and, as in the port, not used")


def settings(options: argparse.Namespace) -> Config:
    """The configuration that the command line means.

    Raises:
      ConfigError: a value cannot be meant.
    """
    if options.config:
        tables = configuration.as_tables(configuration.load(options.config, options.set))
    else:
        tables = configuration.as_tables(configuration.from_tables(configuration.parse_overrides(options.set), "--set"))
    for flag in FLAGS:
        value = getattr(options, flag.names[0][2:])
        if value is not None:
            tables[flag.section][flag.key] = value
    if options.input_dir:
        folder = options.input_dir.absolute()
        tables["dataset"].update(name=folder.name, archive=str(folder), sha256="", images=".")
    return configuration.from_tables(tables, "fse train")


def run(options: argparse.Namespace, run_stage: Callable[..., None]) -> None:
    """Trains or tests as the replaced codes do.

    Args:
      options: the parsed command line.
      run_stage: `fse.cli.run_stage`.

    Raises:
      ConfigError: a folder is missing on the command line.
      CheckpointError: `--checkpoint` holds none.
    """
    for name in ("input_dir", "output_dir"):
        if getattr(options, name) is None:
            raise ConfigError(f"fse train: --{name} DIR is missing (or --records and --output)")
    if not options.input_dir.is_dir():
        raise ConfigError(f"fse train: --input_dir {options.input_dir}: no such folder")
    config, output = settings(options), options.output_dir.absolute()
    if options.mode == "test":
        _test(config, options, output)
        return
    folders = {verb: output / verb for verb in (*DATA, "train")}
    for verb in DATA:
        if not folders[verb].exists():
            run_stage(verb, config, {name: folders[name] for name in STAGES[verb].inputs}, folders[verb])
    if options.checkpoint:
        begin_with(options.checkpoint, folders["train"])
    run_stage("train", config, {"convert": folders["convert"]}, folders["train"])
    for target in [output] + ([options.train_url.absolute()] if options.train_url else []):
        _copy_newest(folders["train"] / "checkpoints", target)
    logs = output / "logs"
    if not logs.is_symlink():
        logs.symlink_to(Path("train") / "summaries")


def _test(config: Config, options: argparse.Namespace, output: Path) -> None:
    """Writes `images/<name>-outputs.png`, the landmarks drawn on every image of the folder."""
    import numpy as np

    from fse.datasets import images
    from fse.inference import export, predict

    if options.checkpoint is None:
        raise ConfigError("fse train --mode test: --checkpoint DIR is missing")
    model = output / "model"
    model.mkdir(parents=True, exist_ok=True)
    view = config.network.view
    shutil.rmtree(str(model / "saved_model"), ignore_errors=True)
    export.freeze(config, options.checkpoint.absolute(), model, np.zeros((1, view, view, 3), np.uint8))
    paths = [options.input_dir / name for name in images.find(options.input_dir)]
    predict.landmarks(model, paths, "csv", output / "images")


def begin_with(source: Path, target: Path) -> None:
    """Puts the newest checkpoint of `source` where training resumes from, unless an attempt got further already.

    Raises:
      CheckpointError: there is none.
    """
    building = target.with_name(target.name + ".building") / "checkpoints"
    if not building.exists():
        _copy_newest(source, building)


def _copy_newest(source: Path, target: Path) -> None:
    """Copies the files of the newest checkpoint.

    Raises:
      CheckpointError: there is none.
    """
    from fse.training import checkpoint_paths

    found = checkpoint_paths.found(source)
    if not found:
        raise CheckpointError(f"{source}: no checkpoint model-<step> here")
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob(Path(found[0]).name + ".*")):
        shutil.copy2(str(path), str(target / path.name))
