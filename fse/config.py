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
_PATHS = (("dataset", "archive"), ("evaluate.dataset", "archive"), ("download", "data_path"), ("train", "init_from"))


def _setting(
    default: Any, help: str, low: Optional[float] = None, high: Optional[float] = None, choices: tuple = ()
) -> Any:
    """A field with its one-line description and its range (both ends included) or its permitted values."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


setting = _setting  # for sections of other files than an experiment's


@dataclass(frozen=True)
class Experiment:
    name: str = _setting("synthetic", "names the folder of results; letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class Dataset:
    """Which images and annotations; see `fse.datasets`."""

    name: str = _setting(
        "synthetic", "'synthetic' renders faces; one of fse.datasets.KNOWN; 'folder' and any other read `archive`"
    )
    part: str = _setting("", "which images of a known data set to train on; '' is its first part")
    archive: str = _setting("", "zip, tar or 7z file, folder, file://, http(s):// or drive:ID; '' for known data sets")
    sha256: str = _setting("", "checksum of the archive, 64 hexadecimal digits; '' accepts any")
    images: str = _setting("images", "folder of the images inside the archive; of 'folder' they may lie anywhere")
    annotations: str = _setting(
        "landmarks.csv", "annotation file inside the archive; without it there are no landmarks"
    )
    max_gigabytes: float = _setting(64.0, "an archive that unpacks to more is refused", 0.001)
    max_files: int = _setting(2_000_000, "an archive with more entries is refused", 1)
    train: int = _setting(3000, "synthetic: number of training images", 1, 10_000_000)
    test: int = _setting(600, "synthetic: number of test images", 1, 10_000_000)
    size: int = _setting(128, "synthetic: width and height of an image, in pixels", 32, 1024)
    test_share: float = _setting(
        0.1, "folder: share of the images to test on, where the annotation file has no column `split`", 0.0, 1.0
    )
    seed: int = _setting(1234, "synthetic: seed of the renderer; folder: of the draw of test images", 0, 2**31 - 1)


@dataclass(frozen=True)
class Download:
    """How archives are brought here, which says nothing about what is in them; see `fse.datasets.source`."""

    data_path: str = _setting(
        "", "folder where archives lie already, or are to be put; what is there is not downloaded"
    )
    mirrors: Tuple[str, ...] = _setting((), "http(s):// addresses of folders that hold copies, tried first")
    timeout: float = _setting(
        86_400.0, "seconds that bringing one file may take; what came by then is gone on from in the next run", 1.0, 1e7
    )
    stall: float = _setting(
        60.0, "seconds without a byte after which a connection is given up and made anew", 0.01, 1e5
    )


@dataclass(frozen=True)
class Crop:
    """How an image becomes a square; see `fse.preprocessing.crop_frame`."""

    mode: str = _setting("center", "which square is cut out", choices=("center", "squash", "box", "landmarks"))
    size: int = _setting(
        146, "width and height of the stored square, in pixels (the replaced codes' scale_size)", 16, 1024
    )
    format: str = _setting(
        "png", "how crops are stored: exactly, or as JPEG in a third of the space and time", choices=("png", "jpeg")
    )
    quality: int = _setting(95, "JPEG: quality; more than 95 is hardly better", 1, 100)
    margins: Tuple[int, ...] = _setting(
        (0, 0, 0, 0), "center, squash: pixels cut off the image's left, top, right and bottom before", 0, 100_000
    )
    scale: float = _setting(
        1.0,
        "side of the square: of the image's shorter side (center), of both (squash), of the box's side (box)",
        0.05,
        10.0,
    )
    box_side: str = _setting("longer", "box: the side that `scale` is relative to", choices=("longer", "width"))
    shift: Tuple[float, ...] = _setting(
        (0.0, 0.0), "shift of the square to the right and down, as shares of its width and height", -1.0, 1.0
    )
    eye_distance: float = _setting(0.33, "landmarks: distance of the eyes, as a share of the square's side", 0.02, 0.9)
    overhang: float = _setting(
        0.0, "how far outside its image a landmark may lie, as a share of the image's longer side", 0.0, 10.0
    )
    reads_test_annotations: bool = _setting(
        False, "box, landmarks: yes, annotations say where the squares of test images lie; said again in the report"
    )
    max_pixels: int = _setting(64_000_000, "an image with more pixels is left out", 1)
    max_skipped: float = _setting(0.01, "share of unusable images above which the stage fails", 0.0, 1.0)
    processes: int = _setting(0, "parallel processes; 0 is one per processor", 0, 512)


@dataclass(frozen=True)
class Records:
    """How TFRecord shards are cut; see `fse.preprocessing.tfrecord`."""

    shards: int = _setting(4, "number of shards per split", 1, 10_000)
    processes: int = _setting(0, "parallel processes; 0 is one per processor", 0, 512)


@dataclass(frozen=True)
class Augment:
    """Random warps and photometric changes of a training view; see `fse.inputs.augment`. Standard deviations, cut off at two."""

    control_points: int = _setting(5, "thin-plate spline control points per side of the grid", 2, 20)
    rotation: float = _setting(0.2, "standard deviation of the rotation, in radians", 0.0, 1.5)
    scale: float = _setting(0.1, "standard deviation of the natural logarithm of the scale", 0.0, 0.5)
    shift: float = _setting(0.1, "standard deviation of the shift, in half-widths of the view", 0.0, 0.5)
    control_point_jitter: float = _setting(
        0.035, "standard deviation of a control point's own displacement, in half-widths", 0.0, 0.2
    )
    flip: bool = _setting(True, "mirror half of the images")
    views: int = _setting(2, "views of each image in a batch, every two of which are a training pair", 2, 16)
    brightness: float = _setting(0.1, "standard deviation of an added gray, in [0, 1]", 0.0, 1.0)
    contrast: float = _setting(0.2, "standard deviation of the logarithm of the contrast", 0.0, 1.0)
    color: float = _setting(0.05, "standard deviation of an added value per color channel", 0.0, 1.0)


@dataclass(frozen=True)
class Network:
    """The detector; see `fse.model.network`."""

    name: str = _setting("paper", "layer stack, one of fse.model.network.NETWORKS")
    landmarks: int = _setting(8, "K, the number of landmarks to discover", 1, 512)
    view: int = _setting(
        146, "pixels of the crop's center that the network sees (the replaced codes' crop_size)", 16, 1024
    )
    softargmax_radius: int = _setting(
        0, "a landmark is read from the cells this near to its map's largest; 0 is from the whole map", 0, 1024
    )
    softargmax_temperature: float = _setting(1.0, "what scores are divided by for reading a landmark", 0.01, 1000.0)


@dataclass(frozen=True)
class Loss:
    """Weights of the objective; see `fse.model.losses`."""

    align_weight: float = _setting(1.0, "weight of the alignment loss, in squared cells of 1/64 of the view", 0.0)
    variance_weight: float = _setting(
        1.0, "share of the maps' variance in the alignment loss; 1 is the paper's", 0.0, 1.0
    )
    diversity_weight: float = _setting(500.0, "weight of the diversity loss of a pair of views", 0.0)
    diversity_end: float = _setting(
        1.0, "share of the diversity weight that is left at the end; it falls along half a cosine", 0.0, 1.0
    )
    softargmax_weight: float = _setting(
        0.0, "weight of the squared distance of landmarks as they are read; it rises from zero along half a cosine", 0.0
    )
    diversity_window: int = _setting(4, "M, the side of the diversity loss's pooling window, in map cells", 1, 64)
    weight_decay: float = _setting(5e-4, "weight of the convolution kernels' L2 norm", 0.0)


@dataclass(frozen=True)
class Train:
    """Optimization; see `fse.training`."""

    batch_size: int = _setting(32, "images per step", 1, 65_536)
    epochs: int = _setting(200, "passes over the training images", 1)
    steps: int = _setting(0, "number of steps; 0 leaves it to `epochs`", 0)
    learning_rate: float = _setting(1e-4, "Adam's step size at the start", 1e-12, 10.0)
    beta1: float = _setting(0.5, "Adam's first decay rate", 0.0, 0.999999)
    schedule: str = _setting("constant", "course of the learning rate", choices=("constant", "cosine"))
    ema_decay: float = _setting(
        0.0,
        "decay a step of the moving average of the weights, which is then what is exported; 0 is without",
        0.0,
        0.999999,
    )
    init_from: str = _setting(
        "", "weights to start from: an experiment of the workspace; a path of one, of what Train wrote, of a checkpoint"
    )
    warmup: int = _setting(0, "steps over which the learning rate first rises from zero", 0)
    seed: int = _setting(1234, "seed of weights, data order, warps and colors", 0, 2**31 - 1)
    repetition: str = _setting("", "a training of another occasion is another training, though all else is the same")
    summary_freq: int = _setting(20, "steps between log lines and TensorBoard summaries", 1)
    save_freq: int = _setting(500, "steps between checkpoints", 1)
    keep_checkpoints: int = _setting(3, "number of checkpoints kept", 1)
    shuffle_buffer: int = _setting(20_000, "records from which the next image is drawn at random", 1)
    clip_norm: float = _setting(0.0, "gradients are scaled down to this global norm; 0 is without", 0.0)
    device: str = _setting("cpu", "where to compute", choices=("cpu", "gpu", "npu"))
    threads: int = _setting(0, "processor threads of a rank for computing; 0 is one per processor", 0, 1024)
    devices: int = _setting(
        0, "ranks a host, one process a card, that share each batch; 0 is one, or what the rank table lists", 0, 64
    )
    hosts: Tuple[str, ...] = _setting((), "name:port of every host that takes part; empty is this one alone")
    rank_table: str = _setting("", "npu: HCCL's rank table, a JSON file; '' makes one for the cards of this host")
    connect_timeout: int = _setting(300, "seconds to wait for other ranks at the start", 1, 7200)
    step_timeout: int = _setting(1836, "seconds a step may take, waiting for other ranks included", 1, 86_400)
    mixed_precision: str = _setting(
        "auto",
        "half precision where it is safe, with loss scaling (bfloat16 on a cpu, without); auto is on for npu only",
        choices=("auto", "on", "off"),
    )
    loss_scale: float = _setting(
        0.0, "fixed loss scale of mixed precision; 0 has it found while training", 0.0, 2.0**40
    )


@dataclass(frozen=True)
class Npu:
    """Session options of Ascend's TF Adapter, by its names; '' and -1 leave one to it. See `fse.devices.npu`."""

    precision_mode: str = _setting(
        "",
        "'' follows train.mixed_precision",
        choices=(
            "",
            "allow_mix_precision",
            "allow_mix_precision_fp16",
            "allow_fp32_to_fp16",
            "force_fp32",
            "force_fp16",
            "cube_fp16in_fp32out",
            "must_keep_origin_dtype",
        ),
    )
    precision_mode_v2: str = _setting(
        "", "instead of precision_mode", choices=("", "fp16", "origin", "cube_fp16in_fp32out", "mixed_float16")
    )
    modify_mixlist: str = _setting("", "JSON file: operators that mixed precision does or does not lower")
    customize_dtypes: str = _setting("", "file: data types of single operators")
    op_precision_mode: str = _setting("", "ini file: precision of single operators' kernels")
    op_select_implmode: str = _setting(
        "",
        "kernels by precision or by speed",
        choices=("", "high_precision", "high_performance", "high_precision_for_all", "high_performance_for_all"),
    )
    optypelist_for_implmode: str = _setting("", "operators that op_select_implmode is about")
    deterministic: int = _setting(-1, "1: deterministic kernels, slower", -1, 1)
    iterations_per_loop: int = _setting(1, "steps per call of the device", 1, 10_000)
    enable_data_pre_proc: bool = _setting(False, "the device fetches its input itself; needed for several steps a call")
    mix_compile_mode: bool = _setting(False, "operators that the device lacks run on the host")
    hcom_parallel: bool = _setting(True, "gradients are averaged while others are computed")
    graph_run_mode: int = _setting(1, "1: training", 0, 1)
    op_debug_level: int = _setting(-1, "not 0 switches the compiler's cache off", -1, 4)
    fusion_switch_file: str = _setting("", "JSON file: fusions to leave out")
    op_compiler_cache_mode: str = _setting("", "the compiler's cache", choices=("", "enable", "force", "disable"))
    op_compiler_cache_dir: str = _setting("", "folder of the compiler's cache")
    aoe_mode: str = _setting("", "tuning: 1 subgraphs, 2 operators, 4 gradient splits", choices=("", "1", "2", "4"))
    work_path: str = _setting("", "folder of the tuning's work")
    aoe_config_file: str = _setting("", "JSON file of the tuning's settings")
    profiling_mode: bool = _setting(False, "record a profile")
    profiling_options: str = _setting("", "what to record, a JSON object")
    enable_dump: bool = _setting(False, "write operators' inputs and outputs to dump_path")
    dump_path: str = _setting("", "an existing folder")
    dump_step: str = _setting("", "steps to write, as '0|5|10' or '3-5'")
    dump_mode: str = _setting("", "what to write", choices=("", "input", "output", "all"))
    enable_dump_debug: bool = _setting(False, "write operators that overflow to dump_path")
    dump_debug_mode: str = _setting("", "which overflows", choices=("", "aicore_overflow", "atomic_overflow", "all"))
    enable_exception_dump: int = _setting(-1, "what to write when an operator fails", -1, 2)
    hccl_timeout: int = _setting(-1, "seconds that ranks wait for each other within a step", -1, 86_400)
    op_wait_timeout: int = _setting(-1, "seconds that an operator waits", -1, 86_400)
    op_execute_timeout: int = _setting(-1, "seconds that an operator may take", -1, 86_400)
    stream_max_parallel_num: str = _setting("", "parallel streams per engine")
    variable_placement: str = _setting("", "where variables are", choices=("", "Device", "Host"))


@dataclass(frozen=True)
class Export:
    """See `fse.inference.export`."""

    tolerance: float = _setting(1e-4, "largest permitted difference between checkpoint and exported model", 0.0)
    images: int = _setting(32, "number of images on which the two are compared", 1)
    soc_version: str = _setting("", "chip of Ascend's offline model, such as Ascend910A; '' asks npu-smi")
    aoe: str = _setting(
        "",
        "AOE tunes for the offline model first, on this host's card: subgraphs, operators, or one after the other",
        choices=("", "subgraphs", "operators", "both"),
    )
    offline_batch: int = _setting(1, "images per run of the offline model", 1, 4096)
    offline_seconds: int = _setting(1800, "seconds that making the offline model may take; tuning takes hours", 1)


@dataclass(frozen=True)
class Evaluate:
    """See `fse.evaluation`."""

    eyes: Tuple[str, ...] = _setting(("left_eye", "right_eye"), "the two landmarks whose distance normalizes errors")
    batch_size: int = _setting(64, "images per run of the model", 1, 4096)
    seed: int = _setting(4321, "seed of the test set's warps, the n-shot curve's draws and the bootstrap", 0, 2**31 - 1)
    shots: Tuple[int, ...] = _setting(
        (1, 5, 10, 100), "numbers of training annotations on the n-shot curve, which ends with all of them", 1, 10**9
    )
    samples: int = _setting(10, "random draws of each number of annotations", 1, 10_000)
    bootstrap: int = _setting(1000, "resampled test sets behind the 95 % intervals", 1, 1_000_000)


@dataclass(frozen=True)
class Report:
    """See `fse.report`."""

    examples: int = _setting(12, "test images shown with their landmarks", 1, 200)


@dataclass(frozen=True)
class Config:
    """A whole experiment. `load` reads one from a file.

    evaluate_dataset, evaluate_crop: the sections [evaluate.dataset] and [evaluate.crop], where evaluation has other data
    than training, or other crops; None where it has the same.
    """

    experiment: Experiment = Experiment()
    dataset: Dataset = Dataset()
    download: Download = Download()
    crop: Crop = Crop()
    records: Records = Records()
    augment: Augment = Augment()
    network: Network = Network()
    loss: Loss = Loss()
    train: Train = Train()
    npu: Npu = Npu()
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    evaluate_dataset: Optional[Dataset] = None
    evaluate_crop: Optional[Crop] = None
    report: Report = Report()


# The sections of a file by name; those of evaluation's own data may be absent.
_OWN = {"evaluate_dataset": Dataset, "evaluate_crop": Crop}
SECTIONS: Dict[str, Any] = {
    item.name.replace("_", "."): _OWN.get(item.name, item.type) for item in dataclasses.fields(Config)
}


def evaluates_other_data(config: Config) -> bool:
    """Whether other images are evaluated on than trained on, or the same cropped otherwise."""
    return bool(config.evaluate_dataset or config.evaluate_crop)


def for_evaluation(config: Config) -> Config:
    """The experiment as the stages see it that bring and prepare what is evaluated on."""
    dataset, crop = config.evaluate_dataset or config.dataset, config.evaluate_crop or config.crop
    return dataclasses.replace(config, dataset=dataset, crop=crop, evaluate_dataset=None, evaluate_crop=None)


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
        _merge(tables, section, values)
    return from_tables(tables, str(file) + (f" with --set {redact_text(overrides)}" if overrides else ""))


def read(file: Path) -> Dict[str, Any]:
    """What a file sets, section by section, unchecked; relative paths made absolute.

    Raises:
      ConfigError: the file cannot be read.
    """
    parse = json.loads if file.suffix == ".json" else tomllib.loads
    try:
        tables = parse(file.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"configuration {file}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # of TOML, JSON and UTF-8 alike
        raise ConfigError(f"configuration {file}: not valid {file.suffix[1:].upper()}: {error}") from None
    if not isinstance(tables, dict):
        raise ConfigError(f"configuration {file}: wanted sections, got {tables!r}")
    tables = _flat(tables)
    _anchor(tables, file.resolve().parent)
    return tables


def shipped() -> Dict[str, Path]:
    """The experiments that come with the package, by name."""
    others = ("nightly", "baselines")
    return {file.stem: file for file in sorted(folder().glob("*.toml")) if not file.stem.startswith(others)}


def folder() -> Path:
    """Where the configurations are that come with the package."""
    here = Path(__file__).resolve().parent
    installed = here / "configs"
    return installed if installed.is_dir() else here.parent / "configs"  # a source checkout


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
    sections: Dict[str, Any] = {}
    tables = _flat(tables)
    own = tables.get("evaluate.dataset")
    if isinstance(own, dict) and own.get("name") == "":  # which overrides what a file says
        del tables["evaluate.dataset"]
    for section, values in tables.items():
        if section not in SECTIONS:
            raise ConfigError("{}: unknown section [{}]{}".format(source, section, _nearest(section, "", SECTIONS)))
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {section} must be a section, [{section}], not a value")
        if section == "evaluate.crop":
            values = dict(tables.get("crop", {}), **values)
        sections[section.replace(".", "_")] = checked_section(SECTIONS[section], section, values, source)
    if "name" not in tables.get("evaluate.dataset", {"name": ""}):
        raise ConfigError(f"{source}: evaluate.dataset.name is missing, the data set to evaluate on")
    config = Config(**sections)
    if config.evaluate_dataset == config.dataset:
        config = dataclasses.replace(config, evaluate_dataset=None)
    if config.evaluate_crop == config.crop:
        config = dataclasses.replace(config, evaluate_crop=None)
    _check_combinations(config, source)
    return config


def _flat(tables: Dict[str, Any]) -> Dict[str, Any]:
    """Sections within sections by their whole names: `evaluate.dataset`, of which a single string is the name."""
    flat: Dict[str, Any] = {}
    for section, values in tables.items():
        within = {key for key in values if section + "." + key in SECTIONS} if isinstance(values, dict) else set()
        _merge(flat, section, {key: values[key] for key in values if key not in within} if within else values)
        for key in sorted(within):
            named = isinstance(values[key], str) and section + "." + key == "evaluate.dataset"
            _merge(flat, section + "." + key, {"name": values[key]} if named else values[key])
    return flat


def _merge(tables: Dict[str, Any], section: str, values: Any) -> None:
    """Sets the values of a section in place; what is no section takes its place, and is refused later."""
    if isinstance(values, dict) and isinstance(tables.get(section, {}), dict):
        tables[section] = dict(tables.get(section, {}), **values)
    else:
        tables[section] = values


def as_tables(config: Config) -> Dict[str, Dict[str, Any]]:
    """The configuration as nested dictionaries that JSON can hold; `from_tables` reads them back."""
    sections = {name: getattr(config, name.replace(".", "_")) for name in SECTIONS}
    tables = {name: dataclasses.asdict(section) for name, section in sections.items() if section is not None}
    return json.loads(json.dumps(tables))


def redact_config(config: Config) -> Dict[str, Dict[str, Any]]:
    """The configuration as `as_tables`, for others to see: addresses as `label` shows them."""
    tables = as_tables(config)
    for section in {"dataset", "evaluate.dataset"} & {*tables}:
        tables[section]["archive"] = redact_url(tables[section]["archive"])
    tables["download"]["mirrors"] = [redact_url(mirror) for mirror in tables["download"]["mirrors"]]
    return tables


def is_remote(address: str) -> bool:
    """Whether an archive at this address is downloaded: http(s)://, or drive:ID of Google Drive."""
    return address.lower().startswith(("http://", "https://", "drive:"))


def redact_url(address: str) -> str:
    """The address as it may be shown: without user, password, query and fragment."""
    if "://" not in address:
        return address
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact_text(text: str) -> str:
    """A text, settings for example, as others may see it: without the queries of the addresses in it."""
    return re.sub(r"(https?://[^\s?#\"',\]]*)[?#][^\s\"',\]]*", r"\1?…", text, flags=re.IGNORECASE)


def parse_overrides(text: str) -> Dict[str, Dict[str, Any]]:
    """Parses `section.key=value,section.key=value` into dictionaries by section.

    Raises:
      ConfigError: a part has no `section.key=`, or its value is neither TOML nor a bare word.
    """
    tables: Dict[str, Dict[str, Any]] = {}
    for part in _split(text):
        match = re.match(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\.([A-Za-z_]\w*)\s*=(.*)\Z", part, re.DOTALL)
        if not match:
            raise ConfigError(
                f"--set {redact_text(part)!r}: wanted section.key=value, for example train.learning_rate=3e-4"
            )
        section, key, value = match.group(1), match.group(2), match.group(3).strip()
        tables.setdefault(section, {})[key] = _value(value, part)
    return _flat(tables)


def _split(text: str) -> Iterator[str]:
    """Cuts at the commas that stand outside quotes and brackets."""
    part, depth, quote, escaped = "", 0, "", False
    for character in text:
        if escaped:
            escaped = False
        elif quote:
            escaped = character == "\\" and quote == '"'
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
        raise ConfigError(
            f"--set {redact_text(part)!r}: {redact_text(text)!r} is not a TOML value (strings take quotes)"
        ) from None


def checked_section(kind: Any, section: str, values: Dict[str, Any], source: str) -> Any:
    """A dataclass of `setting` fields from what a file's section says; what it leaves out keeps its default.

    Raises:
      ConfigError: names the key, what was wanted and what was given, and `source`.
    """
    fields = {item.name: item for item in dataclasses.fields(kind)}
    checked = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{source}: unknown key {section}.{key}{_nearest(key, section, fields)}")
        checked[key] = _checked(fields[key], f"{section}.{key}", value, source)
    return kind(**checked)


def _checked(item: "dataclasses.Field[Any]", name: str, value: Any, source: str) -> Any:
    default: Any = item.default
    wanted = type(default)
    if wanted is float and type(value) is int:
        value = float(value)
    entries = value if wanted is tuple else [value]
    kind = type(default[0] if default else "") if wanted is tuple else wanted
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    lists = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of strings"}
    if kind is float and wanted is tuple and isinstance(entries, (list, tuple)):
        value = entries = [float(entry) if type(entry) is int else entry for entry in entries]
    if not isinstance(entries, (list, tuple)) or any(type(entry) is not kind for entry in entries):
        meant = (lists if wanted is tuple else kinds)[kind]
        raise ConfigError("{}: {} wants {} ({}), got {!r}".format(source, name, meant, item.metadata["help"], value))
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    if kind is float and any(entry != entry for entry in entries):
        raise ConfigError(f"{source}: {name} is not a number")
    if any((low is not None and entry < low) or (high is not None and entry > high) for entry in entries):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ConfigError("{}: {} must be {} ({}), got {!r}".format(source, name, limits, item.metadata["help"], value))
    if choices and value not in choices:
        hint = _nearest(str(value), "", dict.fromkeys(choices))
        raise ConfigError("{}: {} must be one of {}, got {!r}{}".format(source, name, ", ".join(choices), value, hint))
    return tuple(value) if wanted is tuple else value


def _nearest(name: str, section: str, known: Dict[str, Any]) -> str:
    """`; did you mean …?` with the most similar known name, looked for in the section first and then everywhere."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return "; did you mean {}?".format(f"{section}.{close[0]}" if section else close[0])
    everywhere = {
        item.name: f"{name}.{item.name}"
        for name, kind in reversed(list(SECTIONS.items()))  # of a name that several have, the first section's stays
        for item in dataclasses.fields(kind)
    }
    close = difflib.get_close_matches(name, everywhere, n=1)
    if close:
        return f"; did you mean {everywhere[close[0]]}?"
    return "; known: {}".format(", ".join(known))


def _check_combinations(config: Config, source: str) -> None:
    problems: List[str] = []
    if not re.match(r"[A-Za-z0-9][\w.-]*\Z", config.experiment.name):
        problems.append(f"experiment.name {config.experiment.name!r} must be letters, digits, '.', '_' and '-'")
    if config.experiment.name == "artifacts":
        problems.append("experiment.name 'artifacts' is the folder of the stages' outputs; choose another")
    addresses = [("download.mirrors", mirror) for mirror in config.download.mirrors]
    for section, dataset in (("dataset", config.dataset), ("evaluate.dataset", config.evaluate_dataset)):
        if dataset:
            problems += _dataset_problems(section, dataset)
            addresses.append((section + ".archive", dataset.archive))
    for key, address in addresses:
        try:
            urllib.parse.urlsplit(address)
        except ValueError as error:
            raise ConfigError(f"{source}: {key} is no valid address ({error})") from None
        if "@" in urllib.parse.urlsplit(address).netloc:
            problems.append(
                f"{key} must not hold a user or password, which would be written into outputs; put them into ~/.netrc and "
                f"write {redact_url(address)}"
            )
    for mirror in config.download.mirrors:
        if not mirror.lower().startswith(("http://", "https://")):
            problems.append(f"download.mirrors wants http(s):// addresses, got {redact_url(mirror)!r}")
    for section, crop in (("crop", config.crop), ("evaluate.crop", config.evaluate_crop)):
        if crop:
            problems += _crop_problems(section, crop, config.network.view)
    crop = for_evaluation(config).crop
    if crop.mode in ("box", "landmarks") and not crop.reads_test_annotations:
        section = "evaluate.crop" if config.evaluate_crop else "crop"
        problems.append(
            f"{section}.mode {crop.mode!r} places the squares of test images by their annotations, which makes errors smaller than they "
            "are on images that nobody annotated; if that is meant, as in protocols that do so, set "
            f"{section}.reads_test_annotations = true, which the report repeats; if not, choose center or squash"
        )
    problems += [*_device_problems(config.train), *_npu_problems(config.train, config.npu)]
    if len(config.evaluate.eyes) != 2:
        problems.append(f"evaluate.eyes wants two landmark names, got {list(config.evaluate.eyes)}")
    if problems:
        raise ConfigError("{}: {}".format(source, "; ".join(problems)))


def _dataset_problems(section: str, dataset: Dataset) -> Iterator[str]:
    """Settings of a data set that cannot be meant."""
    if dataset.sha256 and not re.match(r"[0-9a-fA-F]{64}\Z", dataset.sha256):
        yield f"{section}.sha256 must be 64 hexadecimal digits, got {dataset.sha256!r}"
    for key in ("images", "annotations"):
        value = getattr(dataset, key)
        if Path(value).is_absolute() or ".." in Path(value).parts:
            yield f"{section}.{key} must stay inside the archive, got {value!r}"


def _crop_problems(section: str, crop: Crop, view: int) -> Iterator[str]:
    """Settings of a crop that contradict each other or the view."""
    if (crop.size - view) % 2:
        yield f"{section}.size - network.view must be even: the view is the middle of the crop, pixel for pixel"
    if view > crop.size:
        yield f"network.view ({view}) cannot exceed {section}.size ({crop.size}): it is the part of the crop that the network sees"
    for key, count in (("margins", 4), ("shift", 2)):
        if len(getattr(crop, key)) != count:
            yield f"{section}.{key} wants {count} numbers, got {list(getattr(crop, key))}"
    if any(crop.margins) and crop.mode in ("box", "landmarks"):
        yield f"{section}.margins are for {section}.mode center and squash, not {crop.mode}"


def _device_problems(train: Train) -> Iterator[str]:
    """Settings of devices and ranks that contradict each other."""
    for host in train.hosts:
        if not re.match(r"[^\s:]+:[1-9]\d{0,4}\Z", host) or int(host.rpartition(":")[2]) > 65_000:
            yield f"train.hosts wants name:port, the port at most 65000, got {host!r}"
    if len({*train.hosts}) != len(train.hosts):
        yield "train.hosts names a host twice: {}".format(", ".join(train.hosts))
    if train.rank_table and train.device != "npu":
        yield f"train.rank_table is for train.device 'npu', which is {train.device!r}"
    if train.loss_scale and train.loss_scale < 1.0:
        yield f"train.loss_scale must be at least 1, or 0 for one that is found, got {train.loss_scale}"


def _npu_problems(train: Train, npu: Npu) -> Iterator[str]:
    """Options that npu_bridge ignores, or fails on after minutes."""
    if train.device != "npu":
        return
    mode = npu.precision_mode or ("allow_fp32_to_fp16" if train.mixed_precision == "off" else "allow_mix_precision")
    if npu.precision_mode and npu.precision_mode_v2:
        yield "npu.precision_mode and npu.precision_mode_v2 exclude each other"
    if npu.modify_mixlist and (npu.precision_mode_v2 or mode).split("_")[0:2] not in (
        ["allow", "mix"],
        ["mixed", "float16"],
    ):
        yield f"npu.modify_mixlist needs mixed precision, got {npu.precision_mode_v2 or mode!r}"
    if npu.optypelist_for_implmode and not npu.op_select_implmode:
        yield "npu.optypelist_for_implmode needs npu.op_select_implmode"
    if npu.iterations_per_loop > 1:
        if npu.mix_compile_mode:
            yield "npu.iterations_per_loop above 1 and npu.mix_compile_mode exclude each other"
        if not npu.enable_data_pre_proc:
            yield "npu.iterations_per_loop above 1 needs npu.enable_data_pre_proc = true"
        for name in ("steps", "summary_freq", "save_freq"):
            if getattr(train, name) % npu.iterations_per_loop:
                yield f"train.{name} must be a multiple of npu.iterations_per_loop ({npu.iterations_per_loop}), got {getattr(train, name)}"
    if (npu.enable_dump or npu.enable_dump_debug) and not Path(npu.dump_path or "-").is_dir():
        yield f"npu.dump_path must be an existing folder when dumps are enabled, got {npu.dump_path!r}"
    if npu.enable_dump and npu.enable_dump_debug:
        yield "npu.enable_dump and npu.enable_dump_debug exclude each other"
    if npu.dump_step and not re.match(r"\d+([|-]\d+)*\Z", npu.dump_step):
        yield f"npu.dump_step must be steps as '0|5|10' or '3-5', got {npu.dump_step!r}"
    if npu.profiling_options:
        try:
            json.loads(npu.profiling_options)
        except ValueError as error:
            yield f"npu.profiling_options must be JSON, got {npu.profiling_options!r} ({error})"
    for name in ("modify_mixlist", "customize_dtypes", "op_precision_mode", "fusion_switch_file", "aoe_config_file"):
        value = getattr(npu, name)
        if value and not Path(value).is_file():
            yield f"npu.{name}: {value}: no such file"
    if train.connect_timeout < 120:
        yield f"train.connect_timeout must be at least 120 seconds on an npu (HCCL), got {train.connect_timeout}"


def _anchor(tables: Dict[str, Any], folder: Path) -> None:
    """Makes relative paths absolute, in place. A name to start from is no path, but an experiment of the workspace."""
    for section, key in _PATHS:
        values = tables.get(section)
        path = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(path, str) and path and "://" not in path and not is_remote(path):
            if key == "init_from" and "/" not in path:
                continue
            values[key] = str((folder / Path(path).expanduser()).resolve())
