"""`python -m study.confirm results/NAME`: fresh seeds and controls of the choice, scored once on the test images."""

import shlex
import sys
from collections.abc import Sequence

from moe.cli import refuse
from moe.config import NOTEBOOK
from moe.console import Exit, fail, tolerate_encoding, warn
from study.confirm.options import PROGRAM, ConfirmOptions, parse, parser
from study.folder import Folder, FolderError
from study.machine import ClusterError
from study.search.resources import local
from study.search.stopping import Stop, signals

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run the command; the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(words)
    stop = Stop()
    tolerate_encoding()
    try:
        with signals(stop):
            return _run(options, shlex.join([*PROGRAM.split(), *words]), stop)
    except (FolderError, ClusterError) as error:
        return fail(PROGRAM, str(error))
    except OSError as error:
        if not error.filename:
            raise
        return fail(PROGRAM, f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        warn(PROGRAM, "interrupted; nothing was run")
        return Exit.INTERRUPTED


def _run(options: ConfirmOptions, command: str, stop: Stop) -> Exit:
    study = Folder(options.folder).read_study()
    if study.protocol == NOTEBOOK:
        refuse(
            PROGRAM, f"study {study.name} has protocol notebook, whose trials used the test images; expected holdout"
        )
    if study.dataset == "shapes" and options.data:
        refuse(PROGRAM, f"--data is {options.data}; expected none: the study is on shapes, which are drawn by code")
    resources = local(options) if options.address == "local" else None
    from study.confirm.run import confirm  # torch and Ray, once the options are checked

    return confirm(options, study, resources, command, stop)


if __name__ == "__main__":
    sys.exit(main())
