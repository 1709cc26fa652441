"""The parts of a stage that hosts share. That programs do share them is in tests/pipeline/test_central_scheduler.py."""

from pathlib import Path
from typing import Any, List, Set

import luigi
import pytest

from tasks.stages.pipeline import AlignCrop, ConvertTFRecord, Download, FullRun, Part

OTHER_DATA = "evaluate.dataset.name=synthetic,evaluate.dataset.test=8"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parts(task: Any) -> List[Any]:
    return [other for other in task.requires() if isinstance(other, Part)]


def all_of(task: luigi.Task) -> Set[str]:
    """The ids of a task and of all that it needs."""
    found: Set[str] = set()
    waiting = [task]
    while waiting:
        one = waiting.pop()
        if one.task_id not in found:
            found.add(one.task_id)
            waiting += one.requires()
    return found


@pytest.mark.parametrize("kind", [AlignCrop, ConvertTFRecord])
def test_a_stage_has_a_part_for_each_host(kind: Any) -> None:
    found = parts(kind(hosts=3))
    assert [part.part for part in found] == [1, 2, 3]
    for part in found:
        assert part.whole.task_id == kind(hosts=3).task_id
        assert part.requires() == list(part.whole.before().values())
        assert not part.complete()


def test_alone_or_by_force_there_is_none() -> None:
    assert not parts(AlignCrop())
    assert not parts(AlignCrop(hosts=3, force=True))
    assert Download(hosts=3).requires() == []


def test_a_host_has_one_part_of_a_stage_at_a_time_and_of_other_data_another() -> None:
    first, second = parts(AlignCrop(hosts=2))
    other = parts(AlignCrop(hosts=2, data="evaluate"))[0]
    assert first.resources == second.resources
    assert not {*first.resources} & {*other.resources}


def test_the_number_of_hosts_makes_few_tasks_and_no_other_ones() -> None:
    alone = all_of(FullRun(set=OTHER_DATA))
    shared = all_of(FullRun(set=OTHER_DATA, hosts=64))
    assert alone < shared
    assert len(shared) == len(alone) + 4 * 64 <= 300


@pytest.mark.parametrize("hosts", ["0", "65", "x"])
def test_a_number_of_hosts_that_cannot_be_meant(hosts: str) -> None:
    with pytest.raises(ValueError):
        AlignCrop.from_str_params({"hosts": hosts})
