"""Collective operations. `broadcast` is documented to take and return a list."""

from typing import Any

from npu_bridge import ranks


def broadcast(tensor: Any, root_rank: Any, fusion: Any = 2, fusion_id: Any = 0, group: Any = "hccl_world_group") -> Any:
    if not isinstance(tensor, list) or root_rank != 0:
        raise RuntimeError("stand-in: broadcast must get a list of tensors and rank 0")
    return ranks.group.broadcast(tensor)
