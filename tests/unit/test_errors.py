"""Range checks of options: the message names the option, its bounds and the value."""

import math

import pytest

from kinema.errors import OptionError, check_range


def test_values_inside_and_unset_ones_pass() -> None:
    check_range(at_least=1, frames=1, top=None)
    check_range(above=0, rate_hz=0.1)
    check_range(at_least=0, at_most=1, camera=1)


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ({"at_least": 1}, 0, "x must be at least 1, got 0."),
        ({"above": 0}, 0.0, "x must be above 0, got 0.0."),
        ({"above": 0}, math.nan, "x must be above 0, got nan."),
        ({"above": 0}, math.inf, "x must be above 0 and finite, got inf."),
        ({"at_most": 30}, 31, "x must be at most 30, got 31."),
        ({"at_least": 0, "at_most": 1}, 1.5, "x must be between 0 and 1, got 1.5."),
    ],
)
def test_values_outside_are_refused(bounds: dict[str, float], value: float, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_range(**bounds, a=1 if "at_most" in bounds else 5, x=value)
    assert str(caught.value) == message
