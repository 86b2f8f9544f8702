"""The options of `python -m study.reproduce`, and how wrong ones are refused: at once, without torch."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from moe.cli import Parser, whole
from moe.export import new_file

PROGRAM = "python -m study.reproduce"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for; None where an option was not given."""

    folder: Path
    trial: int | None
    data: Path | None
    store: str | None
    save: Path | None


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line; what is wrong on its face is refused with exit code 2."""
    parser = Parser(
        prog=PROGRAM,
        description="Train the best trial of a study again, from nothing, and compare every number with its record.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 identical, 2 wrong usage, 4 study, data or machine, 5 something differs, 130 Ctrl-C",
    )
    parser.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    parser.add_argument("--trial", type=whole(), metavar="N", help="another one than the best config's first")
    parser.add_argument(
        "--data", type=_folder, metavar="DIR", help="a folder with CIFAR-10 (default: where the study had it)"
    )
    parser.add_argument(
        "--store", type=_store, metavar="PATH|URL", help="take stages from there, and so train and prove less"
    )
    parser.add_argument("--save", type=new_file, metavar="FILE.safetensors", help="save the trained mixture there")
    return Options(**vars(parser.parse_args(arguments)))


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is ''; expected a folder")
    return Path(text)


def _store(text: str) -> str:
    from moe.store.location import checked

    try:
        return checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {error}") from None
