"""`python -m study.analyze results/NAME ...`: report and figures of a study, or of several side by side.

options --> records --> model --> report; figures in results/NAME/figures/
"""

import argparse
import gc
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import Parser, whole
from moe.console import Exit, emit, fail, tolerate_encoding

if TYPE_CHECKING:
    from study.analyze.analysis import Analysis

PROGRAM = "python -m study.analyze"
PIPE = (120, 24)  # columns and lines, where the output is no terminal
LEAST_WIDTH = 60


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Report what a study's trials show, and write figures and report.html into its folder. The "
        "study may be running.",
        epilog="exit codes: 0 done, 1 a bug, 2 wrong usage, 4 no study, or a damaged one, 130 Ctrl-C",
    )
    command.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help="a study's folder, as results/first")
    command.add_argument(
        "--rows", type=whole(0, 1_000_000), default=15, metavar="N", help="configs to show, 0 for all (15)"
    )
    command.add_argument("--no-figures", dest="figures", action="store_false", help="print only")
    command.add_argument(
        "--rebuild",
        action="store_true",
        help="first write tables, best.json, summary.md and study.db again, at 15 ms a trial; no study may be running",
    )
    command.add_argument(
        "--accept", action="store_true", help="take study.json and records that were edited by hand as they are"
    )
    command.add_argument("--json", action="store_true", help="print choice, configs and effects as a list in JSON")
    return command


def main() -> int:
    """Run the command; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that no file stays half-written
    try:
        from study.folder import uncollected

        with uncollected():
            return _analyze(parser().parse_intermixed_args())
    except KeyboardInterrupt:
        return Exit.CTRL_C
    finally:
        gc.freeze()  # the end of the process visits nothing: with 10,000 records that saves three seconds


def _analyze(options: argparse.Namespace) -> int:
    from study.analyze.analysis import examine
    from study.analyze.analysis_json import as_json
    from study.analyze.drawing import draw
    from study.analyze.html import write_report
    from study.analyze.tables import rebuild
    from study.folder import Folder, FolderError, named

    tolerate_encoding()
    say = (lambda text: None) if options.json else emit  # nothing but JSON
    try:
        for folder in [Folder(named(path)) for path in options.studies]:
            for file in folder.accept_edits() if options.accept else ():
                say(f"{file} is accepted as it is")
            if options.rebuild:
                rebuild(folder)
        analyses = [examine(path) for path in options.studies]
        if options.json:
            emit(json.dumps([as_json(analysis) for analysis in analyses], indent=2))
        else:
            _print(analyses, options.rows)
        for analysis in analyses if options.figures else ():
            say(f"{draw(analysis)}\n{write_report(analysis)}")
    except FolderError as error:
        return fail(PROGRAM, str(error))
    except OSError as error:
        return fail(PROGRAM, f"{error.filename2 or error.filename or 'the output'}: {error.strerror or error}")
    return Exit.DONE


def _print(analyses: "list[Analysis]", rows: int) -> None:
    from study.analyze.report import comparison, report

    width = max(LEAST_WIDTH, shutil.get_terminal_size(PIPE).columns)
    for analysis in analyses:
        emit(report(analysis, rows, width))
    if len(analyses) > 1:
        emit(comparison(analyses, width))


if __name__ == "__main__":
    sys.exit(main())
