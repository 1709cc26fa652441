"""The data sets that are known by name, and the checks of a configuration against them."""

import difflib
from typing import Dict

from fse import config as configuration
from fse.datasets import aflw, cats, celeba, celeba_wild, folder, mafl, shoes, w300
from fse.datasets.spec import DataSet
from fse.errors import ConfigError

# The data sets that are known by name. Another one is a file like these, and a line here.
KNOWN: Dict[str, DataSet] = {
    "celeba": celeba.DATASET,
    "mafl": mafl.DATASET,
    "celeba_wild": celeba_wild.DATASET,
    "mafl_wild": celeba_wild.MAFL,
    "aflw": aflw.DATASET,
    "300w": w300.DATASET,
    "cats": cats.DATASET,
    "shoes": shoes.DATASET,
}


def check(config: configuration.Config) -> None:
    """Refuses what cannot be meant by a data set that is trained or evaluated on, and by the landmarks that it must have.

    Raises:
      ConfigError: says what is wrong.
    """
    _check_data_set("dataset", config.dataset)
    if config.evaluate_dataset:
        _check_data_set("evaluate.dataset", config.evaluate_dataset)
    evaluated = configuration.for_evaluation(config).dataset
    _check_eyes(config, evaluated, "errors on it are relative to")
    if config.crop.mode == "landmarks":
        _check_eyes(config, config.dataset, "crop.mode landmarks wants")


def check_evaluation(config: configuration.Config) -> None:
    """Refuses to evaluate on a known data set that has no test images.

    Raises:
      ConfigError: it has none.
    """
    dataset = configuration.for_evaluation(config).dataset
    parts = KNOWN[dataset.name].parts if dataset.name in KNOWN else {"": {}}
    counts = parts[dataset.part or next(iter(parts))]
    if counts and not counts["test"]:
        raise ConfigError(
            f"evaluate.dataset: {dataset.name} has no test images; say what to evaluate on, for example "
            "evaluate.dataset=mafl"
        )


def _check_data_set(section: str, dataset: configuration.Dataset) -> None:
    """Refuses a name, part or archive that does not go with the others; `section` is where they are said."""
    known = KNOWN.get(dataset.name)
    if known is None:
        if dataset.name != "synthetic" and not dataset.archive:
            names = ["synthetic", folder.NAME, *KNOWN]
            close = difflib.get_close_matches(dataset.name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else "known are: {}".format(", ".join(names))
            if dataset.name == folder.NAME:
                hint = f"for example {section}.archive=my/images"
            raise ConfigError(f"{section}.archive must say where the data set {dataset.name!r} is; {hint}")
        if dataset.part:
            raise ConfigError("{}.part: only known data sets have parts ({})".format(section, ", ".join(KNOWN)))
        if dataset.name == folder.NAME and dataset.images != configuration.Dataset.images:
            raise ConfigError(
                f"{section}.images: images of 'folder' are looked for everywhere; leave it out, or let {section}.archive name the "
                "folder that they are in"
            )
        return
    if dataset.archive:
        raise ConfigError(
            f"{section}.archive: {dataset.name!r} is a known data set, whose files are looked for in download.data_path; leave "
            f"{section}.archive empty, or give the data set another name"
        )
    if dataset.part and dataset.part not in known.parts:
        raise ConfigError(
            "{}.part: {!r} is no part of {}; there are: {}".format(
                section, dataset.part, dataset.name, ", ".join(filter(None, known.parts)) or "none"
            )
        )


def _check_eyes(config: configuration.Config, dataset: configuration.Dataset, why: str) -> None:
    """Refuses `evaluate.eyes` that a known data set does not have."""
    known = KNOWN.get(dataset.name)
    missing = [name for name in config.evaluate.eyes if known and name not in known.landmarks]
    if known and known.landmarks and missing:
        raise ConfigError(
            "evaluate.eyes: {} has no {}; {} {}".format(
                dataset.name, " and ".join(missing), why, " and ".join(known.eyes)
            )
        )
