"""The `fse` command: every stage without Luigi, landmarks of a person's own images, and looks at outputs and machine.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line or the configuration is wrong; 3 it
failed for the machine: a download, the device, the disk; 4 the NPU was not used.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional

from fse import __version__, config, doctor
from fse.compat import flags
from fse.datasets import registry
from fse.distributed import ranks
from fse.errors import MACHINE, NOT_USED, ConfigError, DeviceUnusedError, FseError, StageError, is_machines
from fse.runtime import locks, manifests, outputs, processes
from fse.stages import DATA, EVALUATED, STAGES, Stage, flag_of


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one verb; returns the exit code."""
    # A stage that Luigi started ends with it, however Luigi ends.
    if os.environ.get("FSE_PARENT"):
        processes.die_with_parent(int(os.environ["FSE_PARENT"]))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DeviceUnusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_USED
    except FseError as error:
        # What brings and crops images speaks of [dataset] and [crop], whichever they are for.
        other = getattr(options, "data", "") == "evaluate"
        tables = "data to evaluate on, of [evaluate.dataset] and [evaluate.crop]: " if other else ""
        print(f"error: {tables}{error}", file=sys.stderr)
        return MACHINE if is_machines(error) else 1
    except OSError as error:
        print("error: {}: {}".format(error.filename or "input or output", error.strerror or error), file=sys.stderr)
        return MACHINE
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fse", description="Learn object landmarks without labels.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.required = True
    for verb, stage in STAGES.items():
        command = verbs.add_parser(verb, help=stage.help, description=f"{stage.help.capitalize()}.")
        command.add_argument("--config", metavar="PATH", help="experiment file or shipped name (default: synthetic)")
        command.add_argument("--set", default="", metavar="KEY=VALUE,…", help="settings that override the file's")
        for role in (*stage.inputs, *stage.also):
            what = "what `fse {}` wrote".format(role.replace(EVALUATED, " --data evaluate"))
            command.add_argument("--" + flag_of(role), type=Path, metavar="DIR", help=what, dest=flag_of(role))
        command.add_argument("--output", type=Path, metavar="DIR", help="folder to make; must not exist")
        # A scheduler's: what it adds to the manifest, and whether the output may exist.
        command.add_argument("--facts", type=Path, help=argparse.SUPPRESS)
        command.add_argument("--replace", action="store_true", help=argparse.SUPPRESS)
        if stage.share:
            command.add_argument("--share", action="store_true", help=argparse.SUPPRESS)
        command.set_defaults(run=_run_stage)
        if verb in DATA:
            what = "to train on, or to evaluate on as [evaluate.dataset] and [evaluate.crop] say (default: train)"
            command.add_argument("--data", choices=("train", "evaluate"), default="train", help=what)
        if verb == "download":
            command.add_argument("--data_path", type=Path, metavar="DIR", help="download.data_path: where archives lie")
            command.set_defaults(run=_run_download)
        if verb == "train":
            flags.add(command)
            command.set_defaults(run=_run_train)
    command = verbs.add_parser("doctor", help="is this machine fit for an experiment? exit code 0 if it is")
    command.add_argument("--config", metavar="PATH", help="experiment file or shipped name (default: synthetic)")
    command.add_argument("--set", default="", metavar="KEY=VALUE,…", help="settings that override the file's")
    command.add_argument(
        "--workspace", type=Path, default=Path("workspace"), metavar="DIR", help="folder of all outputs"
    )
    command.add_argument("--json", action="store_true", help="the findings as a JSON object on standard output")
    command.set_defaults(run=_run_doctor)
    for verb, run, text in (
        ("join", _run_join, "compute this host's ranks of a training that another host runs"),
        ("rank", _run_rank, "be one rank of a training; `train` and `join` start it"),
    ):
        command = verbs.add_parser(verb, help=text, description=f"{text.capitalize()}.")
        command.add_argument("--config", metavar="PATH", help="the training's experiment")
        command.add_argument("--set", default="", metavar="KEY=VALUE,…", help="settings that override the file's")
        command.add_argument("--records", type=Path, metavar="DIR", help="the training's records")
        command.add_argument("--output", type=Path, metavar="DIR", help="folder of the ranks' logs")
        command.set_defaults(run=run)
    command = verbs.add_parser("landmarks", help="landmarks of your own images, with an exported model")
    command.add_argument("model", type=Path, help="folder that `fse export` wrote")
    command.add_argument("images", type=Path, nargs="+", metavar="image")
    command.add_argument("--format", choices=("csv", "json"), default="csv")
    command.add_argument("--draw", type=Path, metavar="DIR", help="also draw them on copies of the images, as PNG")
    command.set_defaults(run=_run_landmarks)
    command = verbs.add_parser("inspect", help="what is in a workspace, an output, a TFRecord file or an archive")
    command.add_argument("path", type=Path, metavar="WORKSPACE_OR_FILE")
    command.add_argument("--sheet", type=Path, metavar="FILE.png", help="also a contact sheet of its images, as PNG")
    command.set_defaults(run=_run_inspect)
    return parser


def _run_stage(options: argparse.Namespace) -> None:
    settings, stage = config.load(options.config, options.set), STAGES[options.verb]
    registry.check(settings)
    if options.verb in DATA and options.data == "evaluate":
        settings = config.for_evaluation(settings)
    roles = (*stage.inputs, *(stage.also if config.evaluates_other_data(settings) else ()))
    inputs = {role: _given(options, flag_of(role)) for role in roles}
    if stage.share and options.share:
        share_stage(options.verb, settings, inputs, _given(options, "output"), _facts(options))
        return
    run_stage(options.verb, settings, inputs, _given(options, "output"), _facts(options), options.replace)


def _run_download(options: argparse.Namespace) -> None:
    # A scheduler's: addresses whose queries are not to be seen on the command line.
    more = [os.environ.get("FSE_SET", "")]
    if options.data_path:
        more.append(f"download.data_path={json.dumps(str(options.data_path.absolute()))}")
    options.set = ",".join(filter(None, [options.set, *more]))
    _run_stage(options)


def run_stage(
    verb: str,
    settings: config.Config,
    inputs: Dict[str, Path],
    output: Path,
    facts: Optional[Dict[str, Any]] = None,
    replace: bool = False,
) -> None:
    """Runs a stage; its output folder appears whole or not at all.

    Args:
      verb: a name in `STAGES`.
      settings: the experiment.
      inputs: the folders that the stages of `STAGES[verb].inputs` wrote, by verb; or all of `also` as well, by role.
      output: the folder to make.
      facts: what a scheduler adds to the manifest.
      replace: `output` may exist; otherwise it must not.
    """
    stage, known = STAGES[verb], _known(verb, settings, inputs, facts)
    with outputs.atomic_output(output, known, stage.resumes, replace, stage.volatile, stage.summary) as building:
        _call(stage, stage.function, settings, inputs, building)


def share_stage(
    verb: str, settings: config.Config, inputs: Dict[str, Path], output: Path, facts: Optional[Dict[str, Any]] = None
) -> None:
    """Makes shards of a stage's output that no other process is at, where `run_stage` finds them afterwards.

    Args:
      verb: a name in `STAGES`, of a stage with `share`.
      settings, inputs, output, facts: as for `run_stage`.
    """
    stage, known = STAGES[verb], _known(verb, settings, inputs, facts)
    with outputs.shared_output(output, known) as building:
        _call(stage, stage.share, settings, inputs, building)


def _known(
    verb: str, settings: config.Config, inputs: Dict[str, Path], facts: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    for folder in inputs.values():
        if not folder.is_dir():
            raise StageError(f"{folder}: no such folder; it should hold the output of an earlier stage")
    device = settings.train.device if verb == "train" else "cpu"
    return manifests.new_manifest(verb, config.redact_config(settings), device, inputs, facts)


def _call(stage: Stage, function: str, settings: config.Config, inputs: Dict[str, Path], building: Path) -> None:
    module, name = function.split(":")
    folders = [inputs[role] for role in stage.inputs]
    also = [inputs[role] for role in stage.also if role in inputs]
    getattr(importlib.import_module(module), name)(settings, *folders, building, *also)


def _run_train(options: argparse.Namespace) -> None:
    """`fse train`: on shards as a stage, or on a folder of images as the replaced codes do it."""
    settings = flags.settings(options)
    with contextlib.ExitStack() as stack:
        if options.mode == "train" and not options.facts:  # a scheduler has locked the cards already
            stack.enter_context(_cards(settings))
        if options.records is None and options.output is None:
            flags.run(options, run_stage)
        else:
            records, output = _given(options, "records"), _given(options, "output")
            if options.checkpoint and not output.exists():
                flags.begin_with(options.checkpoint, output)
            run_stage("train", settings, {"convert": records}, output, _facts(options), options.replace)


def _run_join(options: argparse.Namespace) -> None:
    settings = config.load(options.config, options.set)
    folders = [_given(options, "records"), _given(options, "output")]
    with _cards(settings):
        importlib.import_module("fse.training").join(settings, *folders)


def _cards(settings: config.Config) -> ContextManager[Any]:
    """A context that has the cards of this host's ranks to itself; one in use is an error at once."""
    return locks.devices(settings.train.device, ranks.team(settings.train).devices, 0.0)


def _run_rank(options: argparse.Namespace) -> None:
    settings = config.load(options.config, options.set)
    importlib.import_module("fse.training").rank(settings, _given(options, "records"), _given(options, "output"))


def _facts(options: argparse.Namespace) -> Dict[str, Any]:
    return dict(json.loads(options.facts.read_text())) if options.facts else {}


def _run_doctor(options: argparse.Namespace) -> None:
    doctor.doctor(config.load(options.config, options.set), options.workspace, options.json)


def _run_landmarks(options: argparse.Namespace) -> None:
    importlib.import_module("fse.inference.predict").landmarks(
        options.model, options.images, options.format, options.draw
    )


def _run_inspect(options: argparse.Namespace) -> None:
    importlib.import_module("fse.inspection").inspect(options.path, options.sheet)


def _given(options: argparse.Namespace, flag: str) -> Path:
    value = getattr(options, flag)
    if value is None:
        raise ConfigError(f"fse {options.verb}: --{flag} DIR is missing")
    return Path(value).absolute()
