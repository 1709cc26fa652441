from fse.report import dataset_overview


def test_rare_reasons_are_summed_up() -> None:
    counted = dataset_overview.count_reasons(["reason " + letter for letter in "abcdefghijklmnaab"])
    assert counted[:3] == [("reason a", 3), ("reason b", 2), ("reason c", 1)]
    assert counted[10:] == [("other reasons", 4)]


def test_evenly_spaced_indices_include_both_ends() -> None:
    assert list(dataset_overview.evenly_spaced(100, 4)) == [0, 33, 66, 99]
    assert list(dataset_overview.evenly_spaced(3, 24)) == [0, 1, 2]
    assert list(dataset_overview.evenly_spaced(1, 24)) == [0]
    assert list(dataset_overview.evenly_spaced(0, 24)) == []
