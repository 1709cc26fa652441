"""How several hosts split the work of a stage. tests/pipeline/test_central_scheduler.py runs them."""

from pathlib import Path
from typing import List, Set, Type

import luigi
import pytest

from tasks.stages.data import AlignCrop, ConvertTFRecord, Download, HostShare, ShardedTask
from tasks.stages.full_run import FullRun

OTHER_DATA = "evaluate.dataset.name=synthetic,evaluate.dataset.test=8"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shares(task: luigi.Task) -> List[HostShare]:
    return [required for required in task.requires() if isinstance(required, HostShare)]


def all_task_ids(task: luigi.Task) -> Set[str]:
    """Return the ids of a task and of all tasks that it requires."""
    task_ids: Set[str] = set()
    waiting = [task]
    while waiting:
        current = waiting.pop()
        if current.task_id not in task_ids:
            task_ids.add(current.task_id)
            waiting += current.requires()
    return task_ids


@pytest.mark.parametrize("task_class", [AlignCrop, ConvertTFRecord])
def test_a_stage_has_a_share_for_each_host(task_class: Type[ShardedTask]) -> None:
    host_shares = shares(task_class(hosts=3))
    assert [share.number for share in host_shares] == [1, 2, 3]
    for share in host_shares:
        assert share.stage_task.task_id == task_class(hosts=3).task_id
        assert share.requires() == list(share.stage_task.upstream().values())
        assert not share.complete()


def test_one_host_or_a_forced_stage_has_no_shares() -> None:
    assert not shares(AlignCrop())
    assert not shares(AlignCrop(hosts=3, force=True))
    assert Download(hosts=3).requires() == []


def test_a_host_makes_one_share_of_a_stage_at_a_time_but_both_data_sets_at_once() -> None:
    first, second = shares(AlignCrop(hosts=2))
    other = shares(AlignCrop(hosts=2, data="evaluate"))[0]
    assert first.resources == second.resources
    assert not {*first.resources} & {*other.resources}


def test_more_hosts_add_few_tasks_and_change_none() -> None:
    alone = all_task_ids(FullRun(set=OTHER_DATA))
    shared = all_task_ids(FullRun(set=OTHER_DATA, hosts=64))
    assert alone < shared
    assert len(shared) == len(alone) + 4 * 64 <= 300


@pytest.mark.parametrize("hosts", ["0", "65", "x"])
def test_an_invalid_number_of_hosts_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError):
        AlignCrop.from_str_params({"hosts": hosts})
