"""Runs of a stage: its function is called, and its output is published with a manifest."""

import importlib
from pathlib import Path
from typing import Any, Dict, Optional

from fse.config import Config, redact_config
from fse.errors import StageError
from fse.runtime import manifests, outputs
from fse.stages import STAGES, Stage


def run_stage(
    name: str,
    config: Config,
    inputs: Dict[str, Path],
    output: Path,
    manifest_extra: Optional[Dict[str, Any]] = None,
    replace: bool = False,
) -> None:
    """Run a stage and publish its output folder by an atomic rename.

    Args:
      name: a key of `STAGES`.
      config: the experiment.
      inputs: the output folders of the stages in `STAGES[name].inputs`, by role; with all of `evaluation_inputs` or none.
      output: the folder to create.
      manifest_extra: what a scheduler adds to the manifest.
      replace: `output` may exist and is replaced; otherwise it must not exist.

    Raises:
      StageError: an input folder is missing, or the output cannot be written.
      FseError: the stage failed.
    """
    stage, manifest = STAGES[name], _manifest(name, config, inputs, manifest_extra)
    with outputs.atomic_output(output, manifest, stage.resumes, replace, stage.volatile, stage.summary) as building:
        _call(stage, stage.function, config, inputs, building)


def share_stage(
    name: str, config: Config, inputs: Dict[str, Path], output: Path, manifest_extra: Optional[Dict[str, Any]] = None
) -> None:
    """Write the parts of a stage's output that no other process is writing; `run_stage` completes it later.

    Args:
      name: a key of `STAGES`, of a stage with a `share_function`.
      config: the experiment.
      inputs: as for `run_stage`.
      output: the folder that `run_stage` will create.
      manifest_extra: what a scheduler adds to the manifest.

    Raises:
      StageError: an input folder is missing, or the output cannot be written.
      FseError: the stage failed.
    """
    stage, manifest = STAGES[name], _manifest(name, config, inputs, manifest_extra)
    with outputs.shared_output(output, manifest) as building:
        _call(stage, stage.share_function, config, inputs, building)


def _manifest(
    name: str, config: Config, inputs: Dict[str, Path], manifest_extra: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """Return the part of the manifest that is known before the stage runs, after checking the input folders."""
    for folder in inputs.values():
        if not folder.is_dir():
            raise StageError(f"{folder}: no such folder; it should hold the output of an earlier stage")
    device = config.train.device if name == "train" else "cpu"
    return manifests.new_manifest(name, redact_config(config), device, inputs, manifest_extra)


def _call(stage: Stage, function: str, config: Config, inputs: Dict[str, Path], building: Path) -> None:
    """Import a stage's module, which may import TensorFlow, and call a function of it."""
    module, name = function.split(":")
    implementation = getattr(importlib.import_module(module), name)
    if stage.inputs_by_role:
        implementation(config, inputs, building)
    else:
        implementation(config, *(inputs[role] for role in stage.inputs), building)
