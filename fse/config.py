"""The configuration of an experiment: typed, frozen, strict.

A TOML file holds one table per section of `Config`; what it leaves out keeps its default. The defaults are the
hyper-parameters of the public code this project replaces (Ascend ModelZoo, Factorized_ID1301). An unknown key, a wrong
type, a value out of range or an impossible combination is a `ConfigError` before anything runs.
"""

import dataclasses
import difflib
import json
import re
import sys
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from fse.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# Settings that name files or folders; in a file they are relative to it.
_PATHS = (("dataset", "archive"), ("download", "data_path"))


def _setting(
    default: Any, help: str, low: Optional[float] = None, high: Optional[float] = None, choices: tuple = ()
) -> Any:
    """A field with its one-line description and its range (both ends included) or its permitted values."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Experiment:
    name: str = _setting("synthetic", "names the folder of results; letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class Dataset:
    """Which pictures and annotations; see `fse.datasets`."""

    name: str = _setting("synthetic", "'synthetic' renders faces; one of fse.datasets.KNOWN; any other reads `archive`")
    part: str = _setting("", "which pictures of a known data set to train on; '' is its first part")
    archive: str = _setting("", "zip or tar file, folder, file:// or http(s):// address; '' for known data sets")
    sha256: str = _setting("", "checksum of the archive, 64 hexadecimal digits; '' accepts any")
    images: str = _setting("images", "folder of the pictures inside the archive")
    annotations: str = _setting(
        "landmarks.csv", "annotation file inside the archive; without it there are no landmarks"
    )
    max_gigabytes: float = _setting(64.0, "an archive that unpacks to more is refused", 0.001)
    max_files: int = _setting(2_000_000, "an archive with more entries is refused", 1)
    train: int = _setting(3000, "synthetic: number of training pictures", 1, 10_000_000)
    test: int = _setting(600, "synthetic: number of test pictures", 1, 10_000_000)
    size: int = _setting(128, "synthetic: width and height of a picture, in pixels", 32, 1024)
    seed: int = _setting(1234, "synthetic: seed of the renderer", 0, 2**31 - 1)


@dataclass(frozen=True)
class Download:
    """How archives are brought here, which says nothing about what is in them; see `fse.datasets.source`."""

    data_path: str = _setting(
        "", "folder where archives lie already, or are to be put; what is there is not downloaded"
    )
    mirrors: Tuple[str, ...] = _setting((), "http(s):// addresses of folders that hold copies, tried first")


@dataclass(frozen=True)
class Crop:
    """How a picture becomes a square; see `fse.squares`."""

    mode: str = _setting("centre", "which square is cut out", choices=("centre", "squash", "box", "landmarks"))
    size: int = _setting(
        146, "width and height of the stored square, in pixels (the replaced codes' scale_size)", 16, 1024
    )
    margins: Tuple[int, ...] = _setting(
        (0, 0, 0, 0), "centre, squash: pixels cut off the picture's left, top, right and bottom before", 0, 100_000
    )
    scale: float = _setting(
        1.0,
        "side of the square: of the picture's shorter side (centre), of both (squash), of the box's side (box)",
        0.05,
        10.0,
    )
    box_side: str = _setting("longer", "box: the side that `scale` is relative to", choices=("longer", "width"))
    shift: Tuple[float, ...] = _setting(
        (0.0, 0.0), "shift of the square to the right and down, as shares of its width and height", -1.0, 1.0
    )
    face_width: float = _setting(0.33, "landmarks: distance of the eyes, as a share of the square's side", 0.02, 0.9)
    overhang: float = _setting(
        0.0, "how far outside its picture a landmark may lie, as a share of the picture's longer side", 0.0, 10.0
    )
    max_pixels: int = _setting(64_000_000, "a picture with more pixels is left out", 1)
    max_skipped: float = _setting(0.01, "share of unusable pictures above which the stage fails", 0.0, 1.0)
    processes: int = _setting(0, "parallel processes; 0 is one per processor", 0, 512)


@dataclass(frozen=True)
class Records:
    """How TFRecord shards are cut; see `fse.records`."""

    shards: int = _setting(4, "number of shards per split", 1, 10_000)


@dataclass(frozen=True)
class Augment:
    """Random warps and photometric changes of a training view; see `fse.augment`. Standard deviations, cut off at two."""

    control_points: int = _setting(5, "thin-plate spline control points per side of the grid", 2, 20)
    rotation: float = _setting(0.2, "standard deviation of the rotation, in radians", 0.0, 1.5)
    scale: float = _setting(0.1, "standard deviation of the natural logarithm of the scale", 0.0, 0.5)
    shift: float = _setting(0.1, "standard deviation of the shift, in half-widths of the view", 0.0, 0.5)
    bend: float = _setting(0.035, "standard deviation of a control point's own displacement, in half-widths", 0.0, 0.2)
    flip: bool = _setting(True, "mirror half of the pictures")
    views: int = _setting(2, "views of each picture in a batch, every two of which are a training pair", 2, 16)
    brightness: float = _setting(0.1, "standard deviation of an added grey, in [0, 1]", 0.0, 1.0)
    contrast: float = _setting(0.2, "standard deviation of the logarithm of the contrast", 0.0, 1.0)
    colour: float = _setting(0.05, "standard deviation of an added value per colour channel", 0.0, 1.0)


@dataclass(frozen=True)
class Network:
    """The detector; see `fse.network`."""

    name: str = _setting("paper", "layer stack, one of fse.network.NETWORKS")
    landmarks: int = _setting(8, "K, the number of landmarks to discover", 1, 512)
    view: int = _setting(
        146, "pixels of the crop's centre that the network sees (the replaced codes' crop_size)", 16, 1024
    )


@dataclass(frozen=True)
class Loss:
    """Weights of the objective; see `fse.losses`."""

    align_weight: float = _setting(1.0, "weight of the alignment loss, in squared cells of 1/64 of the view", 0.0)
    variance_weight: float = _setting(
        1.0, "share of the maps' variance in the alignment loss; 1 is the paper's", 0.0, 1.0
    )
    diversity_weight: float = _setting(500.0, "weight of the diversity loss of a pair of views", 0.0)
    diversity_window: int = _setting(4, "M, the side of the diversity loss's pooling window, in map cells", 1, 64)
    weight_decay: float = _setting(5e-4, "weight of the convolution kernels' L2 norm", 0.0)


@dataclass(frozen=True)
class Train:
    """Optimisation; see `fse.training`."""

    batch_size: int = _setting(32, "pictures per step", 1, 65_536)
    epochs: int = _setting(200, "passes over the training pictures", 1)
    steps: int = _setting(0, "number of steps; 0 leaves it to `epochs`", 0)
    learning_rate: float = _setting(1e-4, "Adam's step size at the start", 1e-12, 10.0)
    beta1: float = _setting(0.5, "Adam's first decay rate", 0.0, 0.999999)
    schedule: str = _setting("constant", "course of the learning rate", choices=("constant", "cosine"))
    average: float = _setting(
        0.0,
        "decay a step of the moving average of the weights, which is then what is exported; 0 is without",
        0.0,
        0.999999,
    )
    warmup: int = _setting(0, "steps over which the learning rate first rises from zero", 0)
    seed: int = _setting(1234, "seed of weights, data order, warps and colours", 0, 2**31 - 1)
    summary_freq: int = _setting(20, "steps between log lines and TensorBoard summaries", 1)
    save_freq: int = _setting(500, "steps between checkpoints", 1)
    keep_checkpoints: int = _setting(3, "number of checkpoints kept", 1)
    shuffle_buffer: int = _setting(20_000, "records from which the next picture is drawn at random", 1)
    device: str = _setting("cpu", "where to compute", choices=("cpu", "gpu", "npu"))
    threads: int = _setting(0, "processor threads for computing; 0 is one per processor", 0, 1024)


@dataclass(frozen=True)
class Export:
    """See `fse.export`."""

    tolerance: float = _setting(1e-4, "largest permitted difference between checkpoint and exported model", 0.0)
    pictures: int = _setting(32, "number of pictures on which the two are compared", 1)


@dataclass(frozen=True)
class Evaluate:
    """See `fse.evaluation`."""

    eyes: Tuple[str, ...] = _setting(("left_eye", "right_eye"), "the two landmarks whose distance normalises errors")
    batch_size: int = _setting(64, "pictures per run of the model", 1, 4096)
    seed: int = _setting(4321, "seed of the test set's warps, the n-shot curve's draws and the bootstrap", 0, 2**31 - 1)
    shots: Tuple[int, ...] = _setting(
        (1, 5, 10, 100), "numbers of training annotations on the n-shot curve, which ends with all of them", 1, 10**9
    )
    draws: int = _setting(10, "random draws of each number of annotations", 1, 10_000)
    bootstrap: int = _setting(1000, "resampled test sets behind the 95 % intervals", 1, 1_000_000)


@dataclass(frozen=True)
class Report:
    """See `fse.report`."""

    examples: int = _setting(12, "test pictures shown with their landmarks", 1, 200)


@dataclass(frozen=True)
class Config:
    """A whole experiment. `load` reads one from a file."""

    experiment: Experiment = Experiment()
    dataset: Dataset = Dataset()
    download: Download = Download()
    crop: Crop = Crop()
    records: Records = Records()
    augment: Augment = Augment()
    network: Network = Network()
    loss: Loss = Loss()
    train: Train = Train()
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()


def load(path: Union[str, Path, None] = None, overrides: str = "") -> Config:
    """Reads an experiment.

    Args:
      path: a TOML file (or the same as JSON, `*.json`), or the name of a configuration that ships with the package
        (`synthetic`, `celeba`, …). None is `synthetic`. Relative paths in the file are relative to the file's folder.
      overrides: `dotted.key=value` pairs, comma-separated, values as in TOML (a bare word is taken as a string).
        Relative paths here are relative to the current folder.

    Raises:
      ConfigError: the file cannot be read, or a value in it or in `overrides` cannot be meant.
    """
    file = find(path)
    tables = read(file)
    changes = parse_overrides(overrides)
    _anchor(changes, Path.cwd())
    for section, values in changes.items():
        if isinstance(tables.get(section, {}), dict):
            tables.setdefault(section, {}).update(values)
    return from_tables(tables, str(file) + (" with --set {}".format(overrides) if overrides else ""))


def read(file: Path) -> Dict[str, Any]:
    """What a file sets, section by section, unchecked; relative paths made absolute.

    Raises:
      ConfigError: the file cannot be read.
    """
    parse = json.loads if file.suffix == ".json" else tomllib.loads
    try:
        tables = parse(file.read_bytes().decode())
    except OSError as error:
        raise ConfigError("configuration {}: cannot be read ({})".format(file, error.strerror)) from None
    except ValueError as error:  # of TOML, JSON and UTF-8 alike
        raise ConfigError("configuration {}: not valid {}: {}".format(file, file.suffix[1:].upper(), error)) from None
    if not isinstance(tables, dict):
        raise ConfigError("configuration {}: wanted sections, got {!r}".format(file, tables))
    _anchor(tables, file.resolve().parent)
    return dict(tables)


def shipped() -> Dict[str, Path]:
    """The configurations that come with the package, by name."""
    here = Path(__file__).resolve().parent
    folder = here / "configs"  # installed
    if not folder.is_dir():
        folder = here.parent / "configs"  # a source checkout
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find(path: Union[str, Path, None]) -> Path:
    """The file that `--config` means: a path, or the name of a shipped configuration.

    Raises:
      ConfigError: there is neither such a file nor such a name.
    """
    wanted = str(path) if path else "synthetic"
    if Path(wanted).is_file():
        return Path(wanted)
    names = shipped()
    if wanted in names:
        return names[wanted]
    raise ConfigError(
        "configuration {}: no such file, and no configuration of that name (there are: {})".format(
            wanted, ", ".join(names)
        )
    )


def from_tables(tables: Dict[str, Any], source: str = "configuration") -> Config:
    """A checked `Config` from nested dictionaries (a parsed TOML or JSON file).

    Raises:
      ConfigError: names the key, what was wanted and what was given, and `source`.
    """
    sections = {}
    known = {item.name: item.type for item in dataclasses.fields(Config)}
    for section, values in tables.items():
        if section not in known:
            raise ConfigError("{}: unknown section [{}]{}".format(source, section, _nearest(section, "", known)))
        if not isinstance(values, dict):
            raise ConfigError("{}: {} must be a section, [{}], not a value".format(source, section, section))
        sections[section] = _section(known[section], section, values, source)
    config = Config(**sections)
    _check_combinations(config, source)
    return config


def as_tables(config: Config) -> Dict[str, Dict[str, Any]]:
    """The configuration as nested dictionaries that JSON can hold; `from_tables` reads them back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def shown(config: Config) -> Dict[str, Dict[str, Any]]:
    """The configuration as `as_tables`, for others to see: addresses as `label` shows them."""
    tables = as_tables(config)
    tables["dataset"]["archive"] = label(tables["dataset"]["archive"])
    tables["download"]["mirrors"] = [label(mirror) for mirror in tables["download"]["mirrors"]]
    return tables


def label(address: str) -> str:
    """The address as it may be shown: without user, password, query and fragment."""
    if "://" not in address:
        return address
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def parse_overrides(text: str) -> Dict[str, Dict[str, Any]]:
    """Parses `section.key=value,section.key=value` into nested dictionaries.

    Raises:
      ConfigError: a part has no `section.key=`, or its value is neither TOML nor a bare word.
    """
    tables: Dict[str, Dict[str, Any]] = {}
    for part in _split(text):
        match = re.match(r"\s*([A-Za-z_]\w*)\.([A-Za-z_]\w*)\s*=(.*)\Z", part, re.DOTALL)
        if not match:
            raise ConfigError("--set {!r}: wanted section.key=value, for example train.learning_rate=3e-4".format(part))
        section, key, value = match.group(1), match.group(2), match.group(3).strip()
        tables.setdefault(section, {})[key] = _value(value, part)
    return tables


def _split(text: str) -> Iterator[str]:
    """Cuts at the commas that stand outside quotes and brackets."""
    part, depth, quote = "", 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if character == "," and not depth and not quote:
            yield part
            part = ""
        else:
            part += character
    if part.strip():
        yield part


def _value(text: str, part: str) -> Any:
    try:
        return tomllib.loads("value = " + text)["value"]
    except tomllib.TOMLDecodeError:
        if re.match(r"[A-Za-z./~][^\"'\[\]{}\n]*\Z", text):
            return text
        raise ConfigError("--set {!r}: {!r} is not a TOML value (strings take quotes)".format(part, text)) from None


def _section(kind: Any, section: str, values: Dict[str, Any], source: str) -> Any:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    checked = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError("{}: unknown key {}.{}{}".format(source, section, key, _nearest(key, section, fields)))
        checked[key] = _checked(fields[key], "{}.{}".format(section, key), value, source)
    return kind(**checked)


def _checked(item: "dataclasses.Field[Any]", name: str, value: Any, source: str) -> Any:
    default: Any = item.default
    wanted = type(default)
    if wanted is float and type(value) is int:
        value = float(value)
    entries = value if wanted is tuple else [value]
    kind = (type(default[0]) if default else str) if wanted is tuple else wanted
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    lists = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of strings"}
    if kind is float and wanted is tuple and isinstance(entries, (list, tuple)):
        value = entries = [float(entry) if type(entry) is int else entry for entry in entries]
    if not isinstance(entries, (list, tuple)) or any(type(entry) is not kind for entry in entries):
        meant = (lists if wanted is tuple else kinds)[kind]
        raise ConfigError("{}: {} wants {} ({}), got {!r}".format(source, name, meant, item.metadata["help"], value))
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    if kind is float and any(entry != entry for entry in entries):
        raise ConfigError("{}: {} is not a number".format(source, name))
    if any((low is not None and entry < low) or (high is not None and entry > high) for entry in entries):
        limits = "at least {}".format(low) if high is None else "between {} and {}".format(low, high)
        raise ConfigError("{}: {} must be {} ({}), got {!r}".format(source, name, limits, item.metadata["help"], value))
    if choices and value not in choices:
        hint = _nearest(str(value), "", dict.fromkeys(choices))
        raise ConfigError("{}: {} must be one of {}, got {!r}{}".format(source, name, ", ".join(choices), value, hint))
    return tuple(value) if wanted is tuple else value


def _nearest(name: str, section: str, known: Dict[str, Any]) -> str:
    """`; did you mean …?` with the most similar known name, looked for in the section first and then everywhere."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return "; did you mean {}?".format("{}.{}".format(section, close[0]) if section else close[0])
    everywhere = {
        item.name: "{}.{}".format(part.name, item.name)
        for part in dataclasses.fields(Config)
        for item in dataclasses.fields(part.type)  # type: ignore[arg-type]
    }
    close = difflib.get_close_matches(name, everywhere, n=1)
    if close:
        return "; did you mean {}?".format(everywhere[close[0]])
    return "; known: {}".format(", ".join(known))


def _check_combinations(config: Config, source: str) -> None:
    problems: List[str] = []
    if not re.match(r"[A-Za-z0-9][\w.-]*\Z", config.experiment.name):
        problems.append("experiment.name {!r} must be letters, digits, '.', '_' and '-'".format(config.experiment.name))
    if config.experiment.name == "artifacts":
        problems.append("experiment.name 'artifacts' is the folder of the stages' outputs; choose another")
    addresses = [("dataset.archive", config.dataset.archive)]
    addresses += [("download.mirrors", mirror) for mirror in config.download.mirrors]
    for key, address in addresses:
        if "@" in urllib.parse.urlsplit(address).netloc:
            problems.append(
                "{} must not hold a user or password, which would be written into outputs; put them into ~/.netrc and "
                "write {}".format(key, label(address))
            )
    for mirror in config.download.mirrors:
        if not mirror.lower().startswith(("http://", "https://")):
            problems.append("download.mirrors wants http(s):// addresses, got {!r}".format(mirror))
    if config.dataset.sha256 and not re.match(r"[0-9a-fA-F]{64}\Z", config.dataset.sha256):
        problems.append("dataset.sha256 must be 64 hexadecimal digits, got {!r}".format(config.dataset.sha256))
    for key in ("images", "annotations"):
        value = getattr(config.dataset, key)
        if Path(value).is_absolute() or ".." in Path(value).parts:
            problems.append("dataset.{} must stay inside the archive, got {!r}".format(key, value))
    if (config.crop.size - config.network.view) % 2:
        problems.append("crop.size - network.view must be even: the view is the middle of the crop, pixel for pixel")
    if config.network.view > config.crop.size:
        problems.append(
            "network.view ({}) cannot exceed crop.size ({}): it is the part of the crop that the network sees".format(
                config.network.view, config.crop.size
            )
        )
    for key, count in (("margins", 4), ("shift", 2)):
        if len(getattr(config.crop, key)) != count:
            problems.append("crop.{} wants {} numbers, got {}".format(key, count, list(getattr(config.crop, key))))
    if any(config.crop.margins) and config.crop.mode in ("box", "landmarks"):
        problems.append("crop.margins are for crop.mode centre and squash, not {}".format(config.crop.mode))
    if len(config.evaluate.eyes) != 2:
        problems.append("evaluate.eyes wants two landmark names, got {}".format(list(config.evaluate.eyes)))
    if problems:
        raise ConfigError("{}: {}".format(source, "; ".join(problems)))


def _anchor(tables: Dict[str, Any], folder: Path) -> None:
    """Makes relative paths of archives and their folder absolute, in place."""
    for section, key in _PATHS:
        values = tables.get(section)
        path = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(path, str) and path and "://" not in path:
            values[key] = str((folder / Path(path).expanduser()).resolve())
