"""Checks of settings that depend on each other or on a format, one function per subject."""

import re
import urllib.parse
from pathlib import Path
from typing import Iterator, List, Tuple

from fse.ascend import options
from fse.config.schema import Config, Crop, Dataset, Train, for_evaluation
from fse.errors import ConfigError
from fse.redaction import redact_url

# Ports above this leave no room for the ports of the ranks, which follow that of their host.
_MAX_PORT = 65_000


def check(config: Config, source: str) -> None:
    """Check a configuration whose settings have the right types and ranges.

    Raises:
      ConfigError: lists all problems. `source` names the origin of the configuration.
    """
    problems = [
        *_name_problems(config.experiment.name),
        *_dataset_problems(config),
        *_url_problems(config),
        *_crop_problems(config),
        *_test_annotation_problems(config),
        *_device_problems(config.train),
        *_npu_problems(config),
        *_evaluation_problems(config),
    ]
    if problems:
        raise ConfigError(f"{source}: {'; '.join(problems)}")


def _name_problems(name: str) -> Iterator[str]:
    if not re.match(r"[A-Za-z0-9][\w.-]*\Z", name):
        yield f"experiment.name {name!r} must consist of letters, digits, '.', '_' and '-'"
    if name == "artifacts":
        yield "experiment.name 'artifacts' is the folder of the stages' outputs; choose another"


def _dataset_problems(config: Config) -> Iterator[str]:
    for section, dataset in _datasets(config):
        if dataset.sha256 and not re.match(r"[0-9a-fA-F]{64}\Z", dataset.sha256):
            yield f"{section}.sha256 must be 64 hexadecimal digits, got {dataset.sha256!r}"
        for key in ("images", "annotations"):
            value = getattr(dataset, key)
            if Path(value).is_absolute() or ".." in Path(value).parts:
                yield f"{section}.{key} must be a path inside the archive, got {value!r}"


def _datasets(config: Config) -> List[Tuple[str, Dataset]]:
    """Return the data sets of training and evaluation with the names of their sections."""
    pairs = [("dataset", config.dataset)]
    if config.evaluate_dataset:
        pairs.append(("evaluate.dataset", config.evaluate_dataset))
    return pairs


def _url_problems(config: Config) -> Iterator[str]:
    urls = [("download.mirrors", mirror) for mirror in config.download.mirrors]
    urls += [(f"{section}.archive", dataset.archive) for section, dataset in _datasets(config)]
    for name, url in urls:
        try:
            host = urllib.parse.urlsplit(url).netloc
        except ValueError as error:
            yield f"{name} is not a valid URL ({error})"
            continue
        if "@" in host:
            yield (
                f"{name} must not hold a user or password, because outputs repeat the URL; put them into ~/.netrc and "
                f"write {redact_url(url)}"
            )
        if name == "download.mirrors" and not url.lower().startswith(("http://", "https://")):
            yield f"download.mirrors must be http(s):// URLs, got {redact_url(url)!r}"


def _crop_problems(config: Config) -> Iterator[str]:
    yield from _one_crop_problems("crop", config.crop, config.network.view)
    if config.evaluate_crop:
        yield from _one_crop_problems("evaluate.crop", config.evaluate_crop, config.network.view)


def _one_crop_problems(section: str, crop: Crop, view: int) -> Iterator[str]:
    """Yield contradictions within the section of a crop, or between it and the view."""
    if (crop.size - view) % 2:
        yield (
            f"{section}.size - network.view must be even, got {crop.size} - {view}: the view is the crop's center, pixel "
            "for pixel"
        )
    if view > crop.size:
        yield f"network.view ({view}) cannot exceed {section}.size ({crop.size}); the view is a part of the crop"
    for key, count in (("margins", 4), ("shift", 2)):
        if len(getattr(crop, key)) != count:
            yield f"{section}.{key} must be {count} numbers, got {list(getattr(crop, key))}"
    if any(crop.margins) and crop.mode in ("box", "landmarks"):
        yield f"{section}.margins are for {section}.mode center and squash, not {crop.mode}"


def _test_annotation_problems(config: Config) -> Iterator[str]:
    """Yield a problem if annotations place the crops of test images without the permission to do so."""
    crop = for_evaluation(config).crop
    if crop.mode in ("box", "landmarks") and not crop.reads_test_annotations:
        section = "evaluate.crop" if config.evaluate_crop else "crop"
        yield (
            f"{section}.mode {crop.mode!r} crops test images by their annotations, which underestimates the error on "
            f"unannotated images; if the protocol asks for it, set {section}.reads_test_annotations = true, which the report "
            "repeats; otherwise choose center or squash"
        )


def _device_problems(train: Train) -> Iterator[str]:
    for host in train.hosts:
        if not re.match(r"[^\s:]+:[1-9]\d{0,4}\Z", host) or int(host.rpartition(":")[2]) > _MAX_PORT:
            yield f"train.hosts must be name:port with a port of at most {_MAX_PORT}, got {host!r}"
    if len({*train.hosts}) != len(train.hosts):
        yield f"train.hosts lists a host twice: {', '.join(train.hosts)}"
    if train.rank_table and train.device != "npu":
        yield f"train.rank_table is for train.device 'npu', not {train.device!r}"
    if train.loss_scale and train.loss_scale < 1.0:
        yield f"train.loss_scale must be at least 1, or 0 to adapt it during training, got {train.loss_scale}"


def _npu_problems(config: Config) -> Iterator[str]:
    if config.train.device == "npu":
        yield from options.violated(config.npu, config.train)


def _evaluation_problems(config: Config) -> Iterator[str]:
    if len(config.evaluate.eyes) != 2:
        yield f"evaluate.eyes must be two landmark names, got {list(config.evaluate.eyes)}"
