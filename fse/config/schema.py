"""The sections of a configuration: one frozen dataclass per section, one field per setting.

The defaults are the hyper-parameters of the reference implementations (Ascend ModelZoo, Factorized_ID1301). The help texts
are printed by error messages, the report and the reference page.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from fse.ascend import options


def setting(
    default: Any, help: str, low: Optional[float] = None, high: Optional[float] = None, choices: Tuple[str, ...] = ()
) -> Any:
    """Return the dataclass field of a setting.

    Args:
      default: the default value; its type is the type of the setting. A tuple is a list in a file.
      help: one sentence that says what the setting is, with its unit.
      low: smallest permitted number, or None. Applies to each entry of a list.
      high: largest permitted number, or None.
      choices: permitted strings; empty permits any.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Experiment:
    """The name of the experiment."""

    name: str = setting("synthetic", "name of the experiment's folder in the workspace: letters, digits, '.', '_', '-'")


@dataclass(frozen=True)
class Dataset:
    """The images and their annotations; see `fse.datasets`."""

    name: str = setting(
        "synthetic",
        "data set: 'synthetic' (rendered faces), 'folder' (images of your own), a known data set, or any name for `archive`",
    )
    part: str = setting("", "part of a known data set to train on; '' is its first part")
    archive: str = setting(
        "", "zip or tar file, folder, file:// or http(s):// URL, or drive:ID of Google Drive; '' for known data sets"
    )
    sha256: str = setting("", "SHA-256 checksum of the archive, 64 hexadecimal digits; '' skips the check")
    images: str = setting(
        "images", "folder of the images inside the archive; not used by 'folder', which takes all images"
    )
    annotations: str = setting(
        "landmarks.csv", "annotation file inside the archive; without the file there are no landmarks"
    )
    max_gigabytes: float = setting(64.0, "largest permitted size of the unpacked archive, in gigabytes", 0.001)
    max_files: int = setting(2_000_000, "largest permitted number of entries in the archive", 1)
    train: int = setting(3000, "synthetic: number of training images", 1, 10_000_000)
    test: int = setting(600, "synthetic: number of test images", 1, 10_000_000)
    size: int = setting(128, "synthetic: width and height of an image, in pixels", 32, 1024)
    test_share: float = setting(
        0.1,
        "folder: share of the images in the test split, unless the annotation file has a column `split`",
        0.0,
        1.0,
    )
    seed: int = setting(
        1234,
        "random seed: of the renderer (synthetic), of the split into training and test images (folder)",
        0,
        2**31 - 1,
    )


@dataclass(frozen=True)
class Download:
    """How archives are downloaded, which does not affect their content; see `fse.datasets.source`."""

    data_path: str = setting("", "folder with archives that are already there; files found in it are not downloaded")
    mirrors: Tuple[str, ...] = setting((), "http(s):// URLs of folders with copies of the files, tried first")
    timeout: float = setting(
        86_400.0, "download timeout per file in seconds; the next run resumes the download", 1.0, 1e7
    )
    stall: float = setting(
        60.0, "time in seconds without a received byte after which a connection is closed and opened again", 0.01, 1e5
    )


@dataclass(frozen=True)
class Crop:
    """How an image is cropped to a square; see `fse.preprocessing.crop_frame`."""

    mode: str = setting(
        "center",
        "what places the crop frame: the image's center, the whole image, the annotated box, or the landmarks",
        choices=("center", "squash", "box", "landmarks"),
    )
    size: int = setting(
        146, "width and height of the stored crop, in pixels (scale_size of the reference implementations)", 16, 1024
    )
    format: str = setting(
        "png",
        "file format of the crops: lossless PNG, or JPEG, which needs a third of the space and time",
        choices=("png", "jpeg"),
    )
    quality: int = setting(95, "JPEG quality; values above 95 hardly improve it", 1, 100)
    margins: Tuple[int, ...] = setting(
        (0, 0, 0, 0),
        "center, squash: pixels removed first from the image's left, top, right and bottom",
        0,
        100_000,
    )
    scale: float = setting(
        1.0,
        "side of the crop frame relative to the image's shorter side (center), its width and height (squash), "
        "or the side of the box (box)",
        0.05,
        10.0,
    )
    box_side: str = setting("longer", "box: side of the box that `scale` is relative to", choices=("longer", "width"))
    shift: Tuple[float, ...] = setting(
        (0.0, 0.0), "shift of the crop frame to the right and down, as shares of its width and height", -1.0, 1.0
    )
    eye_distance: float = setting(
        0.33, "landmarks: distance between the eyes, as a share of the crop's width", 0.02, 0.9
    )
    overhang: float = setting(
        0.0,
        "distance by which a landmark may lie outside its image, as a share of the image's longer side",
        0.0,
        10.0,
    )
    reads_test_annotations: bool = setting(
        False,
        "box, landmarks: permits crops of test images by their annotations; the report repeats it",
    )
    max_pixels: int = setting(64_000_000, "images with more pixels than this are skipped", 1)
    max_skipped: float = setting(0.01, "share of skipped images above which the stage fails", 0.0, 1.0)
    processes: int = setting(0, "number of parallel processes; 0 is one per CPU", 0, 512)


@dataclass(frozen=True)
class Records:
    """How TFRecord files are written; see `fse.preprocessing.tfrecord`."""

    shards: int = setting(4, "number of TFRecord files per split", 1, 10_000)
    processes: int = setting(0, "number of parallel processes; 0 is one per CPU", 0, 512)


@dataclass(frozen=True)
class Augment:
    """The random warps and colors of training views; see `fse.inputs.augment`.

    Normal samples are clipped at two standard deviations.
    """

    control_points: int = setting(5, "thin-plate-spline control points per side of the grid", 2, 20)
    rotation: float = setting(0.2, "standard deviation of the rotation, in radians", 0.0, 1.5)
    scale: float = setting(0.1, "standard deviation of the natural logarithm of the scale", 0.0, 0.5)
    shift: float = setting(0.1, "standard deviation of the shift, in half-widths of the view", 0.0, 0.5)
    control_point_jitter: float = setting(
        0.035, "standard deviation of the shift of each single control point, in half-widths of the view", 0.0, 0.2
    )
    flip: bool = setting(True, "whether half of the images are mirrored")
    views: int = setting(2, "number of views per image in a batch; every two of them are a training pair", 2, 16)
    brightness: float = setting(
        0.1, "standard deviation of the offset added to all channels, for pixel values in [0, 1]", 0.0, 1.0
    )
    contrast: float = setting(0.2, "standard deviation of the natural logarithm of the contrast", 0.0, 1.0)
    color: float = setting(
        0.05, "standard deviation of the offset added to each channel, for pixel values in [0, 1]", 0.0, 1.0
    )


@dataclass(frozen=True)
class Network:
    """The landmark detector; see `fse.model.network`."""

    name: str = setting("paper", "architecture, one of fse.model.network.NETWORKS")
    landmarks: int = setting(8, "number of landmarks to discover, K", 1, 512)
    view: int = setting(
        146,
        "width and height of the central part of the crop that the network sees, in pixels "
        "(crop_size of the reference implementations)",
        16,
        1024,
    )
    softargmax_radius: int = setting(
        0,
        "radius of the window around a heatmap's maximum that soft-argmax averages, in cells; 0 is the whole map",
        0,
        1024,
    )
    softargmax_temperature: float = setting(
        1.0, "temperature of the soft-argmax: scores are divided by it before the softmax", 0.01, 1000.0
    )


@dataclass(frozen=True)
class Loss:
    """Weights of the loss terms; see `fse.model.losses`."""

    align_weight: float = setting(
        1.0, "weight of the alignment loss, which is in squared cells of 1/64 of the view", 0.0
    )
    variance_weight: float = setting(
        1.0, "weight of the heatmaps' variance within the alignment loss; 1 is the paper's value", 0.0, 1.0
    )
    diversity_weight: float = setting(500.0, "weight of the diversity loss of a pair of views", 0.0)
    diversity_end: float = setting(
        1.0, "share of diversity_weight that remains at the last step; the weight decays along half a cosine", 0.0, 1.0
    )
    softargmax_weight: float = setting(
        0.0,
        "final weight of the squared distance between soft-argmax landmarks; the weight rises from 0 along half a cosine",
        0.0,
    )
    diversity_window: int = setting(4, "side of the diversity loss's pooling window, M, in heatmap cells", 1, 64)
    weight_decay: float = setting(5e-4, "weight of the L2 norm of the convolution kernels", 0.0)


@dataclass(frozen=True)
class Train:
    """The optimization and the devices; see `fse.training` and `fse.devices`."""

    batch_size: int = setting(32, "number of images per step, over all ranks", 1, 65_536)
    epochs: int = setting(200, "number of passes over the training images, unless `steps` is set", 1)
    steps: int = setting(0, "number of training steps; 0 uses `epochs`", 0)
    learning_rate: float = setting(1e-4, "learning rate of Adam at the start", 1e-12, 10.0)
    beta1: float = setting(0.5, "decay rate of Adam's first moment", 0.0, 0.999999)
    schedule: str = setting("constant", "schedule of the learning rate", choices=("constant", "cosine"))
    ema_decay: float = setting(
        0.0,
        "decay per step of the exponential moving average of the weights, which Export then uses; 0 disables it",
        0.0,
        0.999999,
    )
    init_from: str = setting(
        "",
        "initial weights: name of an experiment in the workspace, or path of an experiment, a Train output or a checkpoint",
    )
    warmup: int = setting(0, "number of steps over which the learning rate rises from zero", 0)
    seed: int = setting(1234, "random seed of weights, data order, warps and colors", 0, 2**31 - 1)
    repetition: str = setting("", "any text; changes the cache key, so identical settings train again")
    summary_freq: int = setting(20, "number of steps between log lines and TensorBoard summaries", 1)
    save_freq: int = setting(500, "number of steps between checkpoints", 1)
    keep_checkpoints: int = setting(3, "number of checkpoints to keep", 1)
    shuffle_buffer: int = setting(20_000, "number of records in the shuffle buffer", 1)
    clip_norm: float = setting(
        0.0, "largest global norm of the gradients; larger ones are scaled down; 0 disables it", 0.0
    )
    device: str = setting("cpu", "device to train on", choices=("cpu", "gpu", "npu"))
    threads: int = setting(0, "CPU threads per rank for computing; 0 is one per CPU", 0, 1024)
    devices: int = setting(
        0,
        "number of ranks per host, one process per card, that share each batch; 0 is 1, or the number in the rank table",
        0,
        64,
    )
    hosts: Tuple[str, ...] = setting((), "name:port of every host that takes part; empty is this host alone")
    rank_table: str = setting("", "npu: JSON file with HCCL's rank table; '' creates one for the cards of this host")
    connect_timeout: int = setting(300, "time in seconds to wait for other ranks at the start", 1, 7200)
    step_timeout: int = setting(
        1836, "time in seconds that a step may take, including the wait for other ranks", 1, 86_400
    )
    mixed_precision: str = setting(
        "auto",
        "half precision with loss scaling (on a CPU bfloat16 without loss scaling); auto is on for an NPU only",
        choices=("auto", "on", "off"),
    )
    loss_scale: float = setting(
        0.0, "fixed loss scale of mixed precision, at least 1; 0 adapts it during training", 0.0, 2.0**40
    )


# Only the classes of this module are exempt from the code's identity (`tasks.caching.code_identity`). This statement calls
# none of our functions, so the table of options does not count as code of the stages either.
_NPU_FIELDS: List[Any] = [
    (
        option.name,
        type(option.default),
        field(
            default=option.default,
            metadata={"help": option.help, "low": option.low, "high": option.high, "choices": option.choices},
        ),
    )
    for option in options.OPTIONS
]
_NpuOptions: Any = dataclasses.make_dataclass("_NpuOptions", _NPU_FIELDS, frozen=True)


class Npu(_NpuOptions):  # type: ignore[misc]  # its fields are known at run time only
    """Session options of Ascend's TF Adapter, by its own names; '' and -1 leave an option unset.

    The fields are `fse.ascend.options.OPTIONS`.
    """


@dataclass(frozen=True)
class Export:
    """How the trained detector is exported; see `fse.inference.export`."""

    tolerance: float = setting(
        1e-4, "largest permitted difference between the outputs of the checkpoint and of the exported model", 0.0
    )
    images: int = setting(32, "number of images on which checkpoint and exported model are compared", 1)
    soc_version: str = setting("", "chip that Ascend's offline model is for, such as Ascend910A; '' asks npu-smi")
    aoe: str = setting(
        "",
        "what AOE tunes for the offline model, on a card of this host: subgraphs, operators, or first one and then the other",
        choices=("", "subgraphs", "operators", "both"),
    )
    offline_batch: int = setting(1, "number of images per run of the offline model", 1, 4096)
    offline_seconds: int = setting(1800, "time limit in seconds for the offline model; tuning takes hours", 1)


@dataclass(frozen=True)
class Evaluate:
    """How the discovered landmarks are measured; see `fse.evaluation`."""

    eyes: Tuple[str, ...] = setting(
        ("left_eye", "right_eye"), "names of the two landmarks whose distance normalizes errors (inter-ocular distance)"
    )
    batch_size: int = setting(64, "number of images per run of the model", 1, 4096)
    seed: int = setting(
        4321, "random seed of the test images' warps, of the n-shot curve's samples and of the bootstrap", 0, 2**31 - 1
    )
    shots: Tuple[int, ...] = setting(
        (1, 5, 10, 100),
        "numbers of annotated training images on the n-shot curve, which ends with all images",
        1,
        10**9,
    )
    samples: int = setting(10, "number of random samples for each number of annotated images", 1, 10_000)
    bootstrap: int = setting(1000, "number of bootstrap samples for the 95 % intervals", 1, 1_000_000)


@dataclass(frozen=True)
class Report:
    """The content of the report; see `fse.report`."""

    examples: int = setting(12, "number of test images shown with their landmarks", 1, 200)


@dataclass(frozen=True)
class Config:
    """The configuration of an experiment. `fse.config.load` reads one from a file."""

    experiment: Experiment = Experiment()
    dataset: Dataset = Dataset()
    download: Download = Download()
    crop: Crop = Crop()
    records: Records = Records()
    augment: Augment = Augment()
    network: Network = Network()
    loss: Loss = Loss()
    train: Train = Train()
    npu: Npu = Npu()  # noqa: RUF009 (immutable)
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    # The sections [evaluate.dataset] and [evaluate.crop]: the data and crops of the evaluation, where they differ from those
    # of training; None where they are equal.
    evaluate_dataset: Optional[Dataset] = None
    evaluate_crop: Optional[Crop] = None
    report: Report = Report()


# The optional sections of a file, by attribute of `Config`.
_OPTIONAL = {"evaluate_dataset": Dataset, "evaluate_crop": Crop}

# The class of each section of a file, by the section's name.
SECTIONS: Dict[str, Any] = {
    item.name.replace("_", "."): _OPTIONAL.get(item.name, item.type) for item in dataclasses.fields(Config)
}


def is_remote(archive: str) -> bool:
    """Return whether an archive is downloaded: an http(s):// URL, or drive:ID of Google Drive."""
    return archive.lower().startswith(("http://", "https://", "drive:"))


def evaluates_other_data(config: Config) -> bool:
    """Return whether evaluation uses other images than training, or other crops of the same images."""
    return bool(config.evaluate_dataset or config.evaluate_crop)


def for_evaluation(config: Config) -> Config:
    """Return the configuration for the stages that prepare the evaluation's images.

    In it, `dataset` and `crop` are those of the evaluation.
    """
    dataset, crop = config.evaluate_dataset or config.dataset, config.evaluate_crop or config.crop
    return dataclasses.replace(config, dataset=dataset, crop=crop, evaluate_dataset=None, evaluate_crop=None)
