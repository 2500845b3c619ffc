from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.scoring.choices import describe, first_argmax, option_lines

pytestmark = pytest.mark.unit


@given(st.lists(st.sampled_from([-3.0, -2.5, -1.0, 0.0]) | st.floats(-1e6, 0), min_size=1))
def test_the_first_of_equal_options_wins_as_in_numpy(values: list[float]) -> None:
    assert first_argmax(values) == int(np.argmax(values))


@pytest.mark.parametrize("values", [[], [-1.0, math.nan], [-math.inf, -1.0]])
def test_what_cannot_be_ranked_raises(values: list[float]) -> None:
    with pytest.raises(ValueError):
        first_argmax(values)


def test_texts() -> None:
    assert option_lines(["x", "y"]) == "A. x\nB. y"
    assert describe("AB", [-1.0, -0.25]) == "A -1.0000, B -0.2500"
