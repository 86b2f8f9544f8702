"""The options of `python -m study.confirm`. Invalid ones exit with code 2, without torch or Ray."""

import argparse
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le
from pydantic import Field

from moe.cli import Parser, add_options, from_options
from study.folder import named
from study.options import RESOURCES, RayOptions
from study.study import CONFIRM_FROM, SEED_STRIDE

PROGRAM = "python -m study.confirm"
SEEDS, MARGIN = 10, 1.0  # of a new confirmation
MOST_SEEDS = SEED_STRIDE - CONFIRM_FROM  # of all confirmations of a study


class ConfirmOptions(RayOptions):
    """The command line; None where an option is not given."""

    program: ClassVar[str] = PROGRAM
    folder: Path
    seeds: Annotated[
        int | None, Ge(3), Le(MOST_SEEDS), Field(description=f"fresh seeds of each config, by default {SEEDS}")
    ] = None
    margin: Annotated[
        float | None, Gt(0), Le(100), Field(description=f"points that matter to the verdict, by default {MARGIN:g}")
    ] = None
    again: Annotated[bool, Field(description="another confirmation, with other seeds, once one is finished")] = False
    dry_run: Annotated[bool, Field(description="print its price and what it resolves, and exit")] = False
    print_json: bool = False


def parse(arguments: list[str] | None = None) -> ConfirmOptions:
    """Read the command line; invalid options exit with code 2."""
    given = parser().parse_args(arguments)
    folder = named(given.folder)
    return from_options(ConfirmOptions, given, PROGRAM, folder=folder, results=str(folder.parent))


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Train a study's chosen config and its controls on fresh seeds, score them once on the test "
        "images, and give a verdict.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A confirmation that was interrupted continues with the same command. "
        "exit codes: 0 done, 1 a bug, 2 wrong usage, 4 study, data or machine, 75 interrupted and resumable",
    )
    command.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    confirmation = command.add_argument_group("confirmation")
    add_options(confirmation, ConfirmOptions, "seeds", "margin", "again")
    printed, words = confirmation.add_mutually_exclusive_group(), "print the result as JSON, and all else to stderr"
    add_options(printed, ConfirmOptions, "dry_run")
    printed.add_argument("--json", dest="print_json", action="store_true", help=words)
    data = command.add_argument_group("data and store")
    add_options(data, ConfirmOptions, "data")
    add_options(data.add_mutually_exclusive_group(), ConfirmOptions, "store", "no_store")
    add_options(command.add_argument_group("resources"), ConfirmOptions, *RESOURCES)
    return command
