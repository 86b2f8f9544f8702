"""`python -m study.analyze results/NAME ...`: what the trials of a study say, or of several side by side.

options --> records --> model, luck, importances --> text; figures in results/NAME/figures/
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import Parser, whole

if TYPE_CHECKING:
    from study.analyze.analysis import Analysis

PROGRAM = "python -m study.analyze"
DONE, ENVIRONMENT, INTERRUPTED = 0, 4, 130
NO_TERMINAL = (120, 24)
LEAST_WIDTH = 40


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    studies: list[Path]
    rows: int
    figures: bool


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line; what is wrong on its face is refused with exit code 2."""
    parser = Parser(
        prog=PROGRAM,
        description="Show what a study's trials say, as tables and as figures in its folder. Nothing else is written; "
        "the study may be running.",
        epilog="exit codes: 0 done, 1 a bug, 2 wrong usage, 4 no study, or a damaged one, 130 Ctrl-C",
    )
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help="a study's folder, as results/first")
    parser.add_argument(
        "--rows", type=whole(0, 1_000_000), default=15, metavar="N", help="configs to show, 0 for all (15)"
    )
    parser.add_argument("--no-figures", dest="figures", action="store_false", help="only the tables")
    return Options(**vars(parser.parse_intermixed_args(arguments)))


def main() -> int:
    """Run the command; the exit code."""
    try:
        options = parse()
        return _analyze(options)
    except KeyboardInterrupt:
        return INTERRUPTED


def _analyze(options: Options) -> int:
    from study.analyze.analysis import examine
    from study.console import tolerate
    from study.folder import FolderError

    tolerate()
    try:
        return _show(options, [examine(path) for path in options.studies])
    except FolderError as error:
        return _cannot(str(error))
    except OSError as error:
        return _cannot(f"{error.filename or 'the output'}: {error.strerror or error}")


def _show(options: Options, analyses: "list[Analysis]") -> int:
    """Say what there is to say, draw what there is to draw."""
    from study.analyze.compare import comparison
    from study.analyze.text import report
    from study.console import say

    width = max(LEAST_WIDTH, shutil.get_terminal_size(NO_TERMINAL).columns)
    for analysis in analyses:
        say(report(analysis, options.rows, width))
    if len(analyses) > 1:
        say(comparison(analyses, width))
    if options.figures:
        from study.analyze.figures import draw

        for analysis in analyses:
            say(draw(analysis))
    return DONE


def _cannot(sentence: str) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return ENVIRONMENT


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small: threads would wait for each other
    sys.exit(main())
