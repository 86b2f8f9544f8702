"""What a saved mixture says of pictures: `python -m moe predict DIR IMAGE...`.

One line per picture: the gate's superclass and, for baseline, experts and mixture, the likeliest class, each with its
probability. What cannot be read is named after the table, and the exit code is then 4.
"""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import Parser
from moe.config import HOLDOUT
from moe.export import About, SavedError

if TYPE_CHECKING:
    from torch import Tensor

PROGRAM = "python -m moe predict"
DONE, ENVIRONMENT = 0, 4
ORDER = ("gate", "baseline", "artificial", "natural", "mixture")  # as an image goes through the mixture
SUPERCLASSES = ("artificial", "natural")


def main(arguments: Sequence[str]) -> int:
    """Parse, classify, print; the exit code."""
    parser = Parser(prog=PROGRAM, description="Classify pictures with a mixture that --save kept.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what --save wrote")
    parser.add_argument("pictures", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG or WebP")
    asked = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a file's name may have letters that the terminal lacks
    from moe.export import load

    try:
        saved = load(asked.folder)
    except SavedError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ENVIRONMENT
    images, complaints = _read(asked.pictures)
    if images:
        from torch import stack

        from moe.pipeline import probabilities

        said = probabilities(saved.networks, stack([image for _, image in images]))
        shown = table([path for path, _ in images], said, saved.about.classes)
        complaints += _say(f"{headline(asked.folder, saved.about)}\n\n{shown}")
    for sentence in complaints:
        print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return ENVIRONMENT if complaints else DONE


def _say(text: str) -> list[str]:
    """Print it; a sentence where that fails, and none where nobody reads any more, as after `| head`."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again as it ends
        return [] if isinstance(error, BrokenPipeError) else [f"the output: {error.strerror}"]
    return []


def _read(paths: Sequence[Path]) -> tuple[list[tuple[Path, "Tensor"]], list[str]]:
    """The images that can be read, each with its path, and a sentence for each that cannot."""
    from moe.pictures import PictureError, read

    images, unreadable = [], []
    for path in paths:
        try:
            images.append((path, read(path)))
        except PictureError as error:
            unreadable.append(str(error))
    return images, unreadable


def headline(folder: Path, about: About) -> str:
    """What the mixture is, and how far to trust it."""
    config, found = about.config, about.result
    scored = f"{found['scored_examples']:,} {'validation' if config.protocol == HOLDOUT else 'test'} images"
    return (
        f"Mixture {folder}: {about.dataset}, {config.train_examples:,} images to learn from, epochs {config.epochs}, "
        f"seed {config.seed}; right on {found['mixture_accuracy']:.1%} of {scored}, its baseline on "
        f"{found['baseline_accuracy']:.1%}"
    )


def table(paths: Sequence[Path], said: dict[str, "Tensor"], classes: Sequence[str]) -> str:
    """One line per picture under a line of headings.

    Args:
        said: probabilities by stage, a row per picture.
    """
    columns = [["picture", *(_printable(path) for path in paths)]]
    columns += [[name, *_answers(said[name], SUPERCLASSES if name == "gate" else classes)] for name in ORDER]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _answers(probabilities: "Tensor", names: Sequence[str]) -> list[str]:
    """The likeliest class of each row, and how likely it is, in columns of their own."""
    best, labels = probabilities.max(1)
    width = max(map(len, names))
    return [
        f"{names[label]:<{width}} {share:>6.1%}" for share, label in zip(best.tolist(), labels.tolist(), strict=True)
    ]


def _printable(path: Path) -> str:
    """A path as one line of text, whatever is in its name."""
    text = str(path)
    return text if text.isprintable() else ascii(text)[1:-1]
