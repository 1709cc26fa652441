"""The data sets that are known by name, and checks of a configuration against them."""

import difflib
from typing import Dict

from fse.config import Config, Dataset, for_evaluation
from fse.datasets import aflw, cats, celeba, celeba_wild, folder, mafl, shoes, w300
from fse.datasets.spec import KnownDataset
from fse.errors import ConfigError

# To add a data set, write a module like those imported above, and add a line here.
KNOWN: Dict[str, KnownDataset] = {
    "celeba": celeba.DATASET,
    "mafl": mafl.DATASET,
    "celeba_wild": celeba_wild.DATASET,
    "mafl_wild": celeba_wild.MAFL,
    "aflw": aflw.DATASET,
    "300w": w300.DATASET,
    "cats": cats.DATASET,
    "shoes": shoes.DATASET,
}


def check(config: Config) -> None:
    """Check the data sets of a configuration, and that they have the landmarks that other settings name.

    Raises:
      ConfigError: a setting is wrong.
    """
    _check_dataset("dataset", config.dataset)
    if config.evaluate_dataset:
        _check_dataset("evaluate.dataset", config.evaluate_dataset)
    evaluated = for_evaluation(config).dataset
    _check_eyes(config, evaluated, "errors are divided by the distance between")
    if config.crop.mode == "landmarks":
        _check_eyes(config, config.dataset, "crop.mode landmarks needs")


def check_evaluation(config: Config) -> None:
    """Check that the data set for evaluation has test images.

    Raises:
      ConfigError: it is a known data set without test images.
    """
    dataset = for_evaluation(config).dataset
    if dataset.name not in KNOWN:
        return
    parts = KNOWN[dataset.name].parts
    counts = parts[dataset.part or next(iter(parts))]
    if counts and not counts["test"]:
        raise ConfigError(
            f"evaluate.dataset: {dataset.name} has no test images; name the data set to evaluate on, for example "
            "evaluate.dataset=mafl"
        )


def _check_dataset(section: str, dataset: Dataset) -> None:
    """Check that name, part and archive fit together; `section` is the section that sets them."""
    known = KNOWN.get(dataset.name)
    if known is None:
        _check_own_dataset(section, dataset)
    else:
        _check_known_dataset(section, dataset, known)


def _check_own_dataset(section: str, dataset: Dataset) -> None:
    if dataset.name != "synthetic" and not dataset.archive:
        raise ConfigError(
            f"{section}.archive must say where the data set {dataset.name!r} is; {_hint(section, dataset)}"
        )
    if dataset.part:
        raise ConfigError(
            f"{section}.part: only known data sets have parts ({', '.join(KNOWN)}); leave {section}.part empty"
        )
    if dataset.name == folder.NAME and dataset.images != Dataset.images:
        raise ConfigError(
            f"{section}.images: {folder.NAME!r} uses all images in all folders; leave {section}.images out, or set "
            f"{section}.archive to the folder of the images"
        )


def _hint(section: str, dataset: Dataset) -> str:
    """Return advice for a name that is not known and has no archive."""
    if dataset.name == folder.NAME:
        return f"for example {section}.archive=my/images"
    names = ["synthetic", folder.NAME, *KNOWN]
    similar = difflib.get_close_matches(dataset.name, names, n=1)
    return f"did you mean {similar[0]}?" if similar else f"known data sets are: {', '.join(names)}"


def _check_known_dataset(section: str, dataset: Dataset, known: KnownDataset) -> None:
    if dataset.archive:
        raise ConfigError(
            f"{section}.archive: {dataset.name!r} is a known data set, whose files are searched in download.data_path; leave "
            f"{section}.archive empty, or give the data set another name"
        )
    if dataset.part and dataset.part not in known.parts:
        parts = ", ".join(filter(None, known.parts)) or "none"
        raise ConfigError(f"{section}.part: {dataset.part!r} is not a part of {dataset.name}; there are: {parts}")


def _check_eyes(config: Config, dataset: Dataset, purpose: str) -> None:
    """Check that a known data set has the landmarks `evaluate.eyes`; `purpose` says what they are needed for."""
    known = KNOWN.get(dataset.name)
    if known is None or not known.landmarks:
        return
    missing = [name for name in config.evaluate.eyes if name not in known.landmarks]
    if missing:
        raise ConfigError(
            f"evaluate.eyes: {dataset.name} has no {' and '.join(missing)}; {purpose} {' and '.join(known.eyes)}"
        )
