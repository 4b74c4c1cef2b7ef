"""Errors pass between processes; range checks name the option, its bounds and the value."""

import inspect
import math
import pickle

import pytest

from kinema import errors
from kinema.errors import KinemaError, OptionError, TensorMismatchError, check_range


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


def test_every_error_can_be_pickled() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    kinds = [kind for kind in classes if issubclass(kind, KinemaError)]
    assert len(kinds) > 10
    for kind in kinds:
        copy = pickle.loads(pickle.dumps(kind("what and why")))
        assert type(copy) is kind
        assert str(copy) == "what and why"


def test_a_pickled_mismatch_keeps_its_names() -> None:
    error = TensorMismatchError("does not fit", unused=("a", "b"), missing=("c",))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.unused, copy.missing) == ("does not fit", ("a", "b"), ("c",))
