"""`python -m moe --epochs 5`: train one mixture and print its five stages.

`python -m moe predict` is in `moe/predict.py`. torch is loaded once the options are checked.
"""

import argparse
import json
import os
import shlex
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import AUTO, Parser, SharedOptions, add_options, from_options, refuse
from moe.config import FLOAT32, Config
from moe.console import Exit, emit, fail, tolerate_encoding, warn
from moe.export import ExportError, Origin, how_to_predict, new_file, save
from moe.files import irregular, replace_file
from moe.schema import fields

if TYPE_CHECKING:
    from moe.pipeline import TrainedMixture

PROGRAM = "python -m moe"


def main(arguments: list[str] | None = None) -> Exit:
    """Parse the options, train one mixture, print it; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["predict"]:
            from moe.predict import main as predict

            return predict(arguments[1:])
        return _run(parser().parse_args(arguments))
    except KeyboardInterrupt:
        return Exit.CTRL_C


def _run(given: argparse.Namespace) -> Exit:
    """Train one mixture or describe it, as the options ask."""
    config = from_options(Config, given, PROGRAM, precision=FLOAT32)
    options = from_options(SharedOptions, given, PROGRAM)
    tolerate_encoding()
    if given.json and given.save and given.json.resolve() == given.save.resolve():
        refuse(PROGRAM, f"--json and --save are {given.json}; expected two files")
    if given.describe:
        for name in ("json", "save"):
            if file := getattr(given, name):
                refuse(PROGRAM, f"--describe trains nothing to write to --{name}={file}; expected it without")
        from moe.describe import describe

        emit(describe(config))
        return Exit.DONE
    from moe.data.cifar10 import missing  # not torch, which takes seconds

    named = None if options.dataset == "shapes" else options.data or os.environ.get("CIFAR10_DIR")
    if problem := missing(named):
        return fail(PROGRAM, problem)
    return _train(config, options, given)


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
    try:
        if not irregular(path) and os.access(path.parent, os.W_OK | os.X_OK):
            return path
    except OSError:  # the name is too long, say
        pass
    raise argparse.ArgumentTypeError(f"is {text}; expected a file in a folder that can be written")


def _train(config: Config, options: SharedOptions, files: argparse.Namespace) -> Exit:
    """Train the mixture of a config, write the files that are named, and print it."""
    from torch import OutOfMemoryError

    from moe.data import DataError, load
    from moe.pipeline import train_mixture
    from moe.progress import bars
    from moe.store.store import Store
    from moe.training.loop import TrainingError
    from moe.training.numerics import available_devices, best_precision

    if (precision := options.precision or AUTO) == AUTO:
        precision = best_precision(available_devices()[0].type)
    config = config.replace(precision=precision)
    try:
        data = load(options.dataset or AUTO, options.data)
        emit(f"Data: {data.source}")
        with Store(options.location, warn=partial(warn, PROGRAM)) if options.location else nullcontext() as store:
            with bars(config.epochs) as on_epoch:
                trained = train_mixture(config, data, store, on_epoch=on_epoch)
            _write(trained, files.json, files.save)
    except (DataError, TrainingError, OutOfMemoryError, ExportError) as error:
        return fail(PROGRAM, str(error))
    return Exit.DONE


def _write(trained: "TrainedMixture", json_file: Path | None, mixture_file: Path | None) -> None:
    """Write the files that the options name, first the one that cannot be had again without training, and then print.

    Raises:
        ExportError: a file cannot be written; the result is printed nevertheless.
        SystemExit: the output cannot be written; the files are.
    """
    lines = [str(trained.result)]
    try:
        if mixture_file:
            origin = Origin.here(shlex.join([*PROGRAM.split(), *sys.argv[1:]]))
            save(mixture_file, trained.networks, trained.result, origin)
            lines.append(how_to_predict(mixture_file))
        if json_file:
            try:
                content = json.dumps(trained.result.as_json(), indent=2, allow_nan=False) + "\n"
                replace_file(json_file, content.encode())
            except OSError as error:
                raise ExportError(f"--json is {json_file}; it cannot be written: {error.strerror}") from None
    finally:
        emit("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
