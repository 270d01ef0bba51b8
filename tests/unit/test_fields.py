"""Fields declared once: what forms, command line and messages make of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from pydantic import ValidationError, field_validator

from core.model.errors import ConfigurationError
from core.model.fields import Declared, FieldType, declared, explain, form_fields, secret_fields


class Colour(StrEnum):
    RED = "red"
    DARK_BLUE = "dark-blue"


class Example(Declared):
    address: str = declared(title="Address", help="Where it is.", min_length=1, group="Where", placeholder="http://x")
    port: int = declared(8042, title="Port", ge=1, le=65535, advanced=True, unit="")
    wait: float = declared(1.5, title="Wait", gt=0, unit="s")
    colour: Colour = declared(Colour.RED, title="Colour", labels={"dark-blue": "Blue as the night"})
    maybe: int | None = declared(None, title="Maybe", ge=3)
    names: tuple[str, ...] = declared((), title="Names")
    made: tuple[str, ...] = declared(title="Made", default_factory=lambda: ("a",))
    on: bool = declared(True, title="On")
    password: str = declared("", title="Password", type=FieldType.SECRET)

    @field_validator("address")
    @classmethod
    def _no_dots(cls, value: str) -> str:
        if value.endswith(".."):
            raise ValueError(f"“{value}” ends in two dots.")
        return value


def fields() -> dict[str, Any]:
    return {f.name: f for f in form_fields(Example)}


def test_types_are_guessed_or_given():
    assert [f.type for f in form_fields(Example)] == [
        FieldType.TEXT, FieldType.INTEGER, FieldType.NUMBER, FieldType.CHOICE, FieldType.INTEGER, FieldType.LIST,
        FieldType.LIST, FieldType.SWITCH, FieldType.SECRET,
    ]  # fmt: skip
    assert secret_fields(Example) == ("password",)


def test_what_forms_need():
    f = fields()
    assert f["address"].required
    assert f["address"].default is None
    assert (f["address"].help, f["address"].group, f["address"].placeholder) == ("Where it is.", "Where", "http://x")
    assert (f["port"].minimum, f["port"].maximum, f["port"].default, f["port"].advanced) == (1, 65535, 8042, True)
    assert (f["wait"].minimum, f["wait"].unit) == (0, "s")
    assert f["colour"].choices == (("red", "Red"), ("dark-blue", "Blue as the night"))
    assert f["maybe"].minimum == 3
    assert f["made"].default == ("a",)
    assert f["password"].option == "--password"
    assert not f["made"].required


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, ["Address (--address) is missing."]),
        ({"address": "x", "port": 0}, ["Port (--port): ", "greater than or equal to 1."]),
        ({"address": "x", "hue": "red"}, ["no field “hue”", "--address", "--password"]),
        ({"address": "a.."}, ["Address (--address): “a..” ends in two dots."]),
        ({"address": "x", "colour": "green"}, ["Colour (--colour)", "'red' or 'dark-blue'"]),
        ({"address": "", "port": "many"}, ["Address", "Port"]),
    ],
)
def test_what_is_wrong_is_said_with_titles_and_options(given, says):
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(given)
    told = explain(caught.value, Example)
    assert isinstance(told, ConfigurationError)
    for part in says:
        assert part in told.sentence
    assert told.sentence.endswith(".")
    assert not told.sentence.endswith("..")
    assert told.exit_status == 2


def test_a_secret_that_was_given_is_not_quoted_in_a_message():
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({"address": "x", "password": ["hunter2"]})
    assert "hunter2" not in str(explain(caught.value, Example))


def test_fields_are_frozen_and_stripped():
    example = Example(address="  x ")
    assert example.address == "x"
    with pytest.raises(ValidationError):
        example.address = "y"
