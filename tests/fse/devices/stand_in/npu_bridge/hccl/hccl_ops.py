"""Documented: broadcast takes a list and returns one."""

from npu_bridge import ranks


def broadcast(tensor, root_rank, fusion=2, fusion_id=0, group="hccl_world_group"):
    if not isinstance(tensor, list) or root_rank != 0:
        raise RuntimeError("stand-in: broadcast takes a list of tensors, and rank 0's here")
    return ranks.group.broadcast(tensor)
