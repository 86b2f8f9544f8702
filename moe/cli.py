"""Command-line options made from the fields of a model, and how a wrong one is refused. Imports no torch.

    parser = Parser(prog="python -m moe")
    add_options(parser, Config)                                     # --epochs N, --use-large-experts, ...
    config = from_options(Config, parser.parse_args(), parser.prog)

An invalid option ends the program with exit code 2 and one sentence on stderr: the option, its value, what is valid.
"""

import argparse
import difflib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, Self, TypeVar

from pydantic import Field, field_validator, model_validator
from pydantic.fields import FieldInfo

from moe.config import Dataset
from moe.console import Exit, warn
from moe.files import expanded
from moe.schema import Model, choices, expected, fields, kind
from moe.store.location import checked, default_location

AUTO: Final = "auto"

Value = TypeVar("Value", bound=Model)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, with --version."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        try:
            here = version("moe-study")
        except PackageNotFoundError:
            here = "(not installed)"
        self.add_argument("--version", action="version", version=f"moe-study {here}", help="print the version and exit")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and end with exit code 2."""
        start = "unrecognized arguments: "
        if message.startswith(start):
            unknown = next(iter(message.removeprefix(start).split()), repr(message.removeprefix(start)))
            close = difflib.get_close_matches(unknown.partition("=")[0], self._option_string_actions, 1)
            known = close[0] if close else "one that --help lists" if unknown.startswith("-") else "no more words"
            message = f"{unknown} is not an option; expected {known}"
        refuse(self.prog, message.removeprefix("argument ").replace(": is ", " is ", 1))


def refuse(program: str, sentence: str) -> NoReturn:
    """Print to stderr why the usage is wrong and end with exit code 2."""
    warn(program, sentence)
    sys.exit(Exit.USAGE)


class SharedOptions(Model):
    """The options that `python -m moe` and `python -m study.run` share; None where one is not given."""

    data: Annotated[
        Path | None,
        Field(title="DIR", description="CIFAR-10: its archive, or a folder with batches, Parquet files or PNGs"),
    ] = None
    dataset: Annotated[
        Dataset | None, Field(description="auto (default): CIFAR-10 if it is available, else the built-in shapes")
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"] | None,
        Field(description="of products; auto (default): bfloat16 on CPUs with instructions for it, else float32"),
    ] = None
    store: Annotated[
        str | None, Field(title="PATH|URL", description="of trained stages (default: MOE_STORE, or the user's cache)")
    ] = None
    no_store: Annotated[bool, Field(description="train every stage, and save none")] = False

    @field_validator("data")
    @classmethod
    def _home(cls, data: Path | None) -> Path | None:
        return data and expanded(data)

    @field_validator("store")
    @classmethod
    def _absolute(cls, store: str | None) -> str | None:
        return None if store is None else checked_location("store", store)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.dataset == "shapes" and self.data:
            raise ValueError(f"data is {self.data}; expected none with --dataset shapes, which is drawn by code")
        _ = self.location
        return self

    @cached_property
    def location(self) -> str | None:
        """Where trained stages are saved and loaded, as an absolute path or a URL; None for --no-store."""
        return None if self.no_store else self.store or checked_location("MOE_STORE", default_location())


def checked_location(name: str, place: str) -> str:
    """A location of files as `moe.store.location.checked` has it; a ValueError names the option."""
    try:
        return checked(place)
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from None


def location(text: str) -> str:
    """An option's location of files, as `moe.store.location.checked` has it."""
    try:
        return checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {error}") from None


def option(field: str) -> str:
    """A field as an option: train_examples is --train-examples."""
    return f"--{field.replace('_', '-')}"


def add_options(parser: argparse._ActionsContainer, model: type[Model], *names: str) -> None:
    """One option for each of these fields, or for all; type, choices, default and help are the field's."""
    for name in names or fields(model):
        field = fields(model)[name]
        settings: dict[str, Any] = {"type": _reader(field)}
        if kind(field) is bool:
            settings = {"action": "store_true"}
        elif named := choices(field):
            settings["choices"] = named
        else:
            settings["metavar"] = field.title or _METAVARS.get(kind(field), "TEXT")
        parser.add_argument(option(name), default=field.default, help=_help(field), **settings)


_METAVARS = {int: "N", float: "X", Path: "PATH"}


def _help(field: FieldInfo) -> str:
    notes = [expected(field).split("number ")[-1]] if field.metadata and kind(field) in (int, float) else []
    if field.default is not None and field.default is not False:
        notes.append(f"default: {field.default}")
    return f"{field.description} ({'; '.join(notes)})" if notes else str(field.description)


def _reader(field: FieldInfo) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        with suppress(ValueError):
            value = kind(field)(text)
            if value in (choices(field) or (value,)):
                return value
        raise argparse.ArgumentTypeError(f"is {text!r}; expected {expected(field)}")

    return read


def from_options(model: type[Value], given: argparse.Namespace, program: str, **others: Any) -> Value:
    """A model made from its options and `others`; an invalid value ends the program with exit code 2."""
    try:
        return model(**{name: value for name, value in {**vars(given), **others}.items() if name in fields(model)})
    except ValueError as error:
        name, rest = str(error).split(" ", 1)
        refuse(program, f"{option(name) if name in fields(model) else name} {rest}")


def whole(low: int | None = None, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        with suppress(ValueError):
            if low is None or high is None or low <= int(text) <= high:
                return int(text)
        valid = "a whole number" if low is None else f"a whole number from {low} to {high}"
        raise argparse.ArgumentTypeError(f"is {text!r}; expected {valid}")

    return parse
