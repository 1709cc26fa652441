"""Huawei Ascend, through CANN's TF Adapter (npu_bridge), built to its documentation; docs/ascend.md says what is verified.

npu_bridge patches tf.Session when it is imported, so it is imported by name, here alone, and when an NPU was asked for.
"""

import dataclasses
import importlib
import importlib.util
import logging
from typing import Any, ContextManager, List, Sequence, Tuple

from fse.ascend import npu_smi
from fse.config import Config, Npu, Train
from fse.distributed.ranks import Rank, bounded
from fse.errors import DeviceBusyError, DeviceError
from fse.tf1 import tf

log = logging.getLogger(__name__)

# What nobody has run on hardware yet. docs/ascend.md has the same list, and a test compares the two.
UNVERIFIED: Tuple[str, ...] = (
    "any run on an NPU: compile time, speed, memory, modes of failure",
    "the engine that each operator of the training step is given on a 910 (npu_supported_ops.json was not at hand)",
    "that TF_CPP_MIN_LOG_LEVEL=0 in a rank's environment shows the line that proves the device's use",
    "how far keep_dtype_scope reaches: gradients of the softmax and of the losses are made outside it",
    "loss scaling by the overflow flag of the hardware, alone and on several ranks",
    "HCCL between the cards of one server and between servers",
    "HcomBroadcast of all float variables in one call, assigned back",
    "npu_allreduce of losses and batch statistics beside the optimizer's own all-reduce",
    "that rank 0 alone may restore and save while the other ranks wait",
    "the compiled rendering of views (Numba) on a host with ARM processors",
    "several steps a call (iterations_per_loop), whose losses are those of the last step",
    "a rank table made from /etc/hccn.conf",
    "that the ranks of an interrupted training leave the cards free",
    "that a resumed training may assign the loss scale's variables, and broadcast them as float32",
    "the offline model by a real atc, tuned by a real aoe whose repository atc takes up",
    "that npu-smi's process table shows every use of a card, and its order is that of ASCEND_DEVICE_ID",
    "profiling, dumps, AOE and the other options of [npu]: set as documented, their effect not seen",
    "several GPUs (the ring runs through host memory, as between processors), and mixed precision on a GPU",
)

# Of a loss scale that is found while training: the manual's and most published ports' values.
_FIRST_SCALE, _STEPS_BEFORE_DOUBLING, _OVERFLOWS_BEFORE_HALVING, _HALF = 2.0**32, 1000, 2, 0.5


def find(config: Config, rank: Rank) -> "Device":
    """The NPU of this process, for one rank.

    Raises:
      DeviceError: npu_bridge is not installed.
    """
    _imported("npu_init")
    return Device(config, rank)


def check(cards: Sequence[str]) -> None:
    """Makes sure that npu_bridge is installed, without importing it, and that these cards are there and free.

    Where npu-smi tells nothing of the cards, as in some containers, that is left to the ranks.

    Raises:
      DeviceError: npu_bridge or a card is missing.
      DeviceBusyError: another process has a card.
    """
    if importlib.util.find_spec("npu_bridge") is None:
        raise _missing("there is no such module")
    try:
        present = npu_smi.overview().cards
    except DeviceError as error:
        log.info("whether the cards are free is not known: %s", error)
        return
    for number in map(int, cards):
        if number >= len(present):
            raise DeviceError(
                f"training wants card {number}, but npu-smi shows {len(present)} cards; choose from 0 to {len(present) - 1} by ASCEND_DEVICE_ID, "
                "train.devices or train.rank_table"
            )
        if present[number].processes:
            users = ", ".join(f"{user.name} ({user.pid})" for user in present[number].processes)
            raise DeviceBusyError(
                f"card {number} is in use by {users}, as npu-smi says; wait for it or end it, or choose another card with "
                "ASCEND_DEVICE_ID"
            )


def session_config(train: Train, options: Npu) -> Any:
    """The session configuration of an NPU; needs no npu_bridge.

    Everything that the TF Adapter's manual asks for is said, since npu_bridge adds nothing to a configuration that has
    an NpuOptimizer already, and ignores an option of another name or type without a word. `options` have its names.
    jit_compile is never set: its type differs between releases.
    """
    config = tf.ConfigProto(intra_op_parallelizm_threads=train.threads, allow_soft_placement=True)
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = type(rewrite).OFF
    rewrite.memory_optimization = type(rewrite).NO_MEM_OPT
    optimizer = rewrite.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    parameters = optimizer.parameter_map
    parameters["use_off_line"].b = True
    for name, value in dataclasses.asdict(options).items():
        if isinstance(value, bool):
            parameters[name].b = value
        elif isinstance(value, int) and value != -1:
            parameters[name].i = value
        elif isinstance(value, str) and value:
            parameters[name].s = value.encode()
    if not options.precision_mode and not options.precision_mode_v2:
        # Convolutions are in half precision in either case, there being no others on a 910.
        mixed = train.mixed_precision != "off"
        parameters["precision_mode"].s = b"allow_mix_precision" if mixed else b"allow_fp32_to_fp16"
    return config


class Device:
    """An NPU. Ranks use HCCL.

    loss_scale: the loss scale as a scalar tensor; None without mixed precision.
    """

    def __init__(self, config: Config, rank: Rank):
        """`rank`: which one this process is."""
        self.config, self.rank, self.size = config, rank.number, rank.size
        self.steps_per_call = config.npu.iterations_per_loop
        self.loss_scale: Any = None
        self._hccl: Any = None

    def session_config(self) -> Any:
        """How sessions are set up."""
        return session_config(self.config.train, self.config.npu)

    def initialize(self) -> str:
        """Starts HCCL, in a session of its own that stays open; sessions connect to nothing else."""
        if self.size > 1:
            with tf.Graph().as_default() as graph:
                operations = _imported("estimator.npu_ops")
                begin, end = operations.initialize_system(), operations.shutdown_system()
                session = tf.Session(graph=graph, config=self.session_config())
            self._hccl = (session, end)
            with bounded(self.config.train.connect_timeout + 60.0, "HCCL and the other ranks to begin"):
                session.run(begin)
        return ""

    def float32_scope(self) -> ContextManager[None]:
        """A context whose operations keep float32."""
        scope: ContextManager[None] = _imported("estimator.npu.npu_scope").keep_dtype_scope()
        return scope

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Averages gradients over the ranks, within the loss scaling."""
        train = self.config.train
        if self.size > 1:
            optimizer = _imported("estimator.npu.npu_optimizer").npu_distributed_optimizer_wrapper(optimizer)
        if train.mixed_precision == "off":
            return optimizer
        managers = _imported("estimator.npu.npu_loss_scale_manager")
        if train.loss_scale:
            manager = managers.FixedLossScaleManager(train.loss_scale)
        else:
            manager = managers.ExponentialUpdateLossScaleManager(
                _FIRST_SCALE,
                _STEPS_BEFORE_DOUBLING,
                decr_every_n_nan_or_inf=_OVERFLOWS_BEFORE_HALVING,
                decr_ratio=_HALF,
            )
        self.loss_scale = manager.get_loss_scale()
        # The overflow flag is the hardware's; shared between the ranks, so that all skip a step or none.
        scaling = _imported("estimator.npu.npu_loss_scale_optimizer")
        return scaling.NPULossScaleOptimizer(optimizer, manager, is_distributed=self.size > 1)

    def average(self, tensors: List[Any]) -> List[Any]:
        """Means over the ranks of float32 tensors."""
        if self.size == 1:
            return tensors
        return list(_imported("estimator.npu.npu_optimizer").npu_allreduce(tensors, reduction="mean"))

    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Rank 0's values of float32 tensors."""
        if self.size == 1:
            return tensors
        return list(_imported("hccl.hccl_ops").broadcast(tensors, 0))

    def repeat(self, session: Any, operation: Any) -> Any:
        """The operation, as many times a call as the configuration says."""
        if self.steps_per_call == 1:
            return operation
        return _imported("estimator.npu.util").set_iteration_per_loop(session, operation, self.steps_per_call)

    def shutdown(self) -> None:
        """Ends HCCL."""
        if self._hccl:
            session, end = self._hccl
            with bounded(self.config.train.connect_timeout, "the other ranks to end"):
                session.run(end)
            session.close()


def _imported(name: str) -> Any:
    """A module of npu_bridge.

    Raises:
      DeviceError: it is not installed.
    """
    try:
        return importlib.import_module("npu_bridge." + name)
    except ImportError as error:
        raise _missing(error) from None


def _missing(why: Any) -> DeviceError:
    return DeviceError(
        f"train.device is 'npu', but npu_bridge cannot be imported ({why}); install CANN's TF Adapter for TensorFlow 1.15 and "
        "source its set_env.sh, or choose --set train.device=cpu"
    )
