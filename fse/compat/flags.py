"""`fse train` with the flags of the reference implementations.

These are alldbi's main.py and ModelZoo's port of it, Factorized_ID1301. The flags keep their names and defaults. The input
is a folder of images; the output is checkpoints `model-<step>` and TensorBoard `logs`.
"""

import argparse
import shutil
from pathlib import Path
from typing import NamedTuple, Tuple

from fse import config as configuration
from fse.config import Config
from fse.errors import CheckpointError, ConfigError
from fse.runtime.outputs import building_folder
from fse.stage_runner import run_stage
from fse.stages import DATA_STAGES, STAGES


class Flag(NamedTuple):
    """A flag that sets one setting."""

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
    """Add the flags to the parser of `fse train`."""
    group = parser.add_argument_group(
        "flags of alldbi's main.py and ModelZoo's Factorized_ID1301",
        "they override --config; without it, all other settings have the defaults of those programs",
    )
    group.add_argument("--mode", choices=("train", "test"), default="train", help="test: draw landmarks on images")
    group.add_argument("--input_dir", type=Path, help="folder of images")
    group.add_argument("--output_dir", type=Path, help="folder for model-<step>, logs and (in test mode) images")
    group.add_argument("--checkpoint", type=Path, help="folder of checkpoints to resume from, or to test")
    for flag in FLAGS:
        default = getattr(getattr(Config(), flag.section), flag.key)
        text = f"{flag.section}.{flag.key} (default: {default})"
        group.add_argument(*flag.names, type=type(default), dest=flag.names[0][2:], help=text)
    group.add_argument("--train_url", type=Path, help="another folder that gets the last checkpoint")
    group.add_argument("--data_url", help="accepted but ignored, as in the port")
    group.add_argument("--num_gpus", type=int, help="accepted but ignored, as in the port")


def settings(options: argparse.Namespace) -> Config:
    """Return the configuration that the command line of `fse train` describes.

    Raises:
      ConfigError: a value is invalid.
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


def run(options: argparse.Namespace) -> None:
    """Train or test as the reference implementations do.

    Raises:
      ConfigError: a folder is missing on the command line, or a value is invalid.
      CheckpointError: `--checkpoint` has no checkpoint.
      FseError: a stage failed.
    """
    for name in ("input_dir", "output_dir"):
        if getattr(options, name) is None:
            raise ConfigError(f"fse train: --{name} DIR is missing (or --records and --output)")
    if not options.input_dir.is_dir():
        raise ConfigError(f"fse train: --input_dir {options.input_dir}: no such folder")
    config, output = settings(options), options.output_dir.absolute()
    if options.mode == "test":
        _test(config, options, output)
    else:
        _train(config, options, output)


def _train(config: Config, options: argparse.Namespace, output: Path) -> None:
    """Prepare the images, train, and put checkpoints and logs where the reference implementations put them.

    The output folders of the stages lie in `output`; a later run reuses them.
    """
    folders = {name: output / name for name in (*DATA_STAGES, "train")}
    for name in DATA_STAGES:
        if not folders[name].exists():
            run_stage(name, config, {role: folders[role] for role in STAGES[name].inputs}, folders[name])
    if options.checkpoint:
        start_from(options.checkpoint, folders["train"])
    run_stage("train", config, {"convert": folders["convert"]}, folders["train"])
    for target in [output] + ([options.train_url.absolute()] if options.train_url else []):
        _copy_newest_checkpoint(folders["train"] / "checkpoints", target)
    logs = output / "logs"
    if not logs.is_symlink():
        logs.symlink_to(Path("train") / "summaries")


def _test(config: Config, options: argparse.Namespace, output: Path) -> None:
    """Write `images/<name>-outputs.png`, the landmarks drawn on every image of the folder."""
    import numpy as np

    from fse.datasets import images
    from fse.inference import export, predict

    if options.checkpoint is None:
        raise ConfigError("fse train --mode test: --checkpoint DIR is missing")
    model = output / "model"
    model.mkdir(parents=True, exist_ok=True)
    view = config.network.view
    shutil.rmtree(model / "saved_model", ignore_errors=True)
    export.freeze(config, options.checkpoint.absolute(), model, np.zeros((1, view, view, 3), np.uint8))
    paths = [options.input_dir / name for name in images.list_images(options.input_dir)]
    predict.print_landmarks(model, paths, "csv", output / "images")


def start_from(source: Path, output: Path) -> None:
    """Copy the newest checkpoint of a folder to where training will resume, unless an attempt has begun there.

    Args:
      source: folder of checkpoints.
      output: the folder that training will create.

    Raises:
      CheckpointError: `source` has no checkpoint.
    """
    checkpoints = building_folder(output) / "checkpoints"
    if not checkpoints.exists():
        _copy_newest_checkpoint(source, checkpoints)


def _copy_newest_checkpoint(source: Path, target: Path) -> None:
    """Copy the files of the newest checkpoint.

    Raises:
      CheckpointError: the folder has no checkpoint.
    """
    from fse.training import checkpoint_paths

    prefixes = checkpoint_paths.list_checkpoints(source)  # newest first
    if not prefixes:
        raise CheckpointError(f"{source}: no checkpoint model-<step> here; name a folder that has one")
    target.mkdir(parents=True, exist_ok=True)
    for path in checkpoint_paths.checkpoint_files(prefixes[0]):
        shutil.copy2(path, target / path.name)
