"""Typed values that check themselves, in Python and when decoded from JSON.

    class Spec(Model):
        epochs: Annotated[int, Field(ge=1, description="of each stage, at most")] = 1

    Spec(epochs=0)                    ValueError: epochs is 0; expected a whole number from 1
    decode(Spec, '{"epochs": true}')  ValueError: epochs is true; expected a whole number from 1

Default, range and help stand with the field, once. Every error is one sentence that names the field, the value and
what is valid. Nothing here imports torch.
"""

import json
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

Value = TypeVar("Value", bound="Model")

_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "an object",
    tuple: "a list",
    AwareDatetime: "a time with its zone, from 1970 on, such as 2026-01-31T12:00:00+00:00",
}


if TYPE_CHECKING:  # type checkers see the fields as arguments
    _Base = BaseModel
else:

    class _Checked(type(BaseModel)):  # pydantic's metaclass has no public name
        """Makes a model from Python values: numpy's scalars become numbers, and an error becomes one sentence."""

        def __call__(cls, **fields: Any) -> Any:
            try:
                return super().__call__(**{name: _plain(value) for name, value in fields.items()})
            except ValidationError as error:
                raise ValueError(sentence(cls, error)) from None

    class _Base(BaseModel, metaclass=_Checked):
        pass


class Model(_Base):
    """A frozen value whose fields are checked when it is made.

    Types are strict: no text is taken for a number and no number for a flag. numpy's scalars are taken for the
    numbers that they are.

    Raises:
        ValueError: a field is missing, unknown, of another type or out of its range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """The same value with some fields changed, checked again."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    def as_json(self) -> dict[str, Any]:
        """The value as JSON has it: numbers, text, lists and objects."""
        return self.model_dump(mode="json")


def decode(model: type[Value], content: str | bytes | Mapping[str, Any]) -> Value:
    """A value from JSON text, or from an object that was parsed already.

    Raises:
        ValueError: it is no JSON, or does not fit; one sentence says which field, its value and what is valid.
    """
    if isinstance(content, Mapping):
        try:
            content = json.dumps(content)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON: {error}") from None
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(sentence(model, error)) from None


def fields(model: type[Model]) -> dict[str, FieldInfo]:
    """A model's fields by name, in the order of their declaration."""
    return model.model_fields


def kind(field: FieldInfo) -> type:
    """The plain type of a field: int, float, bool, str or another class; None beside it does not count."""
    if named := choices(field):
        return type(named[0])
    plain: type = typing.get_origin(_annotation(field)) or _annotation(field)
    return plain


def choices(field: FieldInfo) -> tuple[Any, ...]:
    """The values of a field that is one of a few; empty for others."""
    annotation = _annotation(field)
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def _annotation(field: FieldInfo) -> Any:
    """A field's annotation without None and without Annotated."""
    annotation = field.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def expected(field: FieldInfo) -> str:
    """What is valid for a field, in words: a whole number from 1 to 10000."""
    if named := choices(field):
        return f"one of {', '.join(map(str, named))}" if len(named) > 1 else str(named[0])
    plain = kind(field)
    if issubclass(plain, BaseModel):
        return f"an object with {', '.join(plain.model_fields)}"
    words = _KINDS.get(plain, plain.__name__)
    if plain not in (int, float):
        return words
    for mark in field.metadata:
        if isinstance(mark, Ge):
            words += f" from {mark.ge}"
        elif isinstance(mark, Gt):
            words += f" above {mark.gt},"
        elif isinstance(mark, Le):
            words += f" {'up ' * words.endswith(',')}to {mark.le}"
    return words.removesuffix(",")


def sentence(model: type[BaseModel], error: ValidationError) -> str:
    """The first error of a validation as one sentence."""
    first = error.errors(include_url=False)[0]
    place, name = first["loc"], ".".join(map(str, first["loc"]))
    known = _owner(model, place).model_fields
    match first["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not known; expected {', '.join(known)}"
        case "value_error":
            return str(first["ctx"]["error"])
        case "json_invalid":
            return f"it is no JSON: {first['ctx']['error']}"
        case "json_type" | "string_unicode":
            return "it is no text"
    field = known.get(str(place[-1])) if place else None
    valid = expected(field) if field else first["msg"].removeprefix("Input should be ")
    return f"{name or 'it'} is {shown(first['input'])}; expected {valid}"


def shown(value: Any) -> str:
    """A value as a sentence shows it: as JSON has it, and not too long."""
    return json.dumps(value) if isinstance(value, bool) or value is None else reprlib.repr(value)


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own number or flag; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def _owner(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model in which the last name of a place stands."""
    for name in place[:-1]:
        if field := model.model_fields.get(str(name)):
            model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation names, also within a union, a tuple or a dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
