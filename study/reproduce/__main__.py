"""`python -m study.reproduce results/NAME`: train its best trial again, from nothing, and compare number by number."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from moe.cli import Parser, location, refuse, whole
from moe.console import Exit, fail, tolerate_lost_output
from moe.export import new_file
from moe.files import expanded
from study.definition import refuse_data_for_shapes
from study.folder import FolderError
from study.reproduce.original import UnknownTrialError, find

PROGRAM = "python -m study.reproduce"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that no file stays half-written
    tolerate_lost_output()
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(words)
    try:
        return _run(options, shlex.join([*PROGRAM.split(), *words]))
    except UnknownTrialError as error:
        refuse(PROGRAM, f"--trial is {error}")
    except FolderError as error:
        return fail(PROGRAM, str(error))
    except KeyboardInterrupt:
        return Exit.CTRL_C


def _run(options: argparse.Namespace, command: str) -> Exit:
    original = find(options.folder, options.trial)
    refuse_data_for_shapes(PROGRAM, original.study, options.data)
    from study.reproduce.retrain import ERRORS, reproduce  # loads torch, so only after the options are checked

    try:
        return reproduce(original, options.data, options.store, options.save, command, options.json)
    except ERRORS as error:
        return fail(PROGRAM, str(error))


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Train the best trial of a study again, from nothing, and compare every number with its record.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 identical, 2 wrong usage, 4 study, data or machine, 5 something differs, 130 Ctrl-C",
    )
    command.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    command.add_argument("--trial", type=whole(), metavar="N", help="default: the first trial of the best config")
    command.add_argument("--data", type=_data, metavar="DIR", help="CIFAR-10 (default: where the study had it)")
    command.add_argument("--store", type=location, metavar="PATH|URL", help="reuse its stages instead of training them")
    command.add_argument("--save", type=new_file, metavar="FILE", help="save the mixture as FILE.safetensors")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON, and all else to stderr")
    return command


def _data(text: str) -> Path:
    if not text or not (path := expanded(text)).exists():
        raise argparse.ArgumentTypeError(f"is {text or repr(text)}; expected a folder with CIFAR-10")
    return path


if __name__ == "__main__":
    sys.exit(main())
