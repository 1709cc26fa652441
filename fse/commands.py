"""The commands of `fse`: their options, and the functions that run them."""

import argparse
import contextlib
import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, List, NamedTuple, Tuple

from fse import __version__, config
from fse.compat import flags
from fse.datasets import registry
from fse.distributed import ranks
from fse.doctor import machine
from fse.errors import ConfigError
from fse.runtime import locks
from fse.stage_runner import run_stage, share_stage
from fse.stages import DATA_STAGES, EVALUATION_SUFFIX, STAGES, option_of


class Option(NamedTuple):
    """The arguments of `ArgumentParser.add_argument`."""

    name: str
    keywords: Dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command of `fse`."""

    name: str
    help: str  # one line without a full stop
    run: Callable[[argparse.Namespace], None]
    options: Tuple[Option, ...]
    add_more: Callable[[argparse.ArgumentParser], None] = lambda parser: None  # adds an option group


def _option(name: str, **keywords: Any) -> Option:
    return Option(name, keywords)


def _folder(name: str, help: str) -> Option:
    return _option(name, type=Path, metavar="DIR", help=help)


def _config_options(help: str = "experiment file or shipped name (default: synthetic)") -> Tuple[Option, ...]:
    settings = "settings that override the file's"
    return (
        _option("--config", metavar="PATH", help=help),
        _option("--set", default="", metavar="KEY=VALUE,…", help=settings),
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the parsed options have the function to call as `run`."""
    parser = argparse.ArgumentParser(prog="fse", description="Learn object landmarks without labels.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    subparsers.required = True
    for command in [*_stage_commands(), *_OTHER_COMMANDS]:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        subparser = subparsers.add_parser(command.name, help=command.help, description=description)
        for option in command.options:
            subparser.add_argument(option.name, **option.keywords)
        command.add_more(subparser)
        subparser.set_defaults(run=command.run)
    return parser


# Stages -------------------------------------------------------------------------------------------------------------


def _stage_commands() -> Iterator[Command]:
    """Yield a command for every stage."""
    for name, stage in STAGES.items():
        options = [*_config_options()]
        for role in (*stage.inputs, *stage.evaluation_inputs):
            producer = role.replace(EVALUATION_SUFFIX, " --data evaluate")
            options.append(_folder(f"--{option_of(role)}", f"output folder of `fse {producer}`"))
        options += [
            _folder("--output", "folder to create; must not exist"),
            # For schedulers: a JSON file with more fields for the manifest, and whether the output may exist.
            _option("--manifest-extra", type=Path, help=argparse.SUPPRESS),
            _option("--replace", action="store_true", help=argparse.SUPPRESS),
        ]
        if stage.share_function:
            options.append(_option("--share", action="store_true", help=argparse.SUPPRESS))
        if name in DATA_STAGES:
            text = "to train on, or to evaluate on with the settings [evaluate.dataset] and [evaluate.crop] (default: train)"
            options.append(_option("--data", choices=("train", "evaluate"), default="train", help=text))
        if name == "download":
            options.append(_folder("--data_path", "download.data_path: folder of the archives"))
        add_more = flags.add if name == "train" else Command.add_more
        yield Command(name, stage.help, _STAGE_FUNCTIONS.get(name, _run_stage), tuple(options), add_more)


def _run_stage(options: argparse.Namespace) -> None:
    settings, stage = config.load(options.config, options.set), STAGES[options.verb]
    registry.check(settings)
    if options.verb in DATA_STAGES and options.data == "evaluate":
        settings = config.for_evaluation(settings)
    roles = (*stage.inputs, *(stage.evaluation_inputs if config.evaluates_other_data(settings) else ()))
    inputs = {role: _required_folder(options, option_of(role)) for role in roles}
    output, manifest_extra = _required_folder(options, "output"), _manifest_extra(options)
    if stage.share_function and options.share:
        share_stage(options.verb, settings, inputs, output, manifest_extra)
    else:
        run_stage(options.verb, settings, inputs, output, manifest_extra, options.replace)


def _run_download(options: argparse.Namespace) -> None:
    # A scheduler passes URLs with secret queries in FSE_SET, since other users can read the command line.
    overrides = [options.set, os.environ.get("FSE_SET", "")]
    if options.data_path:
        overrides.append(f"download.data_path={json.dumps(str(options.data_path.absolute()))}")
    options.set = ",".join(filter(None, overrides))
    _run_stage(options)


def _run_train(options: argparse.Namespace) -> None:
    """Train on TFRecord shards as a stage, or on a folder of images as the reference implementations do."""
    settings = flags.settings(options)
    with contextlib.ExitStack() as stack:
        if options.mode == "train" and not options.manifest_extra:  # a scheduler has reserved the cards already
            stack.enter_context(_reserved_cards(settings))
        if options.records is None and options.output is None:
            flags.run(options)
            return
        records, output = _required_folder(options, "records"), _required_folder(options, "output")
        if options.checkpoint and not output.exists():
            flags.start_from(options.checkpoint, output)
        run_stage("train", settings, {"convert": records}, output, _manifest_extra(options), options.replace)


_STAGE_FUNCTIONS = {"download": _run_download, "train": _run_train}


# Ranks --------------------------------------------------------------------------------------------------------------


def _run_join(options: argparse.Namespace) -> None:
    settings = config.load(options.config, options.set)
    records, logs = _required_folder(options, "records"), _required_folder(options, "output")
    with _reserved_cards(settings):
        importlib.import_module("fse.training.train").join(settings, records, logs)


def _run_rank(options: argparse.Namespace) -> None:
    settings = config.load(options.config, options.set)
    records, output = _required_folder(options, "records"), _required_folder(options, "output")
    importlib.import_module("fse.training.train").rank(settings, records, output)


def _reserved_cards(settings: config.Config) -> ContextManager[List[int]]:
    """Return a context that reserves the cards of this host's ranks; a card in use is an error at once."""
    return locks.lock_devices(settings.train.device, ranks.topology(settings.train).devices, 0.0)


# Other commands -----------------------------------------------------------------------------------------------------


def _run_doctor(options: argparse.Namespace) -> None:
    machine.report(config.load(options.config, options.set), options.workspace, options.json)


def _run_landmarks(options: argparse.Namespace) -> None:
    predict = importlib.import_module("fse.inference.predict")
    predict.print_landmarks(options.model, options.images, options.format, options.draw)


def _run_inspect(options: argparse.Namespace) -> None:
    importlib.import_module("fse.inspection").inspect(options.path, options.sheet)


_RANK_OPTIONS = (
    *_config_options("the training's experiment"),
    _folder("--records", "the training's records"),
    _folder("--output", "folder of the ranks' logs"),
)

_OTHER_COMMANDS = (
    Command(
        "doctor",
        "check whether this machine can run an experiment; exit code 0 if it can",
        _run_doctor,
        (
            *_config_options(),
            _option("--workspace", type=Path, default=Path("workspace"), metavar="DIR", help="folder of all outputs"),
            _option("--json", action="store_true", help="print the result as a JSON object"),
        ),
    ),
    Command("join", "compute this host's ranks of a training that another host runs", _run_join, _RANK_OPTIONS),
    Command("rank", "run one rank of a training; `train` and `join` start it", _run_rank, _RANK_OPTIONS),
    Command(
        "landmarks",
        "find landmarks in your own images with an exported model",
        _run_landmarks,
        (
            _option("model", type=Path, help="output folder of `fse export`"),
            _option("images", type=Path, nargs="+", metavar="image"),
            _option("--format", choices=("csv", "json"), default="csv"),
            _folder("--draw", "also draw the landmarks on copies of the images, as PNG files"),
        ),
    ),
    Command(
        "inspect",
        "show what a TFRecord file, an archive or a folder of images contains",
        _run_inspect,
        (
            _option("path", type=Path, metavar="FILE_OR_FOLDER"),
            _option("--sheet", type=Path, metavar="FILE.png", help="also write a contact sheet of its images, as PNG"),
        ),
    ),
)


def _manifest_extra(options: argparse.Namespace) -> Dict[str, Any]:
    return dict(json.loads(options.manifest_extra.read_text())) if options.manifest_extra else {}


def _required_folder(options: argparse.Namespace, option: str) -> Path:
    value = getattr(options, option.replace("-", "_"))
    if value is None:
        raise ConfigError(f"fse {options.verb}: --{option} DIR is missing")
    return Path(value).absolute()
