import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plastic_envs.checks import (
    check_bool,
    check_bytes,
    check_choice,
    check_count,
    check_instance,
    check_int,
    check_interval,
    check_number,
    check_path,
    check_seed,
    check_text,
    shown,
)


class Silent:
    def __repr__(self):
        raise RuntimeError("no")


ODD = [None, "3", b"3", [], {}, 3.0, math.nan, 1j, True, np.bool_(1), np.array([3]), Silent()]


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers_of_all_kinds_become_int(value):
    assert type(check_int("n", value)) is int
    assert check_int("n", value) == 3


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_other_values_are_no_integers(value):
    with pytest.raises(ValueError, match=r"^n must be an integer of at least 0, got "):
        check_int("n", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "n must be an integer of at least 1, got 0"),
        (2**31, "n must be an integer of at least 1 and at most 2147483647, got 2147483648"),
        (10**6000, "n must be an integer of at least 1 and at most 2147483647, got an integer of"),
    ],
    ids=["small", "large", "huge"],
)
def test_integers_out_of_range(value, message):
    with pytest.raises(ValueError, match=message):
        check_int("n", value, minimum=1)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_numbers_of_all_kinds_become_float(value):
    assert type(check_number("x", value)) is float
    assert check_number("x", value) == 0.5


@pytest.mark.parametrize(
    "value",
    [None, "1", True, math.nan, math.inf, -math.inf, 10**400, [1.0], 1j, Silent()],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_no_numbers(value):
    with pytest.raises(ValueError, match=r"^x must be a finite number, got "):
        check_number("x", value)


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (-0.1, {"minimum": 0}, "x must be a finite number of at least 0, got -0.1"),
        (
            0.0,
            {"above": 0, "maximum": 1},
            "x must be a finite number of at most 1 and above 0, got",
        ),
        (
            1.0,
            {"minimum": 0, "below": 1},
            "x must be a finite number of at least 0 and below 1, got",
        ),
    ],
)
def test_numbers_out_of_range(value, bounds, message):
    with pytest.raises(ValueError, match=message):
        check_number("x", value, **bounds)


def test_bools():
    assert check_bool("b", np.bool_(True)) is True
    for value in (1, 0, "no", None, np.array([True])):
        with pytest.raises(ValueError, match=r"^b must be True or False, got "):
            check_bool("b", value)


def test_choices():
    assert check_choice("c", "a", ["a", "b"]) == "a"
    for value in ("x", [], None, np.array(["a"]), Silent()):
        with pytest.raises(ValueError, match=r"^c must be one of 'a', 'b', got "):
            check_choice("c", value, ["a", "b"])


@given(st.recursive(st.integers() | st.text() | st.binary(), lambda s: st.lists(s) | st.tuples(s)))
def test_any_value_is_shown_in_one_short_line(value):
    assert len(shown(value)) <= 121


def test_values_that_are_large_or_refuse_are_shown():
    assert shown(np.zeros((1000, 1000))) == "an array float64 [1000, 1000]"
    assert shown([[10**9] * 10**6] * 3).startswith("[[1000000000, ")
    assert shown(Silent()).startswith("<Silent instance")


def test_an_instance_is_returned_and_others_are_refused():
    assert check_instance("images", "x", str, "a string") == "x"
    with pytest.raises(ValueError, match="images must be a string, got 3"):
        check_instance("images", 3, str, "a string")


def test_a_count_beyond_its_limit_is_refused():
    check_count("the state", 10, 10, a=5, b=2)
    message = r"^a=11, b=1 is too large: the state would be 11 numbers, more than 10"
    with pytest.raises(ValueError, match=message):
        check_count("the state", 11, 10, a=11, b=1)


def test_seeds():
    assert check_seed("seed", np.int64(2)) == 2
    assert check_seed("seed", 2**128 - 1) == 2**128 - 1
    for value in (-1, 2**128, 1.0, True, None, "1"):
        with pytest.raises(ValueError, match=r"^seed must be an integer of at least 0"):
            check_seed("seed", value)


def test_sizes():
    check_bytes("it", 8, 8, a=1)
    with pytest.raises(ValueError, match=r"^a=1, b=2 is too large: it takes 1,000 bytes, of 8 all"):
        check_bytes("it", 1000, 8, a=1, b=2)
    with pytest.raises(ValueError, match=r"it takes 10\*\*400 bytes"):
        check_bytes("it", 10**400, 8, size=10**400)


def test_intervals():
    assert check_interval("i", np.array([0, 2])) == (0.0, 2.0)
    assert check_interval("i", [-np.inf, np.inf]) == (-np.inf, np.inf)
    for value in ((2, 1), (np.nan, 1), (1,), None, "12", (True, 2), (10**400, 1), [[0], [1, 2]]):
        with pytest.raises(ValueError, match=r"^i must be a pair of numbers \(lowest, highest\)"):
            check_interval("i", value)


def test_paths(tmp_path):
    assert check_path("p", tmp_path) == str(tmp_path)
    assert type(check_path("p", np.str_("x"))) is str
    for value in (b"x", 3, None, np.array(["x"]), Silent()):
        with pytest.raises(ValueError, match=r"^p must be a path, got "):
            check_path("p", value)


def test_texts_of_all_kinds_become_str():
    assert type(check_text("t", np.str_("a"))) is str
    assert check_text("t", np.str_("a")) == "a"


@pytest.mark.parametrize(
    "value", [v for v in ODD if not isinstance(v, str)], ids=lambda v: type(v).__name__
)
def test_other_values_are_no_texts(value):
    with pytest.raises(ValueError, match=r"^t must be a text, got "):
        check_text("t", value)
