"""Classify pictures with a saved mixture: `python -m moe predict FILE IMAGE...`.

For each picture: the gate's superclass and, for baseline, experts and mixture, the likeliest class, each with its
probability. Pictures that cannot be read are named after the table, and the exit code is then 4.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe.cli import Parser
from moe.config import HOLDOUT, SUPERCLASSES
from moe.console import PIPE_WIDTH, Exit, emit, fail, output_width, table, tolerate_encoding, warn
from moe.export import Description, ExportError

if TYPE_CHECKING:
    from torch import Tensor

PROGRAM = "python -m moe predict"
ORDER = ("gate", "baseline", "artificial", "natural", "mixture")  # as an image goes through the mixture


def main(arguments: Sequence[str]) -> Exit:
    """Parse, classify, print; the exit code."""
    command = Parser(prog=PROGRAM, description="Classify pictures with a saved mixture.")
    command.add_argument("file", type=Path, metavar="FILE", help="what --save wrote")
    command.add_argument("pictures", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG or WebP")
    command.add_argument("--json", action="store_true", help="print all probabilities, as a list of pictures in JSON")
    options = command.parse_args(arguments)
    tolerate_encoding()  # a file's name may have letters that the terminal lacks
    from moe.export import load

    try:
        saved = load(options.file)
    except ExportError as error:
        return fail(PROGRAM, str(error))
    images, errors = _load(options.pictures)
    if images:
        from torch import stack

        from moe.pipeline import probabilities

        predicted = probabilities(saved.networks, stack([image for _, image in images]))
        paths = [path for path, _ in images]
        if options.json:
            emit(json.dumps(as_json(paths, predicted, saved.description.classes), indent=2))
        else:
            emit(f"{headline(options.file, saved.description)}\n")
            emit(predictions(paths, predicted, saved.description.classes))
    elif options.json:
        emit("[]")
    for sentence in errors:
        warn(PROGRAM, sentence)
    return Exit.ENVIRONMENT if errors else Exit.DONE


def _load(paths: Sequence[Path]) -> tuple[list[tuple[Path, "Tensor"]], list[str]]:
    """The pictures that can be read, each with its path, and a sentence for each that cannot."""
    from moe.pictures import PictureError, load

    images, errors = [], []
    for path in paths:
        try:
            images.append((path, load(path)))
        except PictureError as error:
            errors.append(str(error))
    return images, errors


def headline(file: Path, description: Description) -> str:
    """What the mixture is, and how far to trust it."""
    result = description.result
    images = f"{result.scored_examples:,} {'validation' if result.config.protocol == HOLDOUT else 'test'} images"
    return (
        f"Mixture {file}: {result.dataset}, {result.config.train_examples:,} training images, "
        f"epochs {result.config.epochs}, seed {result.config.seed}; accuracy {result.score.mixture_accuracy:.1%} on "
        f"{images}, its baseline {result.score.baseline_accuracy:.1%}"
    )


def predictions(paths: Sequence[Path], predicted: dict[str, "Tensor"], classes: Sequence[str]) -> str:
    """(N, outputs) probabilities by stage as a table.

    It has a row per picture with a column per stage; on a narrow terminal, a row per picture and stage.
    """
    columns = [_best(predicted[stage], SUPERCLASSES if stage == "gate" else classes) for stage in ORDER]
    names = [str(path) if str(path).isprintable() else ascii(str(path))[1:-1] for path in paths]
    wide = table(("picture", *ORDER), zip(names, *columns, strict=True), left=1 + len(ORDER), width=PIPE_WIDTH)
    if max(map(len, wide.splitlines())) <= output_width():
        return wide
    rows = [
        (name if stage == ORDER[0] else "", stage, answer)
        for name, *answers in zip(names, *columns, strict=True)
        for stage, answer in zip(ORDER, answers, strict=True)
    ]
    return table(("picture", "stage", "prediction"), rows, left=3)


def as_json(paths: Sequence[Path], predicted: dict[str, "Tensor"], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Per picture its path and, by stage, the probability of each class; the gate's of each superclass."""
    names = {stage: SUPERCLASSES if stage == "gate" else classes for stage in ORDER}
    return [
        {"picture": str(path)}
        | {stage: dict(zip(names[stage], predicted[stage][place].tolist(), strict=True)) for stage in ORDER}
        for place, path in enumerate(paths)
    ]


def _best(probabilities: "Tensor", names: Sequence[str]) -> list[str]:
    """The likeliest class of each row and its probability, aligned."""
    best = zip(*(each.tolist() for each in probabilities.max(1)), strict=True)
    return [f"{names[label]:<{max(map(len, names))}} {share:>6.1%}" for share, label in best]
