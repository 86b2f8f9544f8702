"""`python -m study.run --trials 50`: search for the config in which the mixture beats its baseline by most.

options --> study (new, or that of the folder) --> study.driver: data --> trials under Ray --> tables --> exit code

This module checks the options and imports neither torch nor Ray; `study.driver` does the work.
"""

import shlex
import sys
from collections.abc import Sequence

from moe.console import Exit, fail, tolerate_lost_output
from study.definition import define, missing_data
from study.guard import guarded
from study.options import PROGRAM, Options, parse
from study.search.resources import local
from study.search.stopping import Stop


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run the command; the exit code."""
    tolerate_lost_output()
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(words)
    command = shlex.join([*PROGRAM.split(), *words])
    return guarded(PROGRAM, options.results, lambda stop: _run(options, command, stop))


def _run(options: Options, command: str, stop: Stop) -> Exit:
    request = define(options, command)
    resources = local(options) if options.address == "local" else None
    if request.before and not (options.dry_run or options.data or options.dataset):
        from study.conclusion import conclude_finished  # pandas and Optuna

        if (code := conclude_finished(request)) is not None:
            return code
    if problem := missing_data(request.study):
        return fail(PROGRAM, problem)
    from study.driver import drive  # torch and Ray, once the options are checked

    return drive(request, resources, stop)


if __name__ == "__main__":
    sys.exit(main())
