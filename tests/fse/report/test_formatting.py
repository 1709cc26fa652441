from typing import Optional

import pytest

from fse.report import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.96, "1 min 0 s"), (200.4, "3 min 20 s"), (18_720, "5 h 12 min"), (None, "not recorded")],
)
def test_durations(seconds: Optional[float], text: str) -> None:
    assert formatting.format_duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text


def test_missing_numbers_become_dashes() -> None:
    for value in (None, float("nan"), float("inf")):
        assert formatting.format_number(value, 2, "%") == "\N{EN DASH}"
        assert formatting.format_count(value, "step") == "an unknown number of\N{NO-BREAK SPACE}steps"


def test_counts_have_a_singular_and_a_plural() -> None:
    assert [formatting.format_count(count, "step") for count in (0, 1, 2400)] == [
        "0\N{NO-BREAK SPACE}steps",
        "1\N{NO-BREAK SPACE}step",
        "2,400\N{NO-BREAK SPACE}steps",
    ]
