"""FullRun, with the three stages of the toy pipeline."""

import pytest

from fse.errors import StageError
from tasks.stages.full_run import FullRun
from tests.tasks import toy


def test_a_full_run_names_the_stages_whose_outputs_are_missing(toy_full_run: None) -> None:
    """This happens if the central scheduler had another host run them with other code."""
    toy.run("second")
    with pytest.raises(StageError, match="Third: no output for the current code and data"):
        FullRun().run()
