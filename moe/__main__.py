"""`python -m moe --epochs 5`: train one mixture and print its five stages. Here are the options, which need no torch.

`python -m moe predict` is in `moe/predict.py`.
"""

import argparse
import os
import sys
from pathlib import Path

from moe.cli import Parser, SharedOptions, add_options, from_options
from moe.config import FLOAT32, Config
from moe.console import Exit, emit, tolerate_encoding
from moe.export import new_file
from moe.schema import fields

PROGRAM = "python -m moe"


def main(arguments: list[str] | None = None) -> Exit:
    """Parse the options, train one mixture, print it; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["predict"]:
        from moe.predict import main as predict

        return predict(arguments[1:])
    given = parser().parse_args(arguments)
    config = from_options(Config, given, PROGRAM, precision=FLOAT32)
    options = from_options(SharedOptions, given, PROGRAM)
    tolerate_encoding()
    if given.describe:
        from moe.describe import describe

        emit(describe(config))
        return Exit.DONE
    from moe.command import train

    return train(PROGRAM, config, options, json_file=given.json, mixture_file=given.save)


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Train one mixture of experts and print its five stages.",
        epilog=f"{PROGRAM} predict FILE IMAGE... classifies pictures with a mixture that --save wrote.",
    )
    add_options(command, Config, *(name for name in fields(Config) if name != "precision"))
    add_options(command, SharedOptions, "precision", "data", "dataset")
    add_options(command.add_mutually_exclusive_group(), SharedOptions, "store", "no_store")
    command.add_argument("--describe", action="store_true", help="print the networks, and train nothing")
    command.add_argument("--json", type=_json_file, metavar="FILE", help="write the result there")
    command.add_argument("--save", type=new_file, metavar="FILE.safetensors", help="save the trained mixture there")
    return command


def _json_file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"is {text}; expected a file in a folder that can be written")
    return path


if __name__ == "__main__":
    sys.exit(main())
