import json
import math
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le
from pydantic import Field

from moe.schema import Model, choices, decode, expected, fields, kind


class Inner(Model):
    size: Annotated[int, Ge(1), Le(5)]


class Outer(Model):
    epochs: Annotated[int, Ge(1), Le(10), Field(description="how many")] = 1
    flag: bool = False
    rate: Annotated[float, Gt(0), Le(1)] = 0.5
    way: Literal["left", "right"] = "left"
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = {}  # noqa: RUF012 (pydantic copies it)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0; expected a whole number from 1 to 10"),
        ({"epochs": True}, "epochs is true; expected a whole number from 1 to 10"),
        ({"epochs": 2.0}, "epochs is 2.0; expected a whole number from 1 to 10"),
        ({"epochs": "3"}, "epochs is '3'; expected a whole number from 1 to 10"),
        ({"epochs": None}, "epochs is null; expected a whole number from 1 to 10"),
        ({"flag": 1}, "flag is 1; expected true or false"),
        ({"rate": 0}, "rate is 0; expected a number above 0, up to 1"),
        ({"way": "up"}, "way is 'up'; expected one of left, right"),
        ({"depth": 3}, "depth is not known; expected epochs, flag, rate, way, inner, many, by_name"),
        ({"inner": {}}, "inner.size is missing"),
        ({"inner": {"size": 9}}, "inner.size is 9; expected a whole number from 1 to 5"),
        ({"inner": 3}, "inner is 3; expected an object with size"),
    ],
)
def test_an_error_is_one_sentence_with_the_field_its_value_and_what_is_valid(wrong, sentence):
    with pytest.raises(ValueError) as from_python:  # noqa: PT011 (the whole sentence is compared)
        Outer(**wrong)
    with pytest.raises(ValueError) as from_json:  # noqa: PT011
        decode(Outer, json.dumps(wrong))
    assert str(from_python.value) == str(from_json.value) == sentence


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('{"many": [{"size": 1}, {"size": "x"}]}', "many.1.size is 'x'; expected a whole number"),
        ('{"by_name": {"a": {"size": 0}}}', "by_name.a.size is 0; expected a whole number"),
        ('{"rate": NaN}', "rate is nan"),
        ('{"epochs": 1e400}', "epochs is inf"),
        ("[1]", "it is [1]; expected an object"),
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        ("null", "it is null"),
    ],
)
def test_damaged_json_is_one_short_sentence(text, start):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 (the sentence is compared)
        decode(Outer, text)
    assert str(refusal.value).startswith(start)
    assert len(str(refusal.value)) < 200
    assert "\n" not in str(refusal.value)


def test_values_come_back_from_json_as_they_were():
    value = Outer(rate=0.1 + 0.2, inner=Inner(size=2), many=(Inner(size=1),), by_name={"a": Inner(size=3)})
    assert decode(Outer, json.dumps(value.as_json())) == value
    assert decode(Outer, value.as_json()) == value


@pytest.mark.parametrize("number", [np.int64(3), np.uint8(3), np.array(3)])
def test_a_numpy_scalar_is_the_number_that_it_is(number):
    assert Outer(epochs=number) == Outer(epochs=3)
    assert type(Outer(epochs=number).epochs) is int


def test_a_numpy_flag_or_float_is_taken_and_one_of_another_kind_is_refused():
    assert Outer(flag=np.bool_(True), rate=np.float32(0.25)) == Outer(flag=True, rate=0.25)
    with pytest.raises(ValueError, match=r"epochs is 2\.0"):
        Outer(epochs=np.float64(2))


def test_a_changed_copy_is_checked_too():
    assert Outer().replace(epochs=4) == Outer(epochs=4)
    with pytest.raises(ValueError, match="epochs is 0"):
        Outer().replace(epochs=0)


def test_values_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer().epochs = 2


def test_a_field_says_its_type_its_choices_and_what_is_valid():
    found = fields(Outer)
    assert [kind(found[name]) for name in ("epochs", "flag", "rate", "way", "inner")] == [int, bool, float, str, Inner]
    assert choices(found["way"]) == ("left", "right")
    assert choices(found["epochs"]) == ()
    assert expected(found["epochs"]) == "a whole number from 1 to 10"
    assert found["epochs"].description == "how many"
    assert math.isclose(found["rate"].default, 0.5)
