"""`python -m study.run --trials 50`: search for the config in which the mixture beats its baseline by most.

options --> study (new, or that of the folder) --> study.driver: data --> trials under Ray --> tables --> exit code

This module checks the options and imports neither torch nor Ray; `study.driver` does the work.
"""

from study.early import hold_signals

if __name__ == "__main__":
    hold_signals()  # before the rest is imported

import sys
from collections.abc import Sequence

from moe.console import Exit, fail
from study.definition import define
from study.guard import guarded
from study.options import PROGRAM, Options, parse
from study.search.resources import local
from study.search.stopping import Stop


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run the command; the exit code."""
    return guarded(PROGRAM, parse, _run, arguments)


def _run(options: Options, command: str, stop: Stop) -> Exit:
    if "://" not in options.results or options.dry_run:
        return _run_here(options, command, stop)
    from study.remote import copied  # fsspec

    with copied(options, stop) as end:
        return end(_run_here(options, command, stop))


def _run_here(options: Options, command: str, stop: Stop) -> Exit:
    request = define(options, command)
    here = options.replace(concurrency=1) if options.worker else options  # one trial in this process
    resources = local(here, request.study.space.resources) if options.address == "local" else None
    if request.before and not (options.dry_run or options.data or options.dataset or options.worker):
        from study.conclusion import conclude_finished  # pandas and Optuna

        if (code := conclude_finished(request)) is not None:
            return code
    from moe.data.cifar10 import missing  # numpy

    if problem := missing(request.study.data_folder):
        return fail(PROGRAM, problem)
    from study.driver import drive  # torch and Ray, once the options are checked

    return drive(request, resources, stop)


if __name__ == "__main__":
    sys.exit(main())
