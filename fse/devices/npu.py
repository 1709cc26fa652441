"""Huawei Ascend NPUs, through CANN's TF Adapter (npu_bridge).

The code follows the adapter's documentation for TensorFlow 1.15; docs/ascend.md says what has been verified.

npu_bridge patches tf.Session when it is imported. So only this module imports it, by name, and only for training on an NPU.
"""

import dataclasses
import importlib
import importlib.util
import logging
from typing import Any, ContextManager, List, Sequence, Union

from fse.ascend import npu_smi
from fse.ascend.options import UNSET, default_precision_mode
from fse.config import Config, Npu, Train
from fse.devices.base import Device
from fse.distributed.ranks import Rank, time_limit
from fse.errors import DeviceBusyError, DeviceError
from fse.tf1 import tf

log = logging.getLogger(__name__)

# Dynamic loss scaling: the values of the manual and of most published ports.
_INITIAL_LOSS_SCALE = 2.0**32
_STEPS_BEFORE_DOUBLING = 1000
_OVERFLOWS_BEFORE_HALVING = 2
_HALF = 0.5

# HCCL gives up after train.connect_timeout and reports why. Wait longer than that, in seconds.
_HCCL_MARGIN = 60.0


def find(config: Config, rank: Rank) -> "NpuDevice":
    """Return the NPU of this process, for one rank.

    Raises:
      DeviceError: npu_bridge is not installed.
    """
    _import_bridge("npu_init")
    return NpuDevice(config, rank)


def check(cards: Sequence[str]) -> None:
    """Check that npu_bridge is installed, without importing it, and that the cards exist and are free.

    If npu-smi cannot list the cards, as in some containers, only the ranks find out whether the cards are free.

    Args:
      cards: numbers of the cards to train on.

    Raises:
      DeviceError: npu_bridge or a card is missing.
      DeviceBusyError: another process uses a card.
    """
    if importlib.util.find_spec("npu_bridge") is None:
        raise _bridge_error("there is no such module")
    try:
        present = npu_smi.overview().cards
    except DeviceError as error:
        log.info("whether the cards are free is not known: %s", error)
        return
    for number in map(int, cards):
        if number >= len(present):
            raise DeviceError(
                f"training wants card {number}, but npu-smi shows {len(present)} cards; choose from 0 to {len(present) - 1} "
                "by ASCEND_DEVICE_ID, train.devices or train.rank_table"
            )
        if present[number].processes:
            users = ", ".join(f"{user.name} ({user.pid})" for user in present[number].processes)
            raise DeviceBusyError(
                f"card {number} is in use by {users}, according to npu-smi; wait for the process or end it, or choose another "
                "card with ASCEND_DEVICE_ID"
            )


def session_config(train: Train, npu: Npu) -> Any:
    """Return the `tf.ConfigProto` of sessions on an NPU; needs no npu_bridge.

    Sets everything that the TF Adapter's manual asks for: npu_bridge adds nothing to a configuration that already has an
    NpuOptimizer. jit_compile is never set, as its type differs between releases.

    Args:
      train: the section `[train]`.
      npu: the section `[npu]`.
    """
    config = tf.ConfigProto(intra_op_parallelism_threads=train.threads, allow_soft_placement=True)
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = type(rewrite).OFF
    rewrite.memory_optimization = type(rewrite).NO_MEM_OPT
    optimizer = rewrite.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    parameters = optimizer.parameter_map
    parameters["use_off_line"].b = True
    for name, value in dataclasses.asdict(npu).items():
        if value not in UNSET:
            _set_parameter(parameters[name], value)
    if not npu.precision_mode and not npu.precision_mode_v2:
        _set_parameter(parameters["precision_mode"], default_precision_mode(train.mixed_precision))
    return config


def _set_parameter(parameter: Any, value: Union[bool, int, str]) -> None:
    """Set a `tf.AttrValue` to an option's value. npu_bridge silently ignores values of another type."""
    if isinstance(value, bool):
        parameter.b = value
    elif isinstance(value, int):
        parameter.i = value
    else:
        parameter.s = value.encode()


class NpuDevice(Device):
    """An NPU. Ranks communicate through HCCL."""

    def __init__(self, config: Config, rank: Rank):
        """Prepare the device of a rank; see `Device`."""
        super().__init__(config, rank)
        self.steps_per_call = config.npu.iterations_per_loop
        # HCCL's session and the operation that ends HCCL.
        self._hccl: Any = None

    def session_config(self) -> Any:
        """Return the `tf.ConfigProto` of sessions."""
        return session_config(self.config.train, self.config.npu)

    def initialize(self) -> str:
        """Start HCCL in a session that stays open until `shutdown`, and return '' as the target of sessions."""
        if self.size > 1:
            with tf.Graph().as_default() as graph:
                npu_ops = _import_bridge("estimator.npu_ops")
                begin, end = npu_ops.initialize_system(), npu_ops.shutdown_system()
                session = tf.Session(graph=graph, config=self.session_config())
            self._hccl = (session, end)
            with time_limit(self.config.train.connect_timeout + _HCCL_MARGIN, "HCCL and the other ranks to begin"):
                session.run(begin)
        return ""

    def float32_scope(self) -> ContextManager[None]:
        """Return a context whose operations stay in float32 under mixed precision."""
        scope: ContextManager[None] = _import_bridge("estimator.npu.npu_scope").keep_dtype_scope()
        return scope

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Return an optimizer that averages gradients over the ranks, inside the loss scaling."""
        train = self.config.train
        if self.size > 1:
            npu_optimizer = _import_bridge("estimator.npu.npu_optimizer")
            optimizer = npu_optimizer.npu_distributed_optimizer_wrapper(optimizer)
        if train.mixed_precision == "off":
            return optimizer
        managers = _import_bridge("estimator.npu.npu_loss_scale_manager")
        if train.loss_scale:
            manager = managers.FixedLossScaleManager(train.loss_scale)
        else:
            manager = managers.ExponentialUpdateLossScaleManager(
                _INITIAL_LOSS_SCALE,
                _STEPS_BEFORE_DOUBLING,
                decr_every_n_nan_or_inf=_OVERFLOWS_BEFORE_HALVING,
                decr_ratio=_HALF,
            )
        self.loss_scale = manager.get_loss_scale()
        # The hardware sets an overflow flag. The ranks share it, so that either all of them skip a step or none does.
        scaling = _import_bridge("estimator.npu.npu_loss_scale_optimizer")
        return scaling.NPULossScaleOptimizer(optimizer, manager, is_distributed=self.size > 1)

    def average(self, tensors: List[Any]) -> List[Any]:
        """Return the means of float32 tensors over the ranks."""
        if self.size == 1:
            return tensors
        return list(_import_bridge("estimator.npu.npu_optimizer").npu_allreduce(tensors, reduction="mean"))

    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Return rank 0's values of float32 tensors."""
        if self.size == 1:
            return tensors
        return list(_import_bridge("hccl.hccl_ops").broadcast(tensors, 0))

    def repeat(self, session: Any, operation: Any) -> Any:
        """Return an operation that runs `operation` `npu.iterations_per_loop` times."""
        if self.steps_per_call == 1:
            return operation
        return _import_bridge("estimator.npu.util").set_iteration_per_loop(session, operation, self.steps_per_call)

    def shutdown(self) -> None:
        """End HCCL and close its session."""
        if self._hccl:
            session, end = self._hccl
            with time_limit(self.config.train.connect_timeout, "the other ranks to end"):
                session.run(end)
            session.close()


def _import_bridge(name: str) -> Any:
    """Return a module of npu_bridge.

    Raises:
      DeviceError: npu_bridge is not installed.
    """
    try:
        return importlib.import_module("npu_bridge." + name)
    except ImportError as error:
        raise _bridge_error(error) from None


def _bridge_error(reason: Any) -> DeviceError:
    return DeviceError(
        f"train.device is 'npu', but npu_bridge cannot be imported ({reason}); install CANN's TF Adapter for TensorFlow 1.15 "
        "and source its set_env.sh, or choose --set train.device=cpu"
    )
