"""Command-line options: those of a config, of the data and of the store, and how a wrong one is refused.

A refusal is one sentence on stderr that names the option, the value and what is valid, and exit code 2. Nothing
here imports torch.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from moe.config import DATASETS, PRECISIONS, Config
from moe.schema import fields, kind


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses with one sentence."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with exit code 2."""
        refuse(
            self.prog,
            re.sub(r"^argument (\S+): (is )?", lambda found: f"{found[1]}{' is ' if found[2] else ': '}", message),
        )


def refuse(program: str, sentence: str) -> NoReturn:
    """Say on stderr why the usage is wrong and end with exit code 2."""
    print(f"{program}: {sentence}", file=sys.stderr)
    sys.exit(2)


def whole(low: int | None = None, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        valid = "a whole number" if low is None else f"a whole number from {low} to {high}"
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"is {text!r}; expected {valid}") from None
        if low is not None and high is not None and not low <= value <= high:
            raise argparse.ArgumentTypeError(f"is {value}; expected {valid}")
        return value

    return parse


def number(text: str) -> float:
    """Parse a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected a number") from None


def option(field: str) -> str:
    """A config's field as an option: train_examples is --train-examples."""
    return f"--{field.replace('_', '-')}"


#: how a config's field is read from the command line, by its type
_KINDS: dict[Any, dict[str, Any]] = {
    int: {"type": whole(), "metavar": "N"},
    float: {"type": number, "metavar": "X"},
    bool: {"action": argparse.BooleanOptionalAction},
    str: {"metavar": "NAME"},
}


AUTO: Final = "auto"

#: the fields that have a default of their own; which precision fits is known once the device is
_OWN = {name: field for name, field in fields(Config).items() if name != "precision"}


def add_precision(parser: argparse._ActionsContainer) -> None:
    """--precision, None where it is not given."""
    words = "of products: auto, which is bfloat16 on CPUs with AMX and else float32 (default), or one of the two"
    parser.add_argument("--precision", choices=(AUTO, *PRECISIONS), help=words)


def add_config(parser: argparse.ArgumentParser) -> None:
    """One option for each field of a config that has a default."""
    for name, field in _OWN.items():
        words = f"{field.description} (default: {field.default})"
        parser.add_argument(option(name), default=field.default, help=words, **_KINDS[kind(field)])


def config_from(arguments: argparse.Namespace, program: str) -> Config:
    """The config that the options ask for, in float32; a wrong value is refused under its option's name."""
    try:
        return Config(**{name: getattr(arguments, name) for name in _OWN})
    except ValueError as error:
        field, rest = str(error).split(" ", 1)
        refuse(program, f"{option(field)} {rest}")


def add_data(parser: argparse._ActionsContainer) -> None:
    """--data and --dataset; the latter is None where it is not given."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a folder with CIFAR-10: official batches or Parquet files"
    )
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        help="auto: CIFAR-10 if it can be had, else the built-in shapes (default)",
    )


def add_store(parser: argparse._ActionsContainer) -> None:
    """--store, None where it is not given, and --no-store."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--store",
        type=_store,
        metavar="PATH|URL",
        help="where trained stages are kept and found again (default: MOE_STORE, or the user's cache)",
    )
    which.add_argument("--no-store", action="store_true", help="train every stage, and keep none")


def _store(text: str) -> str:
    from moe.store.location import checked

    try:
        return checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {error}") from None


def store_of(arguments: Any, program: str) -> str | None:
    """Where the store is that the options ask for; None for none. A wrong MOE_STORE is refused with exit code 2."""
    from moe.store.location import checked, default_location

    if arguments.no_store:
        return None
    try:
        return arguments.store or checked(default_location())
    except ValueError as error:
        refuse(program, f"MOE_STORE is {error}")
